"""Adversarials handed on to a larger radius: judged anew, not paid for again, truthful."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from support.evaluations import setting, two_head_samples
from support.victims import TwoHeads
from torch import Tensor

from robustbench_med.attacks import ATTACKS, Threat, View, complete
from robustbench_med.evaluation import carrying
from robustbench_med.evaluation.cell_signs import of_carrying
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Candidates, Carried, Clean, Effort, Method, Outcome

VICTIM, SAMPLES, HOW = TwoHeads().eval(), two_head_samples(60), setting()
RADII = (0.02, 0.05, 0.12, 0.3)
IMAGES = View(VICTIM, TwoHeads.shapes).pack(SAMPLES.batch(np.arange(60)))


@pytest.fixture(scope="module")
def clean() -> Clean:
    return clean_pass(VICTIM, SAMPLES, HOW, lambda n: None, stochastic=False)


def attacked(
    clean: Clean,
    radius: float,
    given: Mapping[int, Tensor] | None = None,
    name: str = "pgd",
    afresh: int = carrying.AFRESH,
    **more: object,
) -> Outcome:
    """One radius, with candidates where some are given."""
    params = {"steps": 4} if name == "pgd" else {}
    candidates = None if given is None else Candidates(given, afresh)
    method = Method(name, complete(name, params), candidates=candidates, **more)
    threat = Threat("Linf", (radius, radius), (0, 1))
    return attack_pass(VICTIM, SAMPLES, clean, threat, method, HOW, lambda n: None)


def swept(clean: Clean, **more: object) -> list[Outcome]:
    """A chain over the radii."""
    outcomes, given = [], None
    for radius in RADII:
        outcomes.append(attacked(clean, radius, given, **more))
        given = carrying.broken(outcomes[-1], clean, (0, 1))
    return outcomes


def standing(adversarials: Mapping[int, Tensor]) -> np.ndarray:
    """(60, 2) what the victim says of these images, asked by the test itself, one at a time."""
    view = View(VICTIM, TwoHeads.shapes)
    rows = [adversarials.get(i, IMAGES[i])[None] for i in range(60)]
    votes = torch.stack([torch.cat([z.argmax(1) for z in view.logits(x)]) for x in rows])
    return (votes == SAMPLES.labels).numpy()


@pytest.mark.parametrize("how", [{}, {"effort": Effort("auto", 60, 0)}, {"name": "fgsm"}])
def test_a_chain_falls_and_says_only_what_is_so(clean: Clean, how: dict) -> None:
    chain, alone = swept(clean, **how), [attacked(clean, radius, **how) for radius in RADII]
    robust = [outcome.figures["robust"] for outcome in chain]
    assert robust == sorted(robust, reverse=True)
    assert robust[0] == alone[0].figures["robust"] > robust[-1]
    for smaller, larger in zip(alone, chain[1:], strict=False):
        assert larger.figures["robust"] <= smaller.figures["robust"]
    for before, after in itertools.pairwise(chain):
        assert (after.arrays["robust_right"].sum(1) <= before.arrays["robust_right"].sum(1)).all()
    assert sum(outcome.carried.n for outcome in chain[1:]) > 20
    for radius, outcome in zip(RADII, chain, strict=True):
        moved = torch.stack([outcome.adversarials.get(i, IMAGES[i]) for i in range(60)])
        sizes = View(VICTIM, TwoHeads.shapes).distances(moved, IMAGES, "Linf").numpy()
        assert np.allclose(outcome.arrays["linf"], sizes, atol=1e-7)
        assert sizes.max() <= radius + 1e-6
        right = standing(outcome.adversarials) & (clean.right > 0)
        assert (outcome.arrays["robust_right"] == right).all()


def test_carried_samples_cost_no_pass_of_the_attack(clean: Clean) -> None:
    first = attacked(clean, 0.3, name="fgsm")
    given = carrying.broken(first, clean, (0, 1))
    second = attacked(clean, 0.31, given, name="fgsm")
    carried, eligible = second.carried, int((clean.right.max(1) > 0).sum())
    fallen = int((first.arrays["robust_right"].max(1) == 0)[clean.right.max(1) > 0].sum())
    assert carried is not None
    assert carried.n + carried.afresh == fallen > 8
    assert carried.afresh == math.ceil(fallen / carrying.SHARE)
    assert first.cost["attack_backward"] == eligible
    assert second.cost["attack_backward"] == eligible - carried.n
    assert second.cost["attack_forward"] == first.cost["attack_forward"] * (
        second.cost["attack_backward"] / eligible
    )
    assert second.cost["attacked_samples"] == eligible
    judged = first.cost["evaluation_forward"]
    assert second.cost["evaluation_forward"] == judged + 2 * len(given) - carried.n


def test_candidates_that_break_nothing_here_count_for_nothing(clean: Clean) -> None:
    claimed = {row: IMAGES[row] for row in range(60)}  # said to be adversarial, and are none
    with_them, alone = attacked(clean, 0.05, claimed), attacked(clean, 0.05)
    assert with_them.carried == Carried(0, 0, 0)
    for name, values in alone.arrays.items():
        assert np.array_equal(values, with_them.arrays[name], equal_nan=values.dtype.kind == "f")
    assert with_them.cost["attack_backward"] == alone.cost["attack_backward"]


def test_a_candidate_outside_the_ball_is_refused(clean: Clean) -> None:
    given = carrying.broken(attacked(clean, 0.3), clean, (0, 1))
    with pytest.raises(AssertionError, match="further than its radius"):
        attacked(clean, 0.05, given)


def test_an_attack_that_does_nothing_shows_at_the_samples_attacked_afresh(
    clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = carrying.broken(attacked(clean, 0.12), clean, (0, 1))
    monkeypatch.setitem(ATTACKS, "still", lambda view, x, y, threat, streams: x)
    outcome = attacked(clean, 0.2, given, name="still")
    carried = outcome.carried
    assert carried is not None
    assert 0 < carried.withstood == carried.afresh < carried.n
    best = standing(given) & (clean.right > 0)  # partly broken samples keep their candidate too
    assert (outcome.arrays["robust_right"] == best).all()
    assert of_carrying(carried, 60).verdict == "failed"


@pytest.mark.parametrize(
    ("withstood", "afresh", "n", "verdict"),
    [(0, 8, 24, "fine"), (1, 8, 24, "doubtful"), (2, 8, 24, "failed"), (1, 32, 30, "fine")],
)
def test_the_sign_tells_how_far_robust_accuracy_would_rise(
    withstood: int, afresh: int, n: int, verdict: str
) -> None:
    sign = of_carrying(Carried(n, afresh, withstood), 60 if n == 24 else 1000)
    assert (sign.sign, sign.verdict) == ("not monotone", verdict)
    assert sign.figure == pytest.approx(
        withstood / afresh * (n + afresh) / (60 if n == 24 else 1000)
    )


def test_the_same_samples_are_attacked_afresh_whatever_the_batch(clean: Clean) -> None:
    given = carrying.broken(attacked(clean, 0.12), clean, (0, 1))
    chosen = []
    for size in (7, 60):
        how = setting(batch_size=size)
        method = Method("pgd", complete("pgd", {}), candidates=Candidates(given, 3))
        threat = Threat("Linf", (0.2, 0.2), (0, 1))
        view = View(VICTIM, TwoHeads.shapes)
        case = carrying.AttackPass(view, SAMPLES, clean, threat, method, how)
        chosen.append(carrying.begin(case, np.arange(60)).afresh.tolist())
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3
