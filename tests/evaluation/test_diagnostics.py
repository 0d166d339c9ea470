"""The panel: deliberately broken defences that must be flagged by the sign meant for them, and
honest victims that must not be.
"""

import pytest
from support.panel import BROKEN, HONEST, SETTING, examined, signs_of
from torch import nn

from robustbench_med.attacks import Threat, complete
from robustbench_med.evaluation import signs as diagnostics
from robustbench_med.evaluation.protocol import attack_pass
from robustbench_med.evaluation.types import Method


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "pure noise" else n for n in BROKEN],
)
def test_a_broken_defence_is_flagged_by_the_sign_meant_for_it(name) -> None:
    victim, sign, eps = BROKEN[name]
    found = signs_of(victim, eps)
    assert found[sign].verdict == "failed", {key: (s.verdict, s.text) for key, s in found.items()}
    assert diagnostics.worst(list(found.values())) == "failed"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "gently random" else n for n in HONEST],
)
def test_an_honest_victim_is_not_flagged(name) -> None:
    found = signs_of(HONEST[name])
    assert not [(s.sign, s.text) for s in found.values() if s.verdict == "failed"]


def sign_of_cell(
    victim: nn.Module, attack: str = "pgd", **given: object
) -> diagnostics.Sign | None:
    """What is said of the convergence of one evaluation, if anything."""
    samples, clean = examined(victim.eval())
    method, threat = Method(attack, complete(attack, given)), Threat("Linf", (0.08,), (0,))
    outcome = attack_pass(victim, samples, clean, threat, method, SETTING, lambda n: None)
    signs = diagnostics.of_cell(victim, samples, clean, threat, method, outcome, SETTING, None)
    return next((sign for sign in signs if sign.sign == "not converged"), None)


@pytest.mark.parametrize("attack", ["bim", "pgd", "mim"])
@pytest.mark.parametrize("name", ["tanh", "relu", "linear"])
def test_a_loss_that_still_rises_is_a_warning_and_usual_steps_are_enough_for_honest_victims(
    name, attack
) -> None:
    usual, starved = (
        sign_of_cell(HONEST[name], attack),
        sign_of_cell(HONEST[name], attack, step_size=0.002),
    )
    assert usual is not None
    assert usual.verdict == "fine", usual.text
    assert starved is not None
    assert starved.verdict == "doubtful", starved.text


def test_of_a_loss_that_rises_for_other_reasons_nothing_is_said() -> None:
    assert sign_of_cell(HONEST["gently random"]) is None  # its fallen samples stay
    assert sign_of_cell(HONEST["tanh"], keep="last") is None
    assert sign_of_cell(HONEST["tanh"], "apgd", steps=20) is None  # steps shrink by schedule
    assert sign_of_cell(HONEST["tanh"], steps=4) is None


def test_the_worst_sign_comes_first_and_makes_the_trust() -> None:
    good, bad = diagnostics.silent_success(0.0, 0.02), diagnostics.converged(0.5, 0.2, 0.02)
    assert diagnostics.worst([good, bad]) == "failed"
    assert [s["verdict"] for s in diagnostics.plain([good, bad])] == ["failed", "fine"]
    assert diagnostics.worst([]) == "fine"


def test_verdicts_turn_where_the_thresholds_say() -> None:
    assert diagnostics.converged(0.50, 0.49, 0.02).verdict == "fine"
    assert diagnostics.converged(0.50, 0.47, 0.02).verdict == "doubtful"
    assert (
        diagnostics.still_rising([0.0, 1.0, 1.6, 1.8, 1.9, 1.95, 1.95, 2.0]).verdict == "fine"
    )  # 0.05 of 2
    assert diagnostics.still_rising([float(i) for i in range(8)]).verdict == "doubtful"
    assert diagnostics.still_rising([5.0] * 4 + [1.0] * 3 + [4.0]).verdict == "fine"  # that fell
    curve = [(1.0, 0.5), (2.0, 0.6)]
    assert diagnostics.monotone(curve, None, 0.02, everything_moves=True).verdict == "failed"
    falling = [(1.0, 0.5), (2.0, 0.3)]
    assert diagnostics.monotone(falling, 0.0, 0.02, everything_moves=True).verdict == "fine"
    assert diagnostics.monotone(falling, 0.3, 0.02, everything_moves=True).verdict == "failed"
    assert (
        diagnostics.monotone(falling, 0.3, 0.02, everything_moves=False).verdict == "doubtful"
    )  # a trusted modality may hold it
    assert diagnostics.bounds(1.01, 0, 1).verdict == "failed"
    assert diagnostics.beats_noise(0.80, 0.79, 0.02).verdict == "doubtful"
