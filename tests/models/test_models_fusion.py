"""Fusion baselines: the encoders, and the one property that makes each model what its paper says it
is.
"""

import pytest
import torch

from robustbench_med.evaluation import cost
from robustbench_med.models import encoders, registry
from robustbench_med.models.fusion import GMU, LMF, MMTM, CrossAttention, EarlyFusion, LateFusion


@pytest.mark.parametrize("name", encoders.ENCODERS)
@pytest.mark.parametrize("size", [28, 32, 64])
def test_every_encoder_keeps_more_than_one_position_and_tells_its_channels(
    name: str, size: int
) -> None:
    encoder = encoders.build(name, 1, width=8, image_size=size).eval()
    x = torch.rand(2, 1, size, size)
    found = []
    for k in range(4):
        x = encoder.stage(k, x)
        found.append(x.shape[1])
    assert found == encoder.channels
    assert min(x.shape[2:]) >= 2
    again = torch.rand(2, 1, size, size)
    assert torch.allclose(
        encoder(again), encoders.feature_map(encoder, again).mean((2, 3)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18", 11.7),
        ("resnet50", 25.6),
        ("densenet121", 8.0),
        ("efficientnet-b0", 5.3),
        ("vit", 5.7),
    ],
)
def test_encoders_of_the_usual_width_have_the_published_number_of_parameters(
    name: str, published: float
) -> None:
    """In millions, with ImageNet's head of 1000 classes, as the papers count."""
    with torch.device("meta"):
        encoder = encoders.build(name, 3, width=64, image_size=224)
    unused = sum(
        p.numel() for n, p in encoder.named_parameters() if "norm_cross_attn" in n
    )  # MONAI declares, never uses
    head = (encoder.channels[-1] + 1) * 1000
    assert (cost.parameters(encoder) - unused + head) / 1e6 == pytest.approx(published, abs=0.06)


@pytest.mark.parametrize("size", [28, 96, 224])
def test_pixel_sizes_from_28_to_224(size: int) -> None:
    for name in encoders.ENCODERS:
        victim = registry.build(
            "late", (1, 3), (2, 3), {"encoder": name, "width": 4}, image_size=size
        )
        with torch.no_grad():
            assert [
                tuple(z.shape)
                for z in victim(torch.rand(1, 1, size, size), torch.rand(1, 3, size, size))
            ] == [(1, 2), (1, 3)]


def test_unknown_encoders_and_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="known: resnet18"):
        LateFusion((1,), (2,), encoder="resnet19")
    with pytest.raises(ValueError, match="even and at least 4"):
        LateFusion((1,), (2,), width=5)


@pytest.mark.parametrize("encoder", encoders.ENCODERS)
def test_a_baseline_takes_every_encoder_and_sends_gradients_to_every_modality(encoder: str) -> None:
    for name in ("mmtm", "cross-attention"):
        victim = registry.build(
            name, (1, 1), (2, 2), {"encoder": encoder, "width": 4}, image_size=32
        )
        x = [torch.rand(2, 1, 32, 32, requires_grad=True) for _ in range(2)]
        gradients = torch.autograd.grad(victim(*x)[0].sum(), x)
        assert all(g.abs().max() > 0 for g in gradients)


def test_early_fusion_mixes_pixels_a_further_modality_costs_one_more_input_channel() -> None:
    two, three = (EarlyFusion((1,) * m, (2, 3), width=8, image_size=64) for m in (2, 3))
    assert cost.parameters(three) - cost.parameters(two) == 8 * 7 * 7


def test_late_fusion_adds_what_each_modality_says() -> None:
    """z(a, b) - z(a', b) does not depend on b: nothing multiplies across modalities."""
    victim = LateFusion((1, 1), (3,), width=4, image_size=32).eval()
    a, a2, b, b2 = torch.rand(4, 2, 1, 32, 32)
    assert torch.allclose(
        victim(a, b)[0] - victim(a2, b)[0], victim(a, b2)[0] - victim(a2, b2)[0], atol=1e-5
    )
    fused = registry.build("gmu", (1, 1), (3,), {"width": 4}, image_size=32)
    assert not torch.allclose(
        fused(a, b)[0] - fused(a2, b)[0], fused(a, b2)[0] - fused(a2, b2)[0], atol=1e-4
    )


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_gates_of_gmu_lie_between_zero_and_one_and_sum_to_one(m: int) -> None:
    victim = GMU((1,) * m, (2,), width=4, image_size=32)
    features = [torch.randn(5, 32) for _ in range(m)]
    z = victim.gates(features)
    assert z.shape == (5, m, 32)
    assert ((z > 0) & (z <= 1)).all()
    assert torch.allclose(z.sum(1), torch.ones(5, 32), atol=1e-6)
    if m == 2:  # equation 3 of the paper
        assert torch.allclose(z[:, 0], torch.sigmoid(torch.cat(features, 1) @ victim.gate.weight.T))


def test_mmtm_sees_the_other_modality_through_its_mean_alone_and_is_the_identity_without_excitation() -> (
    None
):
    module = MMTM(6, 2)
    a, b = torch.randn(2, 6, 4, 4), torch.randn(2, 6, 3, 5)
    shuffled = b.flatten(2)[:, :, torch.randperm(15)].unflatten(2, (3, 5))
    assert torch.allclose(module([a, b])[0], module([a, shuffled])[0], atol=1e-6)
    assert not torch.allclose(module([a, b])[0], module([a, b + 1])[0], atol=1e-3)
    gain = module([a, b])[0] / a
    assert torch.allclose(
        gain, gain[:, :, :1, :1].expand_as(gain), atol=1e-4
    )  # one factor a channel
    for excite in module.excite:
        torch.nn.init.zeros_(excite.weight)
        torch.nn.init.zeros_(excite.bias)
    assert all(torch.equal(x, y) for x, y in zip(module([a, b]), [a, b], strict=True))


def test_lmf_is_tensor_fusion_with_a_weight_of_low_rank_and_any_weight_at_full_rank() -> None:
    victim = LMF((1, 1), (2,), width=4, image_size=32, rank=33)
    d = 32
    a, b = torch.randn(3, d), torch.randn(3, d)
    a1, b1 = (torch.cat((x, torch.ones(3, 1)), 1) for x in (a, b))
    weight = torch.randn(d + 1, d + 1, d) / d
    victim.factors[0].data = (
        torch.eye(d + 1)[:, :, None].expand(-1, -1, d).clone()
    )  # rank r picks row r of the weight
    victim.factors[1].data = weight.clone()
    expected = torch.einsum(
        "bi,bj,ijo->bo", a1, b1, weight
    )  # the outer product of equation 1, times the whole tensor
    assert torch.allclose(victim.combine([a, b]), expected, atol=1e-4)


def test_cross_attention_takes_the_other_modality_as_a_set_of_tokens_and_asks_its_content() -> None:
    victim = CrossAttention((1, 1), (2,), width=4, image_size=32).eval()
    a, b = torch.randn(2, 4, 32), torch.randn(2, 9, 32)
    out = victim.attend([a, b])[0]
    assert torch.allclose(out, victim.attend([a, b[:, torch.randperm(9)]])[0], atol=1e-5)
    assert not torch.allclose(out, victim.attend([a, b.flip(2)])[0], atol=1e-4)
    uniform = (
        victim.attend([a, b[:, :1].expand(-1, 9, -1)])[0] - a
    )  # identical tokens: whatever is asked, the answer is the same
    assert torch.allclose(uniform, uniform[:, :1].expand_as(uniform), atol=1e-5)
