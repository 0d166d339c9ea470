"""Attacks under L1 and L0 against their papers' algorithm boxes, and on a linear victim against the
best that can be done.
"""

import itertools
import sys

import numpy as np
import pytest
import torch
from support import sparse_boxes as boxes
from support.algorithm_boxes import Waves
from support.sparse_boxes import Linear
from support.victims import TwoHeads
from torch import Tensor

from robustbench_med.attacks import RefusedError, Streams, Threat, View, complete, entry_of
from robustbench_med.attacks.adaptive import Facing, rounds
from robustbench_med.attacks.apgd import climb
from robustbench_med.attacks.pgd import pgd
from robustbench_med.attacks.sparse_rs import SCHEDULE, sparse_rs

LABEL = torch.zeros(1, 1, dtype=torch.int64)
NAMES = [f"sample{i}" for i in range(6)]


def images(n: int) -> Tensor:
    """(n, 252), black and white pixels among them."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 252, generator=generator, dtype=torch.float64).round(decimals=1)


def rise(name: str, threat: Threat, lead: float = 1000.0, **given: object) -> Tensor:
    """(6,) how far an attack raises what it is to raise, as a share of the most there is."""
    victim, x, y = Linear(lead), images(6), torch.zeros(6, 1, dtype=torch.int64)
    view, streams = View(victim, victim.shapes), Streams.seeded(0, NAMES, name)
    moved = entry_of(name).function(view, x, y, threat, streams, **complete(name, given))
    view.check(moved, x, threat)
    return (moved - x) @ victim.w / victim.best(x, threat.norm, threat.radii)


@pytest.mark.parametrize(
    ("name", "norm", "radii", "least", "given"),
    [
        ("pgd", "L1", (4.0, 8.0), 0.96, {"loss": "margin"}),
        ("pgd", "L1", (0.0, 0.5), 0.96, {"loss": "margin"}),
        ("apgd", "L1", (4.0, 8.0), 0.98, {"loss": "margin"}),
        ("apgd", "L1", (0.0, 2.0), 0.98, {"loss": "margin"}),
        ("square", "L1", (4.0, 8.0), 0.2, {"queries": 600}),
        ("pgd", "L0", (5, 8), 0.95, {"loss": "margin"}),
        ("pgd", "L0", (0, 1), 0.95, {"loss": "margin"}),
        ("sparse-rs", "L0", (5, 8), 0.6, {"queries": 600}),
    ],
)
def test_on_a_linear_victim_attacks_come_near_the_best_there_is(
    name, norm, radii, least, given
) -> None:
    threat = Threat(norm, radii, (0,))
    found = rise(name, threat, **given)
    assert (found >= least).all(), found
    assert (found <= 1 + 1e-9).all()
    assert rise("noise", threat).mean() < 0.2


@pytest.mark.parametrize(("norm", "radii"), [("L1", (4.0, 8.0)), ("L0", (5, 8))])
def test_adaptive_breaks_what_nine_tenths_of_the_best_breaks(norm, radii) -> None:
    threat, y = Threat(norm, radii, (0,)), torch.zeros(1, 1, dtype=torch.int64)
    for name, x in zip(NAMES[:3], images(3).split(1), strict=True):
        victim = Linear()
        victim.lead = float(x @ victim.w + 0.9 * victim.best(x, norm, radii))
        view, streams = View(victim, victim.shapes), Streams.seeded(0, [name], "adaptive")
        moved = entry_of("adaptive").function(view, x, y, threat, streams)
        view.check(moved, x, threat)
        assert view.standing(x, y, threat) == 1
        assert view.standing(moved, y, threat) == 0


@pytest.mark.parametrize("seed", range(4))
def test_apgd_in_l1_is_algorithm_1_in_shrinking_balls(seed: int) -> None:
    rng = np.random.default_rng(seed)
    victim = Waves(seed, 1.5, shape=(1, 4, 5))
    x0, eps = rng.uniform(0, 1, 20), 0.8
    start = boxes.into_l1(x0 + rng.normal(0, 1, 20), x0, eps)
    expected = boxes.apgd_l1(victim.margin, start, x0, eps, 60)
    first, clean = (torch.from_numpy(each)[None] for each in (start, x0))
    threat = Threat("L1", (eps,), (0,))
    how = {"steps": 60, "loss": "margin", "rho": 0.75, "eot": 1}
    found = climb(View(victim, victim.shapes), first, clean, LABEL, threat, **how)
    assert np.allclose(found[0].numpy(), expected, atol=1e-9)
    assert len(victim.seen) == 60 + 3  # a gradient at the start of each ball
    assert victim.margin(expected)[0] > victim.margin(start)[0]


@pytest.mark.parametrize("seed", range(4))
def test_pgd_in_l0_is_pgd_0(seed: int) -> None:
    x0 = np.random.default_rng(seed).uniform(0, 1, 20)
    victim = Waves(seed, 1.5, shape=(1, 4, 5))
    expected = boxes.pgd_0(victim.margin, x0, 4, 10, 8 * 0.02)
    how = {"steps": 10, "step_size": 0.02, "random_start": False, "keep": "last", "loss": "margin"}
    found = pgd(
        View(victim, victim.shapes),
        torch.from_numpy(x0)[None],
        LABEL,
        Threat("L0", (4,), (0,)),
        Streams.seeded(0, ["sample"], "pgd"),
        **how,
    )
    assert np.allclose(found[0].numpy(), expected, atol=1e-9)
    assert (expected != x0).sum() == 4


def test_sparse_rs_exchanges_as_many_pixels_as_the_schedule_says(monkeypatch) -> None:
    for most in ("AHEAD", "SMALL"):
        monkeypatch.setattr(sys.modules["robustbench_med.attacks.random_search"], most, 1)
    victim, k, queries = Waves(0, 2.0, shape=(2, 6, 6)), 20, 150
    x0 = np.random.default_rng(0).uniform(0, 1, 72)
    found = sparse_rs(
        View(victim, victim.shapes),
        torch.from_numpy(x0)[None],
        LABEL,
        Threat("L0", (k,), (0,)),
        Streams.seeded(0, ["sample"], "sparse-rs"),
        queries=queries,
    )
    assert len(victim.seen) == queries
    best, *candidates = victim.seen
    assert (changed(best, x0)).sum() == k
    for asked, candidate in enumerate(candidates, 1):
        behind = max(by for after, by in SCHEDULE if 10_000 * asked / queries > after)
        moved = changed(candidate, best)
        back = moved & ~changed(candidate, x0)
        come = moved & ~changed(best, x0)
        assert back.sum() == come.sum() == max(int(0.3 / behind * k), 1)
        assert (moved == (back | come)).all()  # what stays, stays as it was
        assert changed(candidate, x0).sum() == k
        assert set(candidate.reshape(2, 36)[:, come].flatten()) <= {0.0, 1.0}
        if victim.margin(candidate)[0] > victim.margin(best)[0]:
            best = candidate
    assert np.array_equal(found[0].numpy(), best)
    assert victim.margin(best)[0] > victim.margin(victim.seen[0])[0]


def changed(x: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """(36,) which places differ in any of their two channels."""
    return (x != x0).reshape(2, 36).any(0)


def test_a_colour_that_a_pixel_has_already_is_its_opposite() -> None:
    """Else half of all queries would change nothing of a black background."""
    victim = Linear()
    black = torch.zeros(3, 252, dtype=torch.float64)
    streams = Streams.seeded(0, NAMES[:3], "sparse-rs")
    threat = Threat("L0", (0, 9), (0,))
    y = torch.zeros(3, 1, dtype=torch.int64)
    view = View(victim, victim.shapes)
    found = sparse_rs(view, black, y, threat, streams, queries=1)
    assert view.distances(found, black, "L0").tolist() == [[0.0, 9.0]] * 3


def test_sparse_rs_is_for_l0_and_names_the_black_box_of_others(batch) -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x, streams = view.pack(batch[0]), Streams.seeded(0, NAMES, "sparse-rs")
    with pytest.raises(RefusedError, match="under L2 try square"):
        sparse_rs(view, x, batch[1], Threat("L2", (1.0, 1.0), (0, 1)), streams)


def test_a_search_has_gradients_and_a_black_box_under_every_norm() -> None:
    black = {"Linf": "square", "L2": "square", "L1": "square", "L0": "sparse-rs"}
    for norm, scores in black.items():
        for stochastic in (False, True):
            for classes in (2, 3, 7):
                facing = Facing(stochastic, classes, soft=True, tasks=2, norm=norm)
                some = [each for each, _ in zip(rounds(facing), range(12), strict=False)]
                assert all(norm in entry_of(each.attack).norms for each in some)
                asked = {each.attack for each in some if each.kind == "black box"}
                assert asked == {scores}
                along = [each.kind for each in some if each.kind != "black box"]
                assert len(set(along)) >= 3
                walks = {each.attack for each in some if each.kind == "from the boundary"}
                walker = "sigma-zero" if norm == "L0" else "fab"
                assert walks == (set() if stochastic else {walker})
                assert all(one != other for one, other in itertools.pairwise(along))
