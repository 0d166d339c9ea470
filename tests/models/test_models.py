"""Victims: the contract, the mechanisms of Robust-MAIL, and what MAIL does beyond two
modalities.
"""

import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dct

from robustbench_med.models import registry
from robustbench_med.models.mail import EMCAM, MAIL, same_padding, shuffle_channels
from robustbench_med.models.robust_mail import RobustMAIL, RPFConv2d, modulate, random_count

SMALL = {name: {"width": 16 if "mail" in name else 4} for name in registry.MODELS}


@pytest.mark.parametrize("channels", [(1,), (1, 3), (3, 1, 1)])
@pytest.mark.parametrize("name", registry.MODELS)
def test_the_contract_of_a_victim(name: str, channels: tuple[int, ...]) -> None:
    classes = (2, 5)
    victim = registry.build(name, channels, classes, SMALL[name], image_size=32)
    x = [torch.rand(3, c, 32, 32) for c in channels]
    logits = victim(*x)
    assert [tuple(z.shape) for z in logits] == [(3, 2), (3, 5)]
    assert victim.n_modalities == len(channels)
    assert victim.class_counts == classes
    differs = any(not torch.equal(a, b) for a, b in zip(victim(*x), logits, strict=True))
    assert differs == victim.stochastic


@pytest.mark.parametrize(
    ("given", "stochastic"),
    [
        ({"mc_dropout": True, "rpf_ratio": 0.0, "noise": 0.0}, True),
        ({"mc_dropout": False, "rpf_ratio": 0.25, "noise": 0.0}, True),
        ({"mc_dropout": False, "rpf_ratio": 0.0, "noise": 0.6}, True),
        ({"mc_dropout": False, "rpf_ratio": 0.0, "noise": 0.0}, False),
    ],
)
def test_stochastic_tells_the_truth(given, stochastic) -> None:
    victim = RobustMAIL((1, 1), (3, 2), width=32, bn_momentum=1.0, **given)
    x = [torch.rand(4, 1, 32, 32) for _ in range(2)]
    victim.train()(*x)  # statistics for BatchNorm: without them the signal fades below rounding
    victim.eval()
    assert victim.stochastic == stochastic
    assert torch.equal(victim(*x)[0], victim(*x)[0]) != stochastic


def test_unknown_parameters_and_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="it has: width, groups"):
        registry.build("mail", (1,), (2,), {"depth": 3}, image_size=32)
    with pytest.raises(ValueError, match="multiple of groups"):
        MAIL((1,), (2,), width=20)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8, 32])
def test_same_padding_keeps_ceil_of_size_over_stride(size: int, stride: int) -> None:
    for kernel in (1, 3, 5, 7):
        before, after = same_padding(size, kernel, stride)
        assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
        assert after - before in (0, 1)


def test_the_channel_shuffle_is_shufflenets() -> None:
    x = torch.rand(2, 12, 3, 5)
    expected = x.view(2, 4, 3, 3, 5).transpose(1, 2).reshape(2, 12, 3, 5)
    assert torch.equal(shuffle_channels(x, 4), expected)


def test_the_frequency_basis_is_the_orthonormal_dct_along_channels() -> None:
    x = torch.randn(2, 16, 3, 3)
    ours = F.conv2d(x, EMCAM(16, 2, groups=16).dct)
    assert torch.allclose(
        ours, torch.from_numpy(dct(x.numpy(), type=2, norm="ortho", axis=1)), atol=1e-6
    )


def test_one_modality_drops_the_cross_terms_of_the_spatial_branch() -> None:
    fusion = EMCAM(16, 1, groups=16)
    x = torch.randn(2, 16, 4, 4)
    p = fusion.pooled_scales(x)
    assert torch.allclose(
        fusion.spatial([x]), torch.sigmoid((p + fusion.pooled_scales(p)) * fusion.s[0])
    )


def test_three_modalities_are_a_chain_in_the_spatial_branch() -> None:
    fusion = EMCAM(16, 3, groups=16)
    with torch.no_grad():
        for k, s in enumerate(fusion.s):
            s.fill_(k + 1.0)
    xs = [torch.randn(2, 16, 4, 4) for _ in range(3)]
    pool = fusion.pooled_scales
    first, second, third = map(pool, xs)
    first = first + pool(first) + second
    second = second + pool(second) + first
    third = third + pool(third) + second
    assert torch.allclose(fusion.spatial(xs), torch.sigmoid(first + 2 * second + 3 * third))


