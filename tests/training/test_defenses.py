"""Defences on the victim's side: what they compute, where they sit, and what an attacker sees of
them.
"""

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med.attacks import Streams, Threat, View
from robustbench_med.attacks.pgd import pgd
from robustbench_med.errors import UserError
from robustbench_med.evaluation import cost
from robustbench_med.models import registry
from robustbench_med.models.defenses import INFERENCE, Defended
from robustbench_med.models.defenses.randomised import NoisyWeight, ResizePad, first_convolutions
from robustbench_med.models.defenses.transforms import BitDepth, Jpeg, Median, TotalVariation
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.threats import parameters_of
from robustbench_med.training import defenses
from robustbench_med.training.objective import objective

SHAPES = [(1, 32, 32), (1, 32, 32)]


def plan(model: str, text: str, **given) -> defenses.Plan:
    return defenses.plan(model, text, given, {})


def small(name: str, **given) -> nn.Module:
    return registry.build(
        name, (1, 1), (2, 3), {"width": 16 if name == "mail" else 4, **given}, image_size=32
    )


@pytest.mark.parametrize("transform", [Jpeg(), BitDepth(), Median(), TotalVariation()])
def test_input_transforms_change_the_forward_pass_and_leave_the_gradient_alone(transform) -> None:
    x = torch.rand(2, 1, 16, 16)
    torch.manual_seed(0)
    changed = transform(x)
    assert changed.shape == x.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert 1e-3 < float((changed - x).abs().mean()) < 0.3
    leaf = x.clone().requires_grad_()
    torch.manual_seed(0)
    attacked = transform(leaf)
    assert torch.equal(attacked.detach(), changed)
    weights = torch.randn_like(x)
    (gradient,) = torch.autograd.grad((attacked * weights).sum(), leaf)
    assert torch.equal(gradient, weights)  # the transform counts as the identity
    torch.manual_seed(1)
    assert torch.equal(transform(x), changed) != transform.stochastic


