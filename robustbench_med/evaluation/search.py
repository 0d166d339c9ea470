"""A search for the strongest attack: rounds over all samples, until the answer stands or a budget
is spent.

A round attacks the samples that still stand, and each keeps the better candidate. What it takes of
a random victim's robust accuracy is measured on fresh draws that chose nothing: keeping the lowest
of noisy figures takes points where nothing was won.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import View
from robustbench_med.attacks.adaptive import ALGORITHM, BLACK_BOX, FIRST, Round, required, rounds
from robustbench_med.attacks.adaptive import complete as complete_round
from robustbench_med.attacks.adaptive import facing as facing_of
from robustbench_med.attacks.losses import standing
from robustbench_med.evaluation.batching import drawn, together
from robustbench_med.evaluation.types import (
    Attacked,
    AttackPass,
    Effort,
    Method,
    RoundRan,
    SearchRan,
)
from robustbench_med.statistics import tolerance_of as tolerance_of

REVISION = 1
FIRST_DRAWS, MOST_DRAWS = 16, 256
"""Fresh draws that measure what a round took, doubled until its error is small."""
OVER = 10
"""Passes that `max` spends over those of `auto`."""
Attack = Callable[[AttackPass, NDArray[np.int64], tuple[object, ...]], Attacked]
"""Attacks some samples; the last argument tells this round's random numbers from another's."""


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
        self.facing = facing_of(case.view, case.threat)
        m = len(case.view.segments)
        self.best = Attacked(
            linf=np.zeros((self.n, m), np.float32),
            l2=np.zeros((self.n, m), np.float32),
            smallest=None,
            computed=len(self.targets),
        )
        self.open = self.targets
        self.left = float(case.clean.right[:, list(case.threat.tasks)].mean())
        self.passes = self.queries = 0.0

    def run(self) -> Attacked:
        """Rounds until one of the ways to stop; the first runs whatever the budget."""
        missing, outcome = required(self.facing), "capped"
        basis = 0.0  # what auto spent, once `max` goes on from there
        for each in self.plan():
            if len(self.open) == 0:
                outcome = "converged"
                break
            if each.kind == BLACK_BOX and self.queries + each.passes > self.effort.max_queries:
                missing.discard(BLACK_BOX)
                continue
            done = not missing and self.stands()
            if self.ran and not basis and (done or self.over(each)):
                outcome = "converged" if done else "capped"
                if self.effort.name != "max":
                    break
                basis = self.passes + self.queries
            if basis and self.passes + self.queries >= (1 + OVER) * basis:
                outcome = "spent"
                break
            self.round(each)
            missing.discard(each.kind)
        self.best.ran = SearchRan(
            self.effort.name,
            outcome,
            2 * self.effort.max_passes if outcome == "capped" else None,
            self.tolerance,
            tuple(self.ran),
        )
        return self.best

    def plan(self) -> Iterator[Round]:
        """The method's own attack first, then what an adaptive attack does besides."""
        method, others = self.case.method, rounds(self.facing)
        if method.name == "adaptive":
            return others
        own = Round(FIRST, method.name, dict(method.parameters), "as asked for")
        return itertools.chain([own], (self.renamed(each) for each in others))

    @staticmethod
    def renamed(each: Round) -> Round:
        """The first round of an adaptive attack, behind another's."""
        return replace(each, kind=ALGORITHM) if each.kind == FIRST else each

    def over(self, each: Round) -> bool:
        """Whether a round along gradients would go over the budget."""
        expected = self.passes + each.passes * len(self.open) / len(self.targets)
        return each.kind != BLACK_BOX and expected > self.effort.max_passes

    def stands(self) -> bool:
        """Whether the last two rounds, of different kinds, took less than the tolerance."""
        if len(self.ran) < 2:
            return False
        before, last = self.ran[-2:]
        return before.kind != last.kind and before.taken + last.taken < self.tolerance

    def round(self, each: Round) -> None:
        """One round: attack, choose, and measure what it took."""
        number, spent = len(self.ran) + 1, self.passes
        self.note(f"round {number}: {each.kind}, {spent:.0f} passes, {self.left:.3f} left")
        method = Method(each.attack, complete_round(each, self.facing))
        case = replace(self.case, method=method)
        stage = ("round", number)
        share = len(self.open) / len(self.targets)
        if each.kind == BLACK_BOX:
            self.queries += each.passes * share
        else:
            self.passes += each.passes * share
        found = self.attack(case, self.open, stage)
        self.best.searched.forward += found.searched.forward
        self.best.searched.backward += found.searched.backward
        if number == 1:
            self.best.losses = found.losses
        previous = dict(self.best.adversarials)
        changed = self.choose(found, stage)
        taken, error = self.taken(previous, changed, stage)
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

    def choose(self, found: Attacked, stage: tuple[object, ...]) -> NDArray[np.int64]:
        """Keeps the better candidate of each sample under the same draws; returns whose changed."""
        draws, rows = self.case.view.draws, self.open
        old = self.standing(self.best.adversarials, rows, draws, *stage, "choose").mean(0)
        new = self.standing(found.adversarials, rows, draws, *stage, "choose").mean(0)
        better = new < old
        for row in rows[better].tolist():
            self.best.adversarials[row] = found.adversarials[row]
            self.best.linf[row], self.best.l2[row] = found.linf[row], found.l2[row]
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
        random, gaps, draws = self.case.view.draws > 1, np.zeros(0), FIRST_DRAWS
        while True:
            purpose = (*stage, "taken", draws)
            wanted = draws - len(gaps) if random else 1
            old, new = (
                self.standing(adversarials, changed, wanted, *purpose).sum(1) / self.n
                for adversarials in (previous, self.best.adversarials)
            )
            gaps = np.concatenate((gaps, old - new))
            error = float(gaps.std(ddof=1) / math.sqrt(len(gaps))) if random else 0.0
            if not random or error < self.tolerance / 3 or draws >= MOST_DRAWS:
                return float(gaps.mean()), error
            draws *= 2

    def standing(
        self,
        adversarials: Mapping[int, Tensor],
        rows: NDArray[np.int64],
        draws: int,
        *purpose: object,
    ) -> NDArray[np.float64]:
        """(draws, len(rows)): share of the attacked tasks still right in each draw; a sample
        without an adversarial is its clean image.
        """
        case, samples = self.case, self.case.samples
        setting, drawing = case.setting, case.clean.drawing
        aims = samples.labels if case.method.goals is None else case.method.goals
        view = View(case.view.victim, [s.shape for s in case.view.segments], draws=draws)
        parts = []
        for chunk in together(rows, self.n, setting, whole=drawing == "batch"):
            x = view.pack(samples.batch(chunk))
            moved = [adversarials.get(int(row), x[i]) for i, row in enumerate(chunk)]
            y = aims[chunk].to(setting.device)
            with drawn(view, drawing, setting, samples.ids, chunk, case.method.name, *purpose):
                passes = view.predictions(torch.stack(moved).to(setting.device))
                shares = torch.stack([standing(logits, y, case.threat) for logits in passes])
            parts.append(shares[:, torch.from_numpy(np.isin(chunk, rows))].cpu().double().numpy())
        case.view.passes.forward += view.passes.forward
        return np.concatenate(parts, 1)
