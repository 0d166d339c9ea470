"""Models on clinical tables and on samples that miss a modality."""

import pytest
import torch
from torch import nn

from robustbench_med.models import registry
from robustbench_med.models.defenses import INFERENCE, Defended
from robustbench_med.models.tables import StandIns, present

ENCODING = ["early", "late", "gmu", "mmtm", "lmf", "cross-attention", "unimodal"]
IMAGES_ALONE = sorted(set(registry.MODELS) - set(ENCODING))


def build(name: str, *, tables=(2,), optional=()) -> nn.Module:
    return registry.build(
        name,
        (1, 1, 7),
        (4, 2, 2),
        {"width": 4},
        image_size=32,
        tables=tables,
        optional=optional,
    )


def batch(n: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 32, 32), (1, 32, 32), (7, 1, 1))
    return [torch.rand(n, *shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("name", ENCODING)
def test_fusion_models_encode_a_table_and_a_gradient_reaches_it(name: str) -> None:
    victim, x = build(name), batch()
    x[2].requires_grad_()
    logits = victim(*x)
    assert [tuple(z.shape) for z in logits] == [(4, 4), (4, 2), (4, 2)]
    (gradient,) = torch.autograd.grad(sum(z.square().sum() for z in logits), x[2])
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", IMAGES_ALONE)
def test_the_others_refuse_a_table_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=r"images alone.*late"):
        build(name)


@pytest.mark.parametrize("name", ENCODING)
def test_a_table_may_come_first_or_alone(name: str) -> None:
    victim = registry.build(name, (7, 1), (3, 2), {"width": 4}, image_size=32, tables=(0,))
    assert victim(torch.rand(2, 7, 1, 1), torch.rand(2, 1, 32, 32))[0].shape == (2, 3)
    alone = registry.build(name, (7,), (3,), {"width": 4}, image_size=32, tables=(0,))
    assert alone(torch.rand(2, 7, 1, 1))[0].shape == (2, 3)


def test_without_tables_and_missing_modalities_the_weights_are_those_of_before() -> None:
    victim = registry.build("late", (1, 1), (4,), {"width": 4}, image_size=32)
    names = {name.partition(".")[0] for name in victim.state_dict()}
    assert names == {"encoders", "heads"}


@pytest.mark.parametrize("name", ["late", "gmu", "lmf", "mmtm", "early"])
def test_what_stands_in_for_a_missing_image_is_the_mean_of_those_that_were_there(name: str) -> None:
    victim = registry.build(name, (1, 1), (4,), {"width": 4}, image_size=32, optional=(1,))
    stand_ins, x = victim.stand_ins, batch()[:2]
    assert isinstance(stand_ins, StandIns)
    x[1][::2] = 0
    victim.train()(*x)
    victim.train()(*x)
    assert torch.allclose(stand_ins.mean(1), x[1][1::2].mean(0), atol=1e-6)
    victim.eval()
    filled = x[1].clone()
    filled[::2] = stand_ins.mean(1)
    told = {"present": present(x)} if name in ("late", "gmu", "lmf") else {}
    hooks = dict(victim._forward_pre_hooks)
    got = victim(*x)[0]
    victim._forward_pre_hooks.clear()
    victim._forward_pre_hooks_with_kwargs.clear()
    assert torch.allclose(got, victim(x[0], filled, **told)[0], atol=1e-6)
    assert hooks


def test_the_features_of_what_is_missing_are_learned_and_carry_no_gradient_to_the_image() -> None:
    victim, x = build("late", optional=(0, 2)), batch()
    x[0][1] = 0
    x[2][0] = 0
    for m in (0, 2):
        x[m].requires_grad_()
    logits = victim(*x)
    gradients = torch.autograd.grad(
        sum(z.square().sum() for z in logits), [x[0], x[2], *victim.absent.parameters()]
    )
    assert not gradients[0][1].any()
    assert gradients[0][0].any()
    assert not gradients[1][0].any()
    assert gradients[1][1].any()
    assert all(g.any() for g in gradients[2:])
    before = [z[1] for z in victim(*[m.detach() for m in x])]
    with torch.no_grad():
        victim.stand_ins.mean(0).fill_(0.7)  # the mask says it all: the mean plays no part
    for z, old in zip(victim(*[m.detach() for m in x]), before, strict=True):
        assert torch.allclose(z[1], old, atol=1e-5)


def test_input_transforms_leave_tables_and_what_is_missing_as_they_are() -> None:
    network, x = build("late", optional=(0,)), batch()
    x[0][1] = 0
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda module, args: seen.extend(args))
    Defended(network, [INFERENCE["input-noise"](sigma=0.2)]).eval()(*x)
    noisy = dict(enumerate(seen[-3:]))
    assert torch.equal(noisy[2], x[2])
    assert not torch.equal(noisy[1], x[1])
    assert torch.equal(noisy[0][1], network.stand_ins.mean(0))  # as the network's own hook fills it