def test_transforms_are_what_they_say() -> None:
    x = torch.rand(3, 3, 8, 8)
    assert torch.allclose(BitDepth(bits=3)(x) * 7, (x * 7).round(), atol=1e-6)
    middle = Median(window=3)(x)[:, :, 1:-1, 1:-1]
    assert torch.equal(middle, x.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).median(4).values)
    smooth = torch.full((1, 1, 16, 16), 0.5)
    noisy = (
        smooth + 0.1 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    for transform in (Median(), TotalVariation()):
        assert (transform(noisy) - smooth).abs().mean() < 0.8 * (noisy - smooth).abs().mean()
    assert (Jpeg(quality=90)(noisy) - noisy).abs().mean() < (
        Jpeg(quality=10)(noisy) - noisy
    ).abs().mean()


def test_an_unaware_attacker_differentiates_the_bare_network_and_is_judged_by_the_defended_one() -> (
    None
):
    network = small("late").requires_grad_(False)
    x = [torch.rand(2, 1, 32, 32) for _ in range(2)]
    aware, unaware = (
        Defended(network, [BitDepth(bits=1, attack=attack)]) for attack in ("bpda", "unaware")
    )
    assert torch.equal(aware(*x)[0], unaware(*x)[0])
    assert not torch.allclose(aware(*x)[0], network(*x)[0], atol=1e-4)
    leaves = [m.clone().requires_grad_() for m in x]
    assert torch.equal(unaware(*leaves)[0].detach(), network(*x)[0])
    assert torch.equal(aware(*leaves)[0].detach(), aware(*x)[0])


class LinearVictim(nn.Module):
    n_modalities, class_counts, stochastic = 2, (2,), False

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(18, 2)

    def forward(self, *modalities: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.head(torch.cat([m.flatten(1) for m in modalities], 1)),)


def test_an_unaware_attack_does_not_stop_where_the_bare_network_falls() -> None:
    """Where both attackers see the same gradients they do the same: on a linear network, step by
    step.
    """
    chosen = {"model": ["late"], "attack": ["pgd"], "attack_params": {}}
    assert parameters_of("pgd", RunSpec(**chosen), stochastic=False, unaware=True)["keep"] == "last"
    assert parameters_of("pgd", RunSpec(**chosen), stochastic=False)["keep"] == "best"
    network = LinearVictim().requires_grad_(False)
    threat, start = (
        Threat("Linf", (0.1, 0.1), (0,)),
        torch.rand(6, 18, generator=torch.Generator().manual_seed(0)),
    )
    y, views = torch.zeros(6, 1, dtype=torch.int64), []
    for attack in ("bpda", "unaware"):
        view = View(Defended(network, [BitDepth(bits=3, attack=attack)]), [(1, 3, 3), (1, 3, 3)])
        streams = Streams(range(6))
        views.append(pgd(view, start, y, threat, streams, keep="last"))
    assert torch.equal(*views)


def test_numpys_global_randomness_is_left_alone_by_a_transform_that_draws() -> None:
    np.random.seed(3)
    expected = np.random.rand(3)
    np.random.seed(3)
    TotalVariation()(torch.rand(1, 1, 8, 8))
    assert np.array_equal(np.random.rand(3), expected)


def test_random_resizing_keeps_all_of_the_image_at_a_random_place_of_its_own_for_each_sample() -> (
    None
):
    torch.manual_seed(0)
    x = torch.ones(200, 1, 32, 32)
    y = ResizePad(smallest=0.8)(x)
    covered = y.sum((1, 2, 3)) / 32**2  # the area a shrunk image of ones keeps
    assert 0.8**2 - 0.02 < covered.min() < 0.7
    assert 0.95 < covered.max() <= 1
    column = torch.arange(32.0)
    centres = (y.sum((1, 2)) * column).sum(1) / y.sum((1, 2, 3))
    assert centres.std() > 0.5
    assert centres.mean() == pytest.approx(15.5, abs=0.3)


@pytest.mark.parametrize(
    ("model", "count"),
    [("late", 2), ("early", 1), ("mail", 2), ("drifa-net", 2), ("mmtm", 2), ("unimodal", 2)],
)
def test_random_filters_replace_a_quarter_of_the_first_convolution_of_every_modality(
    model: str, count: int
) -> None:
    victim = small(model, **({"mc_dropout": False} if model in ("mail", "drifa-net") else {}))
    shapes = SHAPES
    layers = first_convolutions(victim, shapes)
    assert len(layers) == count
    assert all(layer.in_channels == sum(c for c, _, _ in shapes) // count for layer in layers)
    before = cost.parameters(victim)
    defenses.harden(victim, plan("late", "rpf").training, shapes)
    assert victim.stochastic
    first = layers[0]
    n = first.out_channels // 4
    assert before - cost.parameters(victim) == sum(n * layer.weight[0].numel() for layer in layers)
    drawn = torch.stack([first.weight.detach() for _ in range(300)])
    assert (drawn.std(0)[:-n] == 0).all()
    assert drawn[:, -n:].std() == pytest.approx(1 / first.kernel_size[0], rel=0.05)


def test_parametric_noise_is_as_large_as_alpha_times_the_weights_deviation_and_alpha_learns() -> (
    None
):
    layer = nn.Linear(64, 64)
    noisy = NoisyWeight()
    drawn = torch.stack([noisy(layer.weight) - layer.weight for _ in range(50)])
    assert drawn.std().item() == pytest.approx(0.25 * layer.weight.std().item(), rel=0.02)
    drawn.square().sum().backward()
    assert noisy.alpha.grad is not None
    assert noisy.alpha.grad > 0


@pytest.mark.parametrize(
    ("model", "text"),
    [("gmu", "man"), ("mmtm", "man"), ("drifa-net", "man"), ("late", "pni"), ("drifa-net", "rpf")],
)
def test_network_defences_make_the_victim_random_and_load_their_weights_again(
    model: str, text: str
) -> None:
    given = {"mc_dropout": False} if model == "drifa-net" else {}
    victim, again = small(model, **given), small(model, **given)
    for v in (victim, again):
        defenses.harden(v, plan(model, text).training, SHAPES)
    x = [torch.rand(2, 1, 32, 32) for _ in range(2)]
    assert victim.stochastic
    assert not torch.equal(victim(*x)[0], victim(*x)[0])
    again.load_state_dict(victim.state_dict())
    torch.manual_seed(0)
    expected = victim(*x)[0]
    torch.manual_seed(0)
    assert torch.equal(again(*x)[0], expected)


def test_attention_noise_needs_gates() -> None:
    with pytest.raises(ValueError, match="this model has none; mail, drifa-net, gmu and mmtm do"):
        defenses.harden(small("late"), plan("late", "man").training, SHAPES)
    alone = registry.build("gmu", (1,), (2, 3), {"width": 4}, image_size=32)  # its gates are one
    with pytest.raises(ValueError, match="this model has none"):
        defenses.harden(alone, plan("gmu", "man").training, SHAPES[:1])


def test_a_wrapped_victim_keeps_the_contract() -> None:
    network = small("late")
    for name in INFERENCE:
        victim = defenses.wrap(network, plan("late", name).inference)
        x = [torch.rand(2, 1, 32, 32) for _ in range(2)]
        assert [tuple(z.shape) for z in victim(*x)] == [(2, 2), (2, 3)]
        assert (victim.n_modalities, victim.class_counts) == (2, (2, 3))
        assert victim.stochastic != torch.equal(victim(*x)[0], victim(*x)[0])
    assert defenses.wrap(network, ()) is network


def test_defences_of_mail_are_the_papers_networks_and_chains_keep_one_order() -> None:
    assert plan("mail", "rpf") == defenses.Plan("mail+rpf")
    assert plan("mail", "rpf+man") == plan("mail", "robust-mail") == defenses.Plan("robust-mail")
    assert plan("mail", "rpf+man", ratio=0.5, noise=0.1) == defenses.Plan(
        "robust-mail", params={"rpf_ratio": 0.5, "noise": 0.1}
    )
    assert plan("mail", "man+pgd-at", noise=1).params == {"noise": 1.0}
    assert plan("late", "rpf", ratio=0.5).params == {}  # a layer's there
    assert plan("mail", "man+pgd-at").name == "mail+man+pgd-at"
    assert plan("late", "rpf").model == "late"
    assert plan("late", "pgd-at+pni") == plan("late", "pni+pgd-at")
    assert [layer.name for layer in plan("late", "jpeg+trades+awp").training] == ["trades", "awp"]
    assert [layer.name for layer in plan("late", "median+jpeg").inference] == ["median", "jpeg"]
    assert plan("late", "jpeg", attack="unaware").name == "late+jpeg (unaware attack)"
    smoothing = plan("late", "smoothing", sigma=0.5)
    assert smoothing.training == smoothing.inference
    assert [layer["params"] for layer in smoothing.layers] == [{"sigma": 0.5}]


@pytest.mark.parametrize(
    ("model", "text", "given", "message"),
    [
        ("late", "pgd", {}, "unknown defence 'pgd'; did you mean pgd-at"),
        ("late", "pgd-at+trades", {}, "two training objectives"),
        ("late", "awp", {}, "awp goes on top"),
        ("late", "free-at+awp", {}, "awp goes on top"),
        ("late", "smoothing+mart", {}, "does not combine with mart"),
        ("late", "robust-mail", {}, "a defence of mail alone"),
        ("robust-mail", "rpf", {}, "choose mail with --defense rpf"),
        ("late", "jpeg+jpeg", {}, "names one twice"),
        ("late", "jpeg", {"beta": 6}, "has no parameter 'beta'; it has: jpeg: quality, attack"),
        ("late", "jpeg", {"quality": "best"}, "quality must be of type int"),
    ],
)
def test_a_faulty_defence_is_one_line(model, text, given, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan(model, text, **given)
    assert "\n" not in str(caught.value)


def test_bad_parameters_are_refused_before_any_work() -> None:
    with pytest.raises(UserError, match=r"quality must lie in 1\.\.95"):
        defenses.transforms(plan("late", "jpeg", quality=100).inference)
    for text, given, message in (
        ("pgd-at", {"attacked": "some"}, "attacked must be"),
        ("pgd-at", {"norm": "L1"}, "norm must be"),
        ("pgd-at", {"eps": "x"}, "eps must be"),
        ("pgd-at", {"eps": "a=0,b=0"}, "eps is 0 in every modality"),
        ("trades", {"beta": -6}, "beta must not be negative"),
        ("pgd-at+awp", {"gamma": -1}, "gamma must be positive"),
        ("smoothing", {"sigma": 0}, "sigma must be positive"),
    ):
        with pytest.raises(UserError, match=message):
            objective(plan("late", text, **given).training, SHAPES, ("a", "b"), 0)
