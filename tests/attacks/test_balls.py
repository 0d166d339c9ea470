"""The balls of L1 and L0: nearest points, exact bounds, random points, and steps on a linear victim
whose best perturbation is known.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from support.victims import TwoHeads
from torch import Tensor

from robustbench_med.attacks import Streams, Threat, View
from robustbench_med.attacks.balls import L0, L1


def images(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, d) with black and white pixels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, d, generator=generator, dtype=dtype).round(decimals=1)


def normal(x: Tensor, scale: float, seed: int = 0) -> Tensor:
    return scale * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)


@settings(max_examples=80, deadline=None)
@given(
    radius=st.floats(1e-6, 400),
    scale=st.sampled_from([1e-6, 0.01, 0.3, 10.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_no_float32_point_of_an_l1_ball_is_further_than_the_radius(radius, scale, seed) -> None:
    x0 = images(4, 600, seed)
    found = L1(radius).project(x0 + normal(x0, scale, seed), x0)
    sizes = (found.double() - x0.double()).abs().sum(1)
    assert (sizes <= radius).all()  # not by one bit
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(L1(radius).project(found, x0), found)


@pytest.mark.parametrize("seed", range(4))
def test_the_l1_projection_is_the_nearest_point_that_an_optimiser_finds(seed: int) -> None:
    x0 = images(1, 6, seed, torch.float64)
    far = x0 + normal(x0, 1.0, seed)
    clean, aim = x0[0].numpy(), far[0].numpy()
    nearest = minimize(
        lambda z: ((z - aim) ** 2).sum(),
        clean,
        bounds=[(0, 1)] * 6,
        constraints=[{"type": "ineq", "fun": lambda z: 0.7 - np.abs(z - clean).sum()}],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
    )
    ours = L1(0.7).project(far, x0)[0].numpy()
    assert ((ours - aim) ** 2).sum() <= nearest.fun + 1e-6
    assert np.abs(ours - nearest.x).max() < 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_the_l0_projection_is_the_nearest_of_all_choices_of_places(channels: int) -> None:
    x0 = images(3, 6 * channels)
    far = x0 + normal(x0, 1.0)
    ours = L0(2, channels).project(far, x0)
    assert (L0(2, channels).size(ours, x0) <= 2).all()
    best = torch.full((3,), torch.inf)
    for a in range(6):
        for b in range(a):
            mask = torch.zeros(channels, 6, dtype=torch.bool)
            mask[:, [a, b]] = True
            tried = torch.where(mask.flatten(), far.clamp(0, 1), x0)
            best = torch.minimum(best, (tried - far).square().sum(1))
    assert torch.allclose((ours - far).square().sum(1), best)


def test_l0_counts_places_of_an_image_or_each_of_their_channels() -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x0 = torch.full((1, view.dim), 0.5)
    x = x0.clone()
    channels, height, width = view.segments[1].shape
    assert channels == 3
    place = view.segments[1].start + 4
    x[0, [place, place + height * width, place + 2 * height * width]] = 1.0
    assert view.distances(x, x0, "L0").tolist() == [[0.0, 1.0]]
    assert view.distances(x, x0, "L0", "coordinates").tolist() == [[0.0, 3.0]]
    view.check(x, x0, Threat("L0", (0, 1), (0,)))
    with pytest.raises(AssertionError, match="moved modality 1 by 3, further than its radius 2"):
        view.check(x, x0, Threat("L0", (0, 2), (0,), counts="coordinates"))


def test_a_radius_of_l0_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match="whole number of pixels"):
        Threat("L0", (0.5, 1), (0,))
    threat = Threat("L0", (5, 0), (0,))
    assert [threat.scaled(f).radii for f in (0.1, 0.5, 2.0)] == [(1, 0), (2, 0), (10, 0)]
    assert Threat("L1", (5, 0), (0,)).scaled(0.5).radii == (2.5, 0)


def test_random_points_of_l1_are_uniform_and_those_of_l0_use_their_places() -> None:
    x0 = torch.full((400, 40), 0.5, dtype=torch.float64)
    streams = Streams.seeded(0, [str(i) for i in range(400)], "test")
    delta = L1(0.4).random(x0, streams) - x0
    sizes = delta.abs().sum(1)
    assert (sizes <= 0.4).all()
    assert sizes.mean() == pytest.approx(0.4 * 40 / 41, abs=1e-3)  # E|x| = r d / (d + 1)
    assert delta.abs().mean(0).std() / delta.abs().mean() < 0.15
    assert (delta > 0).double().mean() == pytest.approx(0.5, abs=0.02)
    point = L0(3, 2).random(x0, streams)
    changed = (point != x0).unflatten(1, (2, 20)).any(1)
    assert (changed.sum(1) == 3).all()
    assert changed.double().mean(0).max() < 0.25  # any place
    assert point[point != x0].std() == pytest.approx(12**-0.5, abs=0.02)
