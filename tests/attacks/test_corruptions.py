"""Corruptions: what each does to images, and that no adversary of its own size does less."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_squared_error
from support.attacking import IDS
from support.victims import TwoHeads
from torch import nn

from robustbench_med.attacks import (
    CORRUPTIONS,
    KINDS,
    SEVERITIES,
    RefusedError,
    Streams,
    Threat,
    View,
    complete,
    corruptions,
    revision,
)
from robustbench_med.attacks.corruptions import EVERY, corrupt, defocus_blur, motion_blur
from robustbench_med.naming import CORRUPTION

SIDE = 24


def images(channels: int = 3, n: int = 4, side: int = SIDE) -> torch.Tensor:
    """Smooth blobs with a hard edge, in [0, 1]."""
    rows, columns = torch.meshgrid(*[torch.linspace(0, 1, side)] * 2, indexing="ij")
    drawn = [
        0.2
        + 0.5 * torch.exp(-8 * ((rows - 0.3 - 0.1 * i) ** 2 + (columns - 0.5) ** 2))
        + 0.25 * ((rows > 0.6) & (columns > 0.6))
        for i in range(n)
    ]
    stack = torch.stack(drawn)[:, None].repeat(1, channels, 1, 1)
    return stack * torch.linspace(1, 0.8, channels).view(1, -1, 1, 1)


def corrupted(name: str, x: torch.Tensor, severity: int, ids=IDS) -> torch.Tensor:
    view = View(nn.Identity(), [x.shape[1:]])
    streams = Streams.seeded(0, ids[: len(x)], name)
    threat = Threat("Linf", (1.0,), (0,))
    moved = corrupt(
        name, view, x.flatten(1), torch.zeros(len(x), 1), threat, streams, severity=severity
    )
    return view.unpack(moved)[0]


@pytest.mark.parametrize("name", KINDS)
def test_a_corruption_grows_with_its_severity_and_stays_an_image(name) -> None:
    x = images()
    sizes = []
    for severity in SEVERITIES:
        moved = corrupted(name, x, severity)
        assert moved.shape == x.shape
        assert moved.isfinite().all()
        assert 0 <= moved.min() <= moved.max() <= 1
        sizes.append(mean_squared_error(x.flatten(), moved.flatten()))
    assert sizes[0] > 0
    assert sizes[0] < sizes[2] < sizes[4], sizes


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_is_corrupted_the_same_whatever_its_neighbours(name) -> None:
    x = images()
    whole = corrupted(name, x, 3)
    turned = corrupted(name, x[[2, 0]], 3, [IDS[2], IDS[0]])
    assert torch.allclose(turned, whole[[2, 0]], atol=1e-6)
    assert torch.equal(corrupted(name, x, 3), whole)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "stain"])
def test_images_of_any_channels_and_shape_are_corrupted(name, channels) -> None:
    x = images(channels, 2)[:, :, :7, :11].contiguous()
    assert corrupted(name, x, 5).shape == x.shape


def test_a_stain_needs_colour() -> None:
    with pytest.raises(RefusedError, match="it needs colour"):
        corrupted("stain", images(1), 1)


def test_a_trusted_modality_and_what_is_random_elsewhere_stay_as_they_are(batch) -> None:
    x, y = batch
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    flat = view.pack(x)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for name in ("bias-field", "hair", "jpeg", "shot-noise"):
        streams = Streams.seeded(0, IDS, name)
        moved = corrupt(
            name, view, flat, y, Threat("Linf", (0.0, 1.0), (0, 1)), streams, severity=4
        )
        first, second = view.unpack(moved)
        assert torch.equal(first, x[0])
        assert not torch.equal(second, x[1])
        view.check(moved, flat, Threat("Linf", (0.0, 1.0), (0, 1)))
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_noises_have_the_moments_that_they_are_told() -> None:
    grey = torch.full((4, 1, 64, 64), 0.5)
    gaussian = corrupted("gaussian-noise", grey, 3) - 0.5
    assert float(gaussian.std()) == pytest.approx(0.1, rel=0.03)
    shot = corrupted("shot-noise", grey, 1)
    assert float(shot.mean()) == pytest.approx(0.5, rel=0.02)
    assert float(shot.var()) == pytest.approx(0.5 / 100, rel=0.05)  # Poisson's variance is its mean
    hit = corrupted("impulse-noise", grey, 5) != 0.5
    assert float(hit.float().mean()) == pytest.approx(0.12, rel=0.06)
    dark = torch.zeros(4, 1, 64, 64)
    rician = corrupted("rician-noise", dark, 3)  # Rayleigh's mean, where there is no signal
    assert float(rician.mean()) == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.03)


def test_blurs_keep_a_flat_image_and_the_light_of_a_point() -> None:
    streams = Streams.seeded(0, IDS[:1], "blur")
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    for blur, share in ((motion_blur, 0.2), (defocus_blur, 0.1)):
        assert torch.allclose(
            blur(torch.full((1, 2, 9, 9), 0.3), share, streams), torch.tensor(0.3)
        )
        assert float(blur(point, share, streams).sum()) == pytest.approx(1, abs=1e-5)


def test_an_unknown_severity_is_refused_and_revisions_name_both_files() -> None:
    with pytest.raises(ValueError, match="severity must be one of 1, 2, 3, 4, 5, got 6"):
        complete("jpeg", {"severity": 6}, CORRUPTION)
    assert revision("jpeg", CORRUPTION).keys() >= {"corruptions", "artefacts", "view"}
    assert list(CORRUPTIONS) == [EVERY, *KINDS]
    assert [row["name"] for row in corruptions.described()] == list(KINDS)
