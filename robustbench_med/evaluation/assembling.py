"""The strongest attack there is on a black box: all that ask for no gradient, one after another on
what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robustbench_med.attacks import complete, gives, transfer
from robustbench_med.attacks.adaptive import Round
from robustbench_med.attacks.asking import Asked, cannot_know, members
from robustbench_med.evaluation import querying
from robustbench_med.evaluation.search import Attack, Search
from robustbench_med.evaluation.types import Attacked, AttackPass, Effort, Method, SearchRan
from robustbench_med.naming import BLACK_BOX

REVISION = 1
EOT = 4
"""Draws of a question to a random victim."""


def assemble(
    case: AttackPass,
    targets: NDArray[np.int64],
    attack: Attack,
    effort: Effort,
    note: Callable[[str], None],
) -> Attacked:
    """Attacks the targets of a black box with every member, each within its share of the queries;
    a sample keeps the adversarial with the lowest share standing.

    Args:
        case: its method's first source is the surrogate.
        targets: numbers of the samples, ascending.
        attack: computes one round.
        effort: its `max_queries` are of a sample, all members together.
        note: called with a line as rounds begin.

    Returns:
        What is left, with `ran`: the rounds, who was left out and why, and what the whole cannot
        know.
    """
    return Assembled(case, targets, attack, effort, note).run()


class Assembled(Search):
    """The state of such an attack."""

    def __post_init__(self) -> None:
        super().__post_init__()
        access, eot = gives(self.case.view.victim), EOT if self.random else 1
        queries, draws = self.effort.max_queries, self.view.draws
        self.within = Asked(str(access), self.case.threat, draws, eot, queries)
        self.members, self.left_out = members(self.within)

    def run(self) -> Attacked:
        """Every member in its turn, as long as something stands."""
        for member in self.members:
            if len(self.open):
                self.round(Round(BLACK_BOX, member.attack, member.parameters, member.why))
        surrogate = sum(source.answers for source in self.case.method.sources)
        self.best.ran = SearchRan(
            self.effort.name,
            "spent" if len(self.open) else "converged",
            None,
            self.tolerance,
            tuple(self.ran),
            self.left_out,
            tuple(cannot_know(self.within, surrogate)),
        )
        return self.best

    def attacked(self, each: Round, stage: tuple[object, ...]) -> Attacked:
        """A member's attack within its share of the queries."""
        share = next(one.queries for one in self.members if one.attack == each.attack)
        self.queries += share * len(self.open) / len(self.targets)
        given = complete(each.attack, each.parameters, random=self.random)
        sources = self.case.method.sources if each.attack == transfer.ENTRY.name else ()
        case = replace(
            self.case,
            method=Method(each.attack, given, sources=sources),
            view=self.view,
            setting=replace(self.case.setting, max_queries=share),
        )
        found = self.attack(case, self.open, stage)
        self.best.queries = querying.together(self.best.queries, found.queries)
        return found
