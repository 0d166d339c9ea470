"""Attacks against the algorithm boxes of their papers, worked in NumPy: a golden trajectory stays,
but does not say that it was right.
"""

import sys
from functools import partial

import numpy as np
import pytest
import torch
from support import algorithm_boxes as boxes
from support.algorithm_boxes import Waves

from robustbench_med.attacks import Minimal, Streams, Threat, View, complete, entry_of
from robustbench_med.attacks.apgd import climb
from robustbench_med.attacks.fab import fab_minimal
from robustbench_med.attacks.square import square

LABEL = torch.zeros(1, 1, dtype=torch.int64)


# at a low rho the second condition decides; many hills in L2 are chaos: the last bit of float64
# grows to the size of the ball
@pytest.mark.parametrize("rho", [0.75, 0.3])
@pytest.mark.parametrize(("norm", "frequency"), [("Linf", 12.0), ("L2", 3.0)])
def test_apgd_is_algorithm_1(norm: str, frequency: float, rho: float) -> None:
    for seed in range(6):
        victim, rng = Waves(seed, frequency), np.random.default_rng(seed)
        x0, eps = rng.uniform(0, 1, 6), 0.3
        start = boxes.projected(x0 + rng.uniform(-eps, eps, 6), x0, norm, eps)
        expected = boxes.apgd(victim.margin, start, x0, norm, eps, 100, rho)
        view, (first, clean) = (
            View(victim, victim.shapes),
            (torch.from_numpy(each)[None] for each in (start, x0)),
        )
        found = climb(
            view,
            first,
            clean,
            LABEL,
            Threat(norm, (eps,), (0,)),
            steps=100,
            loss="margin",
            rho=rho,
            eot=1,
        )
        assert np.allclose(found[0].numpy(), expected, atol=1e-9), seed
        assert len(victim.seen) == 101
        assert victim.margin(expected)[0] > victim.margin(start)[0]


def test_the_checkpoints_of_apgd() -> None:
    assert boxes.checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("seed", range(3))
def test_square_is_algorithm_2_with_the_papers_schedule(seed: int, monkeypatch) -> None:
    """Every point that the victim is asked about is a step from the best so far, by a square of the
    side that is due.
    """
    for most in ("AHEAD", "SMALL"):
        monkeypatch.setattr(sys.modules["robustbench_med.attacks.random_search"], most, 1)
    victim, eps, queries = Waves(seed, 3.0, shape=(1, 8, 8)), 0.1, 120
    x0 = np.random.default_rng(seed).uniform(0, 1, (8, 8))
    streams = Streams.seeded(seed, ["sample"], "square")
    clean = torch.from_numpy(x0).view(1, 64)
    found = square(
        View(victim, victim.shapes),
        clean,
        LABEL,
        Threat("Linf", (eps,), (0,)),
        streams,
        queries=queries,
    )
    sides = boxes.patch_sides(queries, 8, 0.8)
    assert len(victim.seen) == queries == len(sides) + 1
    assert (sides[0], sides[-1]) == (4, 1)
    best, *candidates = victim.seen
    assert np.allclose(
        np.abs(np.sign(best.reshape(8, 8) - x0).sum(0)), 8
    )  # stripes: every column goes one way
    for candidate, side in zip(candidates, sides, strict=True):
        assert boxes.is_square_step(candidate.reshape(8, 8), best.reshape(8, 8), x0, eps, side)
        if victim.margin(candidate)[0] > victim.margin(best)[0]:
            best = candidate
    assert np.array_equal(found[0].numpy(), best)
    assert not np.array_equal(best, victim.seen[0])


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_fab_is_algorithm_1(norm: str) -> None:
    capped = []
    for seed in range(6):
        x0 = np.random.default_rng(seed).uniform(0.4, 0.6, 6)
        victim = Waves(seed, 2.0)
        victim.lead = victim.margin(x0)[0] + 100 + 0.5  # half a logit to the boundary
        expected, alphas = boxes.fab(victim.margin, x0, norm, 12)
        capped += [alpha == 0.1 for alpha in alphas]
        streams, threat = Streams.seeded(seed, ["sample"], "fab"), Threat(norm, (0.1,), (0,))
        clean = torch.from_numpy(x0)[None]
        found = fab_minimal(
            View(victim, victim.shapes), clean, LABEL, threat, streams, steps=12, targets=1, eot=1
        )
        assert np.allclose(found.x[0, 0].numpy(), expected, atol=1e-9), seed
        assert 0 < float(found.size[0, 0]) < 0.3
    assert any(capped)
    assert not all(capped)


def minimal(name: str, victim: Waves, x0: np.ndarray, norm: str, **given: object) -> Minimal:
    """What a native search finds for one sample."""
    view, threat = View(victim, victim.shapes), Threat(norm, (1,), (0,))
    streams, known = Streams.seeded(0, ["sample"], name), complete(name, given)
    return entry_of(name).minimal(view, torch.from_numpy(x0)[None], LABEL, threat, streams, **known)


SHAPE = (2, 2, 3)
BOXES = {
    ("ddn", "L2"): (boxes.ddn, {"steps": 30}),
    **{
        ("fmn", norm): (partial(boxes.fmn, norm=norm, channels=2), {"steps": 30})
        for norm in ("Linf", "L2", "L1", "L0")
    },
    ("ead", "L1"): (boxes.ead, {"steps": 12, "search": 6}),
    ("sigma-zero", "L0"): (partial(boxes.sigma_zero, channels=2), {"steps": 40}),
}


@pytest.mark.parametrize(("name", "norm"), BOXES)
def test_searches_for_the_smallest_perturbation_are_their_papers_algorithm_1(name, norm) -> None:
    """At every point that they look at, and in what they find; a place has two channels."""
    box, given = BOXES[name, norm]
    crossed = 0
    for seed in range(6):
        x0 = np.random.default_rng(seed).uniform(0.1, 0.9, 12)
        victim = Waves(seed, 2.0, shape=SHAPE)
        victim.lead = victim.margin(x0)[0] + 100 + 0.5  # half a logit to the boundary
        path, distance = box(victim.margin, x0, **given)
        found = minimal(name, victim, x0, norm, **given)
        # the first is the clean image
        assert np.allclose(victim.seen[1:], np.clip(path, 0, 1), atol=1e-9, rtol=0), seed
        assert float(found.size[0, 0]) == pytest.approx(distance, abs=1e-9), seed
        beyond = [victim.margin(x)[0] > 0 for x in path]
        crossed += any(beyond) and not all(beyond[10:])
    assert crossed >= 2  # both branches of the box
