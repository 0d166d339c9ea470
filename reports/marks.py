"""Marks: what a reader must know before believing a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robustbench_med.naming import BY_INDEX, by_index
from robustbench_med.reports import floors
from robustbench_med.reports.areas import area, left_out
from robustbench_med.reports.families import exact, over_trainings
from robustbench_med.store.record import Record

NAIVE = ("naive attack on a random model", "attacker unaware of the input transform")
"""Marks of rows whose attack ignored the defence: their robust accuracy is an over-estimate and
gets no rank.
"""


ABSTAINS = "abstains"
"""The mark of rows whose accuracy counts what the victim rejects as right; they get no rank."""


def marks(family: Sequence[Record]) -> list[str]:
    """What a reader must know before believing a row."""
    return [
        *(["synthetic data"] if family[0].synthetic else []),
        *([BY_INDEX] if by_index(family[0].spec.data.name) else []),
        *doubts(family),
        *_below_floor(family),
    ]


def _below_floor(family: Sequence[Record]) -> list[str]:
    """A mark where the mean over the attacked tasks is no higher than the floor's; else for every
    task that is no higher than its own.
    """
    floor, areas = floors.of(family), over_trainings(family, lambda record: area(record, "robust"))
    robust = over_trainings(family, lambda record: exact(record, "robust"))
    if floors.below_floor(float(np.mean(robust)), floor, float(np.mean(areas)) if areas else None):
        return [floors.BELOW]
    if floor is not None and floor.multilabel:
        return []  # the table of findings has each
    return [
        f"{floors.BELOW} on {family[0].names.tasks[t]}"
        for t in family[0].spec.threat.tasks
        if floors.below_floor(
            float(np.mean([record.figures.tasks[t].robust for record in family])),
            floors.of_tasks(family, [t]),
        )
    ]


def doubts(family: Sequence[Record]) -> list[str]:
    """The marks but for synthetic data and the floor."""
    first, sentences = family[0], [*trivial_on(family), *left_out(family[0])]
    if broken := max(record.figures.not_finite for record in family):
        sentences.append(f"not finite for {broken} samples")
    if first.spec.victim.abstains:
        sentences.append(abstains(family))
    if first.naive:
        sentences.append(NAIVE[0] if first.stochastic else NAIVE[1])
    if first.stochastic and first.draws == 1 and first.spec.protocol.name == "sound":
        sentences.append("one draw")
    if first.batch_dependent:
        sentences.append("depends on its batch")
    marked = {"not repeatable": not first.repeatable, "unverified data": first.unverified}
    marked["carried"] = first.spec.carried is not None and not first.spec.attack.after
    return [*sentences, *(mark for mark, applies in marked.items() if applies)]


def abstains(family: Sequence[Record]) -> str:
    """The mark of a victim with a reject option: how much of the attacked tasks it answers."""
    shares = []
    for when in ("clean", "robust"):
        found = [
            getattr(task.abstention, f"{when}_coverage")
            for record in family
            for task in (record.figures.tasks[t] for t in record.spec.threat.tasks)
            if task.abstention is not None
        ]
        shares.append(float(np.mean(found)) if found else float("nan"))
    return f"{ABSTAINS} (answers {shares[0]:.3f}, {shares[1]:.3f} under attack)"


def trivial_on(family: Sequence[Record]) -> list[str]:
    """A mark for every task at which any of these victims is no better than a constant."""
    return sorted({f"trivial on {name}" for record in family for name in record.trivial})


def quotable(row: Any) -> bool:
    """Whether anything can be said of a row: its victim is not trivial, its attacks worked."""
    return bool(row.trust != "failed" and not row.is_trivial)


def flops(gflops: float) -> str:
    """FLOPs in words; 0 are those of a black box."""
    return f"{gflops:.3g} GFLOPs" if gflops else "FLOPs not known"
