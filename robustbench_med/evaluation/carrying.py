"""Adversarials handed on: those of a smaller ball, or of the attacks before, are candidates here.

A ball holds every smaller one around the same image, so an adversarial of a smaller radius is one
of the larger too. A sample that its candidate breaks at every attacked task is not attacked again,
but for a few of them, by which an attack that does worse at a larger radius gives itself away.
Every candidate is judged anew: what an earlier record said of it counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import View, derive_seed
from robustbench_med.evaluation.batching import batches, shapes_of
from robustbench_med.evaluation.predictions import predict
from robustbench_med.evaluation.types import (
    Attacked,
    AttackPass,
    Candidates,
    Carried,
    Clean,
    Outcome,
)

REVISION = 1
AFRESH = 32
"""Samples that are attacked although a smaller radius broke them: at most so many,"""
SHARE = 4
"""and at most one of so many."""


@dataclass
class Carrying:
    """An attack pass with candidates, before its attack.

    Attributes:
        case: the pass.
        targets: numbers of the samples to attack, ascending.
        rows: those that have a candidate.
        standing: (rows, attacked tasks) what the candidates leave.
        skipped, afresh: of the rows whose candidate breaks all tasks, those that are not attacked,
            and those that are.
    """

    case: AttackPass
    targets: NDArray[np.int64]
    candidates: Mapping[int, Tensor]
    rows: NDArray[np.int64]
    standing: NDArray[np.bool_]
    skipped: NDArray[np.int64]
    afresh: NDArray[np.int64]

    @property
    def open_case(self) -> AttackPass:
        """The pass as a search sees it: samples that are not attacked have nothing to lose."""
        if len(self.skipped) == 0:
            return self.case
        right = self.case.clean.right.copy()
        right[self.skipped] = 0
        return replace(self.case, clean=replace(self.case.clean, right=right))

    def finish(self, attacked: Attacked) -> Carried | None:
        """Gives every sample the better of its candidate and what the attack found, the latter
        where they are equal.
        """
        if self.case.method.candidates is None:
            return None
        found = np.array([int(row) in attacked.adversarials for row in self.rows], bool)
        left = np.full(len(self.rows), math.inf)
        left[found] = standing(self.case, attacked.adversarials, self.rows[found]).sum(1)
        for row in self.rows[self.standing.sum(1) < left].tolist():
            attacked.adversarials[row] = self.candidates[row]
            self.measure(attacked, row)
        withstood = (left > 0) & np.isin(self.rows, self.afresh)
        return Carried(len(self.skipped), len(self.afresh), int(withstood.sum()))

    def measure(self, attacked: Attacked, row: int) -> None:
        """Notes how far a sample's candidate lies from its image."""
        case = self.case
        x, moved = case.view.pack(case.samples.batch([row])), self.candidates[row][None]
        for norm, sizes in attacked.distances.items():
            size = case.view.distances(moved, x, norm, case.threat.counts)
            sizes[row] = size[0].numpy()


def begin(case: AttackPass, eligible: NDArray[np.int64]) -> Carrying:
    """Judges the candidates of a pass and chooses the samples to attack.

    Args:
        case: its method may have candidates.
        eligible: numbers of the samples that would be attacked without any, ascending.

    Raises:
        AssertionError: a candidate outside its ball.
    """
    given = case.method.candidates or Candidates({}, 0)
    rows = np.array([row for row in eligible.tolist() if row in given.adversarials], np.int64)
    for chunk in batches(rows, case.setting.batch_size):
        x, moved = case.view.pack(case.samples.batch(chunk)), stacked(given.adversarials, chunk)
        for threat, places in case.threat.by_radii(chunk.tolist()):
            case.view.check(moved[places], x[places], threat)
    left = standing(case, given.adversarials, rows)
    fallen = rows[~left.any(1)]
    most = min(given.afresh, math.ceil(len(fallen) / SHARE))
    rng = np.random.default_rng(derive_seed(case.setting.seed, "afresh", case.method.name))
    afresh = np.sort(rng.permutation(fallen)[:most])
    skipped = np.setdiff1d(fallen, afresh)
    targets = np.setdiff1d(eligible, skipped)
    return Carrying(case, targets, given.adversarials, rows, left, skipped, afresh)


def standing(
    case: AttackPass, adversarials: Mapping[int, Tensor], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(rows, attacked tasks): which predictions are right; never where they were wrong before. Its
    passes are none of the attack's.
    """
    tasks = list(case.threat.tasks)
    view = View(case.view.victim, shapes_of(case.samples))
    parts = [np.zeros((0, len(tasks)), bool)]
    for chunk in batches(rows, case.setting.batch_size):
        x = stacked(adversarials, chunk).to(case.setting.device)
        right = predict(view, x, case.samples.labels[chunk]).right > 0
        parts.append((right & (case.clean.right[chunk] > 0))[:, tasks])
    case.view.passes.forward += view.passes.forward
    return np.concatenate(parts)


def stacked(adversarials: Mapping[int, Tensor], rows: NDArray[np.int64]) -> Tensor:
    """(rows, D) on the CPU."""
    return torch.stack([adversarials[row] for row in rows.tolist()])


def broken(outcome: Outcome, clean: Clean, tasks: tuple[int, ...]) -> dict[int, Tensor]:
    """The adversarials that took an attacked task of their sample: what is worth handing on."""
    took = (clean.right > 0) & (outcome.arrays["robust_right"] == 0)
    return {
        row: adversarial
        for row, adversarial in sorted(outcome.adversarials.items())
        if took[row, list(tasks)].any()
    }
