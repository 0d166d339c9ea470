"""A search for the strongest attack: rounds over all samples, until the answer stands or a budget
is spent.

A round attacks the samples that still stand, and each keeps the better candidate. What it takes of
a random victim's robust accuracy is measured on fresh draws that chose nothing: keeping the lowest
of noisy figures takes points where nothing was won.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import View
from robustbench_med.attacks.adaptive import ALGORITHM, FIRST, Facing, Round, required, rounds
from robustbench_med.attacks.adaptive import complete as complete_round
from robustbench_med.attacks.adaptive import facing as facing_of
from robustbench_med.attacks.losses import won
from robustbench_med.evaluation.batching import drawn, together
from robustbench_med.evaluation.types import (
    Attacked,
    AttackPass,
    Effort,
    Method,
    RoundRan,
    SearchRan,
)
from robustbench_med.naming import BLACK_BOX, NORMS
from robustbench_med.statistics import tolerance_of
from robustbench_med.store.attacks import stands

REVISION = 2
FIRST_DRAWS, MOST_DRAWS = 16, 256
"""Fresh draws that measure what a round took, doubled until its error is small."""
CHOOSING_DRAWS = 64
"""Draws that choose between two candidates, which differ by less than 16 draws can tell."""
OVER = 10
"""Passes that `max` spends over those of `auto`."""
Attack = Callable[[AttackPass, NDArray[np.int64], tuple[object, ...]], Attacked]
"""Attacks some samples; the last argument tells this round's random numbers from another's."""


def planned(method: Method, facing: Facing) -> Iterator[Round]:
    """The rounds of a search, without end: the method's own attack first, then what an adaptive
    attack does besides.
    """
    others = rounds(facing)
    if method.name == "adaptive":
        return others
    own = Round(FIRST, method.name, dict(method.parameters), "as asked for")
    besides = (_behind(each) for each in others if not same(each, own, facing))
    return itertools.chain([own], besides)


def same(one: Round, other: Round, facing: Facing) -> bool:
    """Whether two rounds are one attack, which nothing changes that matters."""
    return one.attack == other.attack and (
        complete_round(one, facing) == complete_round(other, facing)
    )


def _behind(each: Round) -> Round:
    """The first round of an adaptive attack, behind another's."""
    return replace(each, kind=ALGORITHM) if each.kind == FIRST else each


def search(
    case: AttackPass,
    targets: NDArray[np.int64],
    attack: Attack,
    effort: Effort,
    note: Callable[[str], None],
) -> Attacked:
    """Attacks the targets in rounds and keeps of each the adversarial with the lowest share
    standing.

    Args:
        case: whose method is the first round.
        targets: numbers of the samples, ascending.
        attack: computes one round.
        effort: when to stop.
        note: called with a line as rounds begin.

    Returns:
        What is left, with `ran`: the rounds, and whether they converged.
    """
    return Search(case, targets, attack, effort, note).run()


