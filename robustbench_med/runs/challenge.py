"""What short attacks of other kinds take of what the attack of a cell left standing.

What an attack leaves stands as long as nothing else breaks it: a victim whose gradients lie looks
robust to every attack along them (Carlini et al., arXiv 1902.06705; Tramer et al., arXiv
2002.08347). Challengers are cheap: what they do not break is not proven, what they break is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from robustbench_med.attacks import View, derive_seed
from robustbench_med.evaluation.batching import shapes_of
from robustbench_med.evaluation.meter import metered
from robustbench_med.evaluation.types import Challenge, Clean, Outcome, Setting
from robustbench_med.runs.challengers import CHOOSE, PER_SAMPLE, Challenger, Trial, challengers
from robustbench_med.runs.identity import Inputs
from robustbench_med.runs.rivals import Rival

SAMPLES, FEWEST = 32, 8
"""Samples tried at most; at least, where so many are left."""
SHARE, LEAST = 4, 2000
"""Passes of all challengers together: a quarter of the attack's, or so many if that is more."""
LEVEL = 0.01
"""Chance that a random victim is called broken by luck, all challengers of a cell together."""


def challenge(
    inputs: Inputs,
    clean: Clean,
    outcome: Outcome,
    setting: Setting,
    rival: Rival,
    advance: Callable[[float, str], None],
) -> tuple[list[Challenge], int]:
    """Challenges what the attack of a cell left.

    Args:
        inputs: of the cell.
        clean: its clean pass.
        outcome: what the attack left.
        setting: of the cell.
        rival: whom adversarials are carried over from.
        advance: called with the part of the work that has just been done, of 1 in all, and a line
            as each challenger begins.

    Returns:
        What each challenger took, in the order in which they ran, and the passes that measured it
        on fresh draws.
    """
    attack = outcome.cost["attack_forward"] + outcome.cost["attack_backward"]
    budget = max(attack // SHARE, LEAST)
    trial = trial_of(inputs, clean, outcome, setting, budget)
    if trial is None:
        advance(1, "")
        return [], 0
    with metered([trial.view], 1, budget, lambda part: advance(part, "")):
        return by_each(trial, inputs, rival, budget, lambda text: advance(0, text))


def by_each(
    trial: Trial, inputs: Inputs, rival: Rival, budget: int, note: Callable[[str], None]
) -> tuple[list[Challenge], int]:
    """What each challenger took, and the passes that measured it."""
    waiting = challengers(trial, inputs, rival)
    level = LEVEL / sum(each.threat is None for each in waiting)
    found = []
    for i, each in enumerate(waiting):
        share = each.weight / sum(other.weight for other in waiting[i:])
        allowed = int((budget - trial.spent) * share) // trial.computed(each.rows)
        note(f"challenged by {each.name}")
        began = trial.spent
        if candidates := each.attack(trial, allowed):
            result = boundless if each.threat is not None else taken
            challenged = result(trial, each, candidates, level)
            found.append(replace(challenged, passes=trial.spent - began))
    return found, trial.fresh


def taken(trial: Trial, each: Challenger, candidates: Sequence[Tensor], level: float) -> Challenge:
    """What a challenger took: draws choose the best of a sample's candidates, fresh ones measure.

    `level`: chance that the bound lies above what it takes of a random victim.
    """
    rows, best = each.rows, trial.moved.clone()
    before = trial.before[:, rows]
    after = before.copy()
    for candidate in candidates:
        for threat, places in trial.threat.by_radii(trial.everybody.tolist()):
            trial.view.check(candidate[places], trial.x[places], threat)
        now = trial.shares(candidate, rows, trial.view.draws, "choose")
        better = now.mean(0) < after.mean(0)
        best[rows[better]], after[:, better] = candidate[rows[better]], now[:, better]
    changed = after.mean(0) < before.mean(0)
    gaps = (before - after)[:, changed]
    if trial.random and changed.any():
        gaps = trial.measured[:, rows[changed]] - trial.measure(best, rows[changed])
    fell = gaps.mean(0) > 0
    broken, left = rows[changed][fell], after.mean(0)[changed][fell]
    draws = gaps.sum(1) / trial.cell
    value = bound = float(draws.mean())
    if trial.random:
        error = float(draws.std(ddof=1)) / math.sqrt(len(draws))
        bound -= float(stdtrit(len(draws) - 1, 1 - level)) * error
    ids = tuple(trial.ids[row] for row in broken)
    stands = tuple(left.tolist())
    return Challenge(each.name, each.family, len(rows), ids, value, bound, 0, left=stands)


def boundless(
    trial: Trial, each: Challenger, candidates: Sequence[Tensor], level: float
) -> Challenge:
    """Which samples a challenger broke that images alone bound; it takes nothing within the radii
    of the cell.
    """
    (candidate,), rows = candidates, each.rows
    right = trial.shares(candidate, rows, trial.view.draws, "choose", each.threat).mean(0)
    ids = tuple(trial.ids[row] for row in rows[right < 0.5])
    return Challenge(each.name, each.family, len(rows), ids, 0.0, 0.0, 0, radius=1.0)


def trial_of(
    inputs: Inputs, clean: Clean, outcome: Outcome, setting: Setting, budget: int
) -> Trial | None:
    """Some of the samples that the attack left, drawn by the seed; None where it left none."""
    samples, threat, n = inputs.samples, inputs.threat, len(inputs.samples)
    stands = outcome.arrays["robust_right"] > 0
    left = [row for row in outcome.adversarials if stands[row, list(threat.tasks)].any()]
    if not left:
        return None
    each = PER_SAMPLE * (2 if clean.stochastic else 1)
    most = min(max(budget // each, FEWEST), SAMPLES)
    rng = np.random.default_rng(derive_seed(setting.seed, "challenge"))
    rows = np.sort(rng.permutation(np.sort(left))[:most])
    view = View(inputs.victim.module, shapes_of(samples), draws=CHOOSE if clean.stochastic else 1)
    moved = torch.stack([outcome.adversarials[row] for row in rows.tolist()])
    return Trial(
        view,
        view.pack(samples.batch(rows)).to(setting.device),
        moved.to(setting.device),
        samples.labels[rows].to(setting.device),
        stands[rows],
        [samples.ids[row] for row in rows],
        threat.of(rows.tolist()),
        setting,
        clean.drawing,
        n,
    )