@pytest.mark.parametrize("channels", [(1, 1), (1, 3, 1)])
def test_each_modality_reaches_each_task_through_the_fusion_but_not_without_it(channels) -> None:
    for name, reaches in (("mail", True), ("late", True), ("unimodal", False)):
        given = SMALL[name] | ({"mc_dropout": False} if name == "mail" else {})
        victim = registry.build(name, channels, (2,) * len(channels), given, image_size=32)
        x = [torch.rand(2, c, 32, 32) for c in channels]
        before = victim(*x)
        x[0] = torch.rand_like(x[0])
        after = victim(*x)
        assert not torch.allclose(before[0], after[0])
        assert torch.equal(before[-1], after[-1]) != reaches


def test_random_filters_are_drawn_at_every_pass_with_variance_one_over_k_squared_and_never_trained() -> (
    None
):
    layer = RPFConv2d(64, 64, 3, stride=1, groups=64, n_random=16)
    assert sum(p.numel() for p in layer.parameters()) == 48 * (9 + 1)
    x = torch.zeros(1, 64, 5, 5)
    x[:, :, 2, 2] = 1
    drawn = torch.stack([layer(x)[0, 48:, 1:4, 1:4] for _ in range(200)]).detach()
    assert drawn.std() == pytest.approx(1 / 3, rel=0.02)
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert torch.equal(layer(x)[0, :48], layer(x)[0, :48])


@pytest.mark.parametrize(
    ("c", "ratio", "count"),
    [(16, 0.25, 0), (32, 0.25, 16), (64, 0.25, 16), (128, 0.25, 32), (64, 0.0, 0), (32, 0.9, 16)],
)
def test_random_filters_come_in_whole_groups(c: int, ratio: float, count: int) -> None:
    assert random_count(c, ratio, 16) == count


def test_modulated_noise_has_mean_of_its_variance_inside_the_clip() -> None:
    n = 0.1 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert modulate(torch.full_like(n, 0.5), n).mean() == pytest.approx(0.5 + 0.01, abs=1e-3)
    assert modulate(torch.tensor([-3.0, 3.0]), torch.zeros(2)).tolist() == [0, 1]


def test_warm_up_ends_at_the_released_formula_and_starts_without_gates_and_noise() -> None:
    victim = RobustMAIL((1, 1), (3, 2), width=16, mc_dropout=False, rpf_ratio=0.0).eval()
    x = [torch.rand(2, 1, 32, 32) for _ in range(2)]

    def once() -> torch.Tensor:
        torch.manual_seed(0)
        return victim(*x)[0]

    released = once()
    victim.warm_up(0.0)
    assert torch.equal(victim(*x)[0], victim(*x)[0])
    block = victim.blocks[0][0].e1
    h = torch.rand(1, 16, 8, 8)
    assert torch.allclose(block(h), block.multi_scale(h))
    victim.warm_up(1.0)
    assert torch.equal(once(), released)


def test_the_extra_l2_is_on_the_trained_filters_of_the_three_kernels() -> None:
    victim = RobustMAIL((1,), (2,), width=16)
    layers = [m for m in victim.modules() if isinstance(m, RPFConv2d)]
    assert len(layers) == 8 * 2 * 3
    assert float(victim.penalty().detach()) == pytest.approx(
        1e-4 * sum(float((m.weight**2).sum().detach()) for m in layers), rel=1e-4
    )


def test_the_ablations_have_one_mechanism_each() -> None:
    x = [torch.rand(2, 1, 32, 32) for _ in range(2)]
    given = {"width": 32, "mc_dropout": False}
    layers = {}
    for name in ("mail", "mail+rpf", "mail+man", "robust-mail", "robust-mail-release"):
        victim = registry.build(name, (1, 1), (2, 3), given, image_size=32)
        modules = list(victim.modules())
        layers[name] = (
            sum(layer.n_random for layer in modules if isinstance(layer, RPFConv2d)),
            sum(
                getattr(m, "noise", 0) > 0 and getattr(m, "man", True)
                for m in modules
                if not isinstance(m, RobustMAIL)
            ),
        )
        assert victim.stochastic == (name != "mail")
        victim(*x)
    assert layers["mail"] == (0, 0)
    assert layers["mail+rpf"] == (layers["robust-mail"][0], 0)
    assert layers["mail+man"] == layers["robust-mail-release"] == (0, layers["robust-mail"][1])
    assert min(layers["robust-mail"]) > 0


def test_mail_with_man_alone_has_the_weights_of_mail_and_one_scalar_a_fusion_stage() -> None:
    mail, ablated = (
        registry.build(n, (1, 1), (2, 3), {"width": 16}, image_size=32).state_dict()
        for n in ("mail", "mail+man")
    )
    assert ablated.keys() - mail.keys() == {f"fuse.{k}.v" for k in range(4)}
    assert mail.keys() <= ablated.keys()