@dataclass
class Search:
    """The state of a search: the best adversarials so far, and what was spent.

    Passes are counted as the rounds ask for them, whether or not samples that fall leave earlier:
    what an attack really spends depends on the batch size, and when a search stops must not.
    """

    case: AttackPass
    targets: NDArray[np.int64]
    attack: Attack
    effort: Effort
    note: Callable[[str], None]
    ran: list[RoundRan] = field(default_factory=list)

    def __post_init__(self) -> None:
        case = self.case
        self.n = len(case.samples)
        self.tolerance = tolerance_of(self.n)
        self.random = case.clean.stochastic
        self.view = self.attacker_view()
        self.facing = facing_of(self.view, case.threat)
        labelled = case.samples.labels[:, list(case.threat.tasks)].numpy() >= 0
        right = case.clean.right[:, list(case.threat.tasks)]
        self.counted = labelled & (right > 0)
        self.now = self.counted * right  # what stands of each, as the last choice saw it
        self.fixed = not self.random and case.clean.drawing == "none"
        self.weights = self.counted / (labelled.sum(0).clip(1) * labelled.shape[1])
        m = len(case.view.segments)
        self.best = Attacked(
            distances={norm: np.zeros((self.n, m), np.float32) for norm in NORMS},
            smallest=None,
            computed=len(self.targets),
        )
        self.open = self.targets
        self.left = float((right * self.weights).sum())
        self.passes = self.queries = 0.0

    def attacker_view(self) -> View:
        """The victim as the rounds see it: a random one is asked often enough that no lucky draw
        chooses, however few draws judge it at last. Passes are counted with the case's.
        """
        given = self.case.view
        draws = max(given.draws, FIRST_DRAWS) if self.random else 1
        shapes = [segment.shape for segment in given.segments]
        view = View(given.victim, shapes, draws=draws, batch_draws=given.batch_draws)
        view.passes, view.tick, view.through = given.passes, given.tick, given.through
        return view

    def run(self) -> Attacked:
        """Rounds until one of the ways to stop; the first runs whatever the budget."""
        missing, outcome, following = required(self.facing), "capped", None
        basis = 0.0  # what auto spent, once `max` goes on from there
        for each in planned(self.case.method, self.facing):
            if len(self.open) == 0:
                outcome = "converged"
                break
            if each.kind == BLACK_BOX and self.queries + each.passes > self.effort.max_queries:
                missing.discard(BLACK_BOX)
                continue
            done = not missing and stands(self.ran, self.tolerance)
            if self.ran and not basis and (done or self.over(each)):
                outcome = "converged" if done else "capped"
                if self.effort.name != "max":
                    following = None if done else self.next_passes(each)
                    break
                basis = self.passes + self.queries
            if basis and self.spent_with(each) >= (1 + OVER) * basis:
                outcome = "spent"
                break
            self.round(each)
            missing.discard(each.kind)
        self.best.ran = SearchRan(
            self.effort.name, outcome, following, self.tolerance, tuple(self.ran)
        )
        self.case.view.nonfinite_gradients += self.view.nonfinite_gradients
        return self.best

    def over(self, each: Round) -> bool:
        """Whether a round along gradients would go over the budget."""
        expected = self.passes + self.asked(each)
        return each.kind != BLACK_BOX and expected > self.effort.max_passes

    def asked(self, each: Round) -> float:
        """Passes or queries of a round, an attacked sample."""
        return each.passes * len(self.open) / len(self.targets)

    def next_passes(self, each: Round) -> int:
        """The budget to try where this round would have gone over the one there was."""
        return max(2 * self.effort.max_passes, math.ceil(self.passes + self.asked(each)))

    def spent_with(self, each: Round) -> float:
        """What was spent with half of a round more: a budget ends at the round's end that lies
        nearest.
        """
        return self.passes + self.queries + self.asked(each) / 2

    def round(self, each: Round) -> None:
        """One round: attack, choose, and measure what it took."""
        number, spent = len(self.ran) + 1, self.passes
        self.note(f"round {number}: {each.kind}, {spent:.0f} passes, {self.left:.3f} left")
        stage = ("round", number)
        found = self.attacked(each, stage)
        self.best.searched.forward += found.searched.forward
        self.best.searched.backward += found.searched.backward
        if number == 1:
            self.best.losses = found.losses
        previous, before = dict(self.best.adversarials), self.now.copy()
        changed = self.choose(found, stage)
        taken, error = (
            (float(((before - self.now) * self.weights).sum()), 0.0)
            if self.fixed
            else self.taken(previous, changed, stage)
        )
        self.left -= taken
        self.ran.append(
            RoundRan(
                each.kind,
                each.attack,
                dict(each.parameters),
                each.why,
                self.passes,
                self.queries,
                len(changed),
                taken,
                error,
                self.left,
            )
        )

    def attacked(self, each: Round, stage: tuple[object, ...]) -> Attacked:
        """The attack of a round on what stands, its passes counted."""
        method = Method(each.attack, complete_round(each, self.facing))
        case = replace(self.case, method=method, view=self.view)
        if each.kind == BLACK_BOX:
            self.queries += self.asked(each)
        else:
            self.passes += self.asked(each)
        return self.attack(case, self.open, stage)

    def choose(self, found: Attacked, stage: tuple[object, ...]) -> NDArray[np.int64]:
        """Keeps the better candidate of each sample under the same draws (of a victim that always
        answers the same nothing is asked twice); returns whose changed.

        The first round's is kept where it is no worse than the clean image: scores fall before
        predictions do.
        """
        rows, purpose = self.open, (*stage, "choose")
        draws = max(self.view.draws, CHOOSING_DRAWS) if self.random else 1
        after = self.standing(found.adversarials, rows, draws, *purpose).mean(0)
        before = (
            self.now[rows]
            if self.fixed
            else self.standing(self.best.adversarials, rows, draws, *purpose).mean(0)
        )
        tasks = self.counted[rows].sum(1)
        old, new = before.sum(1) / tasks, after.sum(1) / tasks
        better = new < old if self.ran else new <= old
        self.now[rows] = np.where(better[:, None], after, before)
        for row in rows[better].tolist():
            self.best.adversarials[row] = found.adversarials[row]
            for norm, sizes in self.best.distances.items():
                sizes[row] = found.distances[norm][row]
        self.open = rows[np.minimum(old, new) > 0]
        return rows[better]

    def taken(
        self, previous: Mapping[int, Tensor], changed: NDArray[np.int64], stage: tuple[object, ...]
    ) -> tuple[float, float]:
        """Robust accuracy that a round took, and its standard error over draws that chose
        nothing.
        """
        if len(changed) == 0:
            return 0.0, 0.0
        gaps, draws = np.zeros(0), FIRST_DRAWS
        while True:
            purpose = (*stage, "taken", draws)
            wanted = draws - len(gaps) if self.random else 1
            old, new = (
                (self.standing(each, changed, wanted, *purpose) * self.weights[changed]).sum((1, 2))
                for each in (previous, self.best.adversarials)
            )
            gaps = np.concatenate((gaps, old - new))
            error = float(gaps.std(ddof=1) / math.sqrt(len(gaps))) if self.random else 0.0
            if not self.random or error < self.tolerance / 3 or draws >= MOST_DRAWS:
                return float(gaps.mean()), error
            draws *= 2

    def standing(
        self,
        adversarials: Mapping[int, Tensor],
        rows: NDArray[np.int64],
        draws: int,
        *purpose: object,
    ) -> NDArray[np.float64]:
        """(draws, len(rows), attacked tasks): 1 where a prediction is right in a draw, 0 where it
        is not or does not count (no label, or never right before); a sample without an adversarial
        is its clean image. Its passes are the search's.
        """
        case, samples = self.case, self.case.samples
        setting, drawing = case.setting, case.clean.drawing
        view = View(case.view.victim, [s.shape for s in case.view.segments], draws=draws)
        view.tick = case.view.tick
        parts = []
        for chunk in together(rows, self.n, setting, whole=drawing == "batch"):
            x = view.pack(samples.batch(chunk))
            moved = [adversarials.get(int(row), x[i]) for i, row in enumerate(chunk)]
            y = samples.labels[chunk].to(setting.device)
            with drawn(view, drawing, setting, samples.ids, chunk, case.method.name, *purpose):
                passes = view.predictions(torch.stack(moved).to(setting.device), y)
                right = torch.stack([self.right(logits, y) for logits in passes]).cpu().numpy()
            parts.append(right[:, np.isin(chunk, rows)])
        case.view.passes.forward += view.passes.forward
        self.best.searched.forward += view.passes.forward
        return (np.concatenate(parts, 1) & self.counted[rows]).astype(np.float64)

    def right(self, logits: Sequence[Tensor], y: Tensor) -> Tensor:
        """(B, attacked tasks): which predictions are right; y (B, T)."""
        threat = self.case.threat
        return torch.stack([~won(logits[t], y[:, t], threat) for t in threat.tasks], 1)
