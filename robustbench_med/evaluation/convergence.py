"""Whether more of an attack would have broken more, by the trace that it leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.attacks import Threat, entry_of
from robustbench_med.data import Samples
from robustbench_med.evaluation.signs import Sign, tolerance_of, undone
from robustbench_med.evaluation.types import Clean, Method, Outcome, SearchRan

RISING = 0.1
"""Share of the attack loss's rise in the last quarter of the steps: a steady climb has 25 %, an
attack that has arrived next to none.
"""
FEWEST_STEPS = 8
"""Below this a quarter is one step, whose rise says little."""
FEWEST_QUERIES = 100
STEPWISE = ("bim", "pgd", "mim")
"""Attacks with steps of one size, whose loss tells convergence: APGD halves its steps by a schedule
of its budget and climbs at the end of any.
"""


def of_cell(
    samples: Samples, clean: Clean, threat: Threat, method: Method, outcome: Outcome
) -> list[Sign]:
    """Whether more of the same would have broken more, as the attack's own trace tells; and of a
    deterministic victim, whether what it saw broken is.
    """
    n = len(samples)
    if outcome.search is not None:
        return [of_search(outcome.search)]
    if method.name == "transfer":  # its steps are its sources'
        return []
    if short := short_budget(method):
        return [too_short(short)]
    if outcome.quarters is None:
        return [no_trace()] if outcome.cost["attacked_samples"] else []
    early, late = outcome.quarters
    rise = None
    losses = outcome.figures.get("attack_loss", [])
    finite = [loss for loss in losses if loss is not None]
    best = method.parameters.get("keep", "best") == "best" and not clean.stochastic
    if best and method.name in STEPWISE and len(finite) == len(losses) >= FEWEST_STEPS:
        rise = rise_of(finite)
    seen = [last_quarter(early, late, n, stochastic=clean.stochastic, rise=rise)]
    minimal = entry_of(method.name, method.engine).minimal is not None
    judged_alike = threat.least is None  # else the attack sees other shares than are judged
    if best and not minimal and judged_alike and clean.drawing != "sample":
        attacked = sorted(outcome.adversarials)
        labelled = samples.labels[attacked][:, list(threat.tasks)].numpy() >= 0
        right = outcome.arrays["robust_right"][attacked][:, list(threat.tasks)] * labelled
        judged = right.sum(1) / np.maximum(labelled.sum(1), 1)
        seen.append(undone(float(late.sum()) / n, float(judged.sum()) / n, tolerance_of(n)))
    return seen


def short_budget(method: Method) -> str | None:
    """The budget of an attack in words, where it is too short for a trace to tell anything."""
    given = method.parameters
    steps, queries = given.get("steps"), given.get("queries")
    if method.name == "fgsm":
        return "a single step"
    if isinstance(steps, int) and steps < FEWEST_STEPS:
        return f"{steps} steps"
    if (
        method.name in ("square", "sparse-rs")
        and isinstance(queries, int)
        and queries < FEWEST_QUERIES
    ):
        return f"{queries} queries"
    return None


def last_quarter(
    early: NDArray[np.floating[Any]],
    late: NDArray[np.floating[Any]],
    n: int,
    *,
    stochastic: bool,
    rise: float | None,
) -> Sign:
    """An attack that has arrived takes nothing in the last quarter of its budget.

    Args:
        early, late: (attacked samples,) the share standing after three quarters, and at the end.
        n: samples of the cell.
        stochastic: both are noisy; only a difference beyond two standard errors counts.
        rise: share of the attack loss's rise that came in the last quarter, where that tells.
    """
    gains = np.asarray(early, np.float64) - np.asarray(late, np.float64)
    gain = float(gains.sum() / n)
    luck = 2 * float(gains.std()) * math.sqrt(len(gains)) / n if stochastic else 0.0
    text = f"{100 * gain:.1f} points fell in the last quarter of the attack's budget"
    weak = gain > max(tolerance_of(n), luck)
    if rise is not None:
        text += f", and {rise:.0%} of the rise of its loss came there"
        weak |= rise > RISING
    return Sign(
        "not converged",
        "doubtful" if weak else "fine",
        gain,
        text,
        "Raise steps or queries, or step_size, until the answer stands still.",
    )


def too_short(budget: str) -> Sign:
    """A run so short that its trace tells nothing."""
    return Sign(
        "not converged",
        "doubtful",
        None,
        f"{budget}: too short to tell whether more would break more",
        f"Take at least {FEWEST_STEPS} steps, or --effort auto.",
    )


def no_trace() -> Sign:
    """An attack that says nothing of its way."""
    text = "not looked for: this attack leaves no trace of its steps"
    return Sign("not converged", "fine", None, text, "Run it again with twice the steps.")


def of_search(ran: SearchRan) -> Sign:
    """A search says itself whether it converged."""
    capped = ran.outcome == "capped"
    last = 100 * sum(each.taken for each in ran.rounds[-2:])
    text = f"{len(ran.rounds)} rounds, {ran.outcome}; the last two took {last:.1f} points"
    advice = f"Go on with --max-passes {ran.next_passes}." if ran.next_passes else ""
    return Sign("not converged", "doubtful" if capped else "fine", last / 100, text, advice)


def rise_of(losses: Sequence[float]) -> float:
    """Share of the rise of an attack's loss (before each step, mean over samples) that came in the
    last quarter of its steps.
    """
    whole, late = losses[-1] - losses[0], losses[-1] - losses[-1 - len(losses) // 4]
    return late / whole if whole > 0 else 0.0
