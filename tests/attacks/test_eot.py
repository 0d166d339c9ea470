"""Attacks on random victims: how the draws' gradients are combined, soft gradients, and what `pgd`
does by default.
"""

import contextlib

import pytest
import torch
from support.attacking import attack
from support.victims import TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import RefusedError, Threat, View, complete
from robustbench_med.attacks.pgd import RANDOM, decayed
from robustbench_med.models.defenses import NETWORK, Defended
from robustbench_med.models.registry import build
from robustbench_med.models.soft import clip, soft_gradients


class Loud(nn.Module):
    """A random linear victim of one modality and two classes. Most draws see the planted direction
    in the pixels, at a tiny scale; every fifth sees a random one, hundreds of times as loud.
    """

    n_modalities, class_counts, stochastic, shares_noise = 1, (2,), True, True
    shapes = ((1, 6, 6),)

    def __init__(self) -> None:
        super().__init__()
        self.planted = torch.randn(36, generator=torch.Generator().manual_seed(1)).sign()
        self.calls = 0

    def forward(self, a: Tensor) -> tuple[Tensor]:
        self.calls += 1
        pixels = a.flatten(1) - 0.5
        if self.calls % 5 == 0:
            noise = torch.randn(36, generator=torch.Generator().manual_seed(self.calls)).sign()
            margin = 300 * pixels @ noise
        else:
            margin = pixels @ self.planted
        return (torch.stack((margin, -margin), 1),)


def loud() -> tuple[View, Tensor, Tensor]:
    """The victim, 16 samples that the planted direction classifies by a margin, and their class."""
    view = View(Loud(), Loud.shapes, draws=20)
    noise = 0.1 * torch.rand(16, 36, generator=torch.Generator().manual_seed(0))
    return view, 0.5 + 0.02 * view.victim.planted + noise - 0.05, torch.zeros(16, 1).long()


def test_the_normalised_combination_is_the_mean_of_unit_gradients_per_sample_and_modality(
    batch,
) -> None:
    class Scaled(TwoHeads):
        calls = 0

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            self.calls += 1
            scale = 10.0 ** (self.calls % 4)
            return tuple(scale * z for z in super().forward(a + 0.1 * self.calls, b))

    view, threat = View(Scaled().eval(), TwoHeads.shapes), Threat("Linf", (0.1, 0.1), (0, 1))
    x, y = view.pack(batch[0]), batch[1]
    singles = [view.gradient(x, y, threat, loss="margin").direction for _ in range(4)]
    view.victim.calls = 0
    together = view.gradient(x, y, threat, loss="margin", eot=4, combine="normalised").direction
    for segment in view.segments:
        part = slice(segment.start, segment.stop)
        units = [single[:, part] / single[:, part].norm(dim=1, keepdim=True) for single in singles]
        assert torch.allclose(together[:, part], sum(units) / 4, atol=1e-6)
    view.victim.calls = 0
    mean = view.gradient(x, y, threat, loss="margin", eot=4).direction
    assert torch.allclose(mean, sum(singles) / 4, rtol=1e-4, atol=1e-4)
    assert view.passes.backward == 12 * len(x)


def test_draws_that_share_a_batch_are_normalised_one_by_one(batch) -> None:
    x, y, threat = View(TwoHeads().eval(), TwoHeads.shapes).pack(batch[0]), batch[1], THREAT
    one, four = (
        View(TwoHeads().eval(), TwoHeads.shapes, batch_draws=n).gradient(
            x, y, threat, eot=4, combine="normalised"
        )
        for n in (1, 4)
    )
    assert torch.allclose(one.direction, four.direction, atol=1e-6)


def test_a_draw_without_a_finite_gradient_spoils_no_other_draw(batch) -> None:
    class Sometimes(TwoHeads):
        calls = 0

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            self.calls += 1
            return super().forward(a * torch.inf if self.calls == 2 else a, b)

    view = View(Sometimes().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0]).clamp_min(1e-3), batch[1]
    found = view.gradient(x, y, THREAT, loss="margin", eot=2, combine="normalised").direction
    alone = view.gradient(x, y, THREAT, loss="margin", combine="normalised").direction
    assert torch.allclose(2 * found[:, :64], alone[:, :64], atol=1e-6)
    assert view.nonfinite_gradients == len(x)


THREAT = Threat("Linf", (0.1, 0.1), (0, 1))


@pytest.mark.parametrize("name", ["pgd", "mim", "apgd"])
def test_loud_draws_hide_the_way_from_the_mean_and_not_from_normalised_gradients(name) -> None:
    left = {}
    for combine in ("mean", "normalised"):
        view, x, y = loud()
        threat = Threat("Linf", (0.05,), (0,))
        found = attack(name, view, x, y, threat, loss="margin", eot=5, combine=combine)
        view.victim.calls = 0
        left[combine] = float(view.standing(found, y, threat).mean())
    # 16 of 20 draws see the planted direction; of the loud ones about half are wrong anyway
    assert left["normalised"] < 0.4
    assert left["mean"] > left["normalised"] + 0.2


def test_a_cosine_schedule_shrinks_the_steps_to_nothing() -> None:
    assert [round(decayed(i, 4), 4) for i in range(4)] == [1.0, 0.8536, 0.5, 0.1464]
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x = 0.3 + 0.4 * torch.rand(16, view.dim, generator=torch.Generator().manual_seed(2))
    y = torch.stack([z.argmax(1) for z in view.logits(x)], 1)
    far = Threat("Linf", (0.2, 0.1), (0, 1))
    given = {"steps": 1, "step_size": 0.25, "random_start": False, "keep": "last"}
    once = attack("pgd", view, x, y, far, **given, schedule="cosine")
    assert torch.equal(once, attack("pgd", view, x, y, far, **given))
    given["steps"] = 2
    twice = attack("pgd", view, x, y, far, **given, schedule="cosine") - once
    assert torch.allclose(twice[:, :64].abs().amax(1), torch.tensor(0.2 * 0.25 / 2), atol=1e-6)


def test_against_random_victims_pgd_has_other_defaults_and_goes_as_far_with_other_steps() -> None:
    usual = complete("pgd", {}, random=True)
    assert {key: usual[key] for key in RANDOM} == RANDOM
    assert usual["step_size"] == 0.5
    assert complete("pgd", {"steps": 50}, random=True)["step_size"] == pytest.approx(0.2)
    assert complete("pgd", {"loss": "ce"}, random=True)["loss"] == "ce"
    assert complete("apgd", {}, random=True) == complete("apgd", {})
    assert complete("pgd", {})["combine"] == "mean"


@pytest.mark.parametrize("wrong", [{"momentum": -0.1}, {"momentum": 1.5}, {"combine": "median"}])
def test_values_that_pgd_cannot_take_are_named(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        complete("pgd", wrong)


def test_a_soft_clip_keeps_its_values_and_passes_a_gradient_where_the_clip_has_none() -> None:
    x = torch.tensor([-2.0, -0.1, 0.0, 0.3, 0.5, 1.0, 1.4], requires_grad=True)
    (hard,) = torch.autograd.grad(clip(x).sum(), x)
    with soft_gradients():
        value = clip(x)
        (soft,) = torch.autograd.grad(value.sum(), x)
    assert torch.equal(value, x.clamp(0, 1))
    assert hard[[0, 1, 6]].abs().sum() == 0
    assert (soft > 0).all()
    assert soft[4] == pytest.approx(1.0)
    gate = torch.sigmoid(8 * (x.detach() - 0.5))
    assert torch.allclose(soft, 4 * gate * (1 - gate))


def robust_mail() -> nn.Module:
    torch.manual_seed(0)
    return build("robust-mail", [1, 1], [2, 2], {"width": 16}, image_size=32).eval()


def mail_with_gates() -> nn.Module:
    torch.manual_seed(0)
    victim = build("gmu", [1, 1], [2, 2], {"width": 16}, image_size=32).eval()
    NETWORK["man"](victim, [(1, 32, 32)] * 2, noise=0.6)
    return victim


@pytest.mark.parametrize("make", [robust_mail, mail_with_gates])
@pytest.mark.parametrize("behind", [False, True])
def test_soft_gradients_of_a_victim_differ_and_its_logits_do_not(make, behind) -> None:
    victim = make()
    if behind:
        victim = Defended(victim, [])
    for parameter in victim.parameters():
        parameter.requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    images = [torch.rand(3, 1, 32, 32, generator=generator) for _ in range(2)]
    logits, gradients = [], []
    for context in (contextlib.nullcontext(), victim.soft()):
        x = images[0].clone().requires_grad_()
        torch.manual_seed(7)
        with context:
            z = victim(x, images[1])
            (gradient,) = torch.autograd.grad((z[0][:, 0] - z[1][:, 1]).sum(), x)
        logits.append(z)
        gradients.append(gradient)
    assert all(torch.equal(a, b) for a, b in zip(*logits, strict=True))
    assert not torch.allclose(*gradients, rtol=1e-2, atol=0)


def test_soft_gradients_are_asked_for_only_where_a_victim_has_them(batch) -> None:
    class Soft(TwoHeads):
        entered = 0

        @contextlib.contextmanager
        def soft(self):
            type(self).entered += 1
            yield

    x = View(TwoHeads().eval(), TwoHeads.shapes).pack(batch[0])
    bare, soft = (View(kind().eval(), TwoHeads.shapes) for kind in (TwoHeads, Soft))
    weak = Threat("Linf", (1e-4, 1e-4), (0, 1))
    with pytest.raises(RefusedError, match="soft"):
        attack("pgd", bare, x, batch[1], weak, soft=True)
    attack("pgd", bare, x, batch[1], weak, restarts=2)
    attack("pgd", soft, x, batch[1], weak)
    assert Soft.entered == 0
    attack("pgd", soft, x, batch[1], weak, restarts=4)
    assert Soft.entered == 2
    attack("pgd", soft, x, batch[1], weak, soft=True)
    assert Soft.entered == 3
    attack("apgd", soft, x, batch[1], weak, steps=2)
    attack("apgd", bare, x, batch[1], weak, steps=2, restarts=2)
    attack("apgd", soft, x, batch[1], weak, steps=2, restarts=3)
    assert Soft.entered == 4
