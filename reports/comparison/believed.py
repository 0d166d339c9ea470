"""Whether a row of a comparison can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_med.reports.marks import doubts, trivial_on
from robustbench_med.statistics import tolerance_of
from robustbench_med.store.record import Record
from robustbench_med.store.words import worst as least_believed


@dataclass(frozen=True)
class Trust:
    """Whether the figures can be believed: the word of the worst case, what that rests on, the
    marks, whether the victim is no better than a constant on a task, and whether it classifies
    worse than it could.
    """

    trust: str
    why: str
    marks: str
    is_trivial: bool
    is_under_trained: bool


def trust_of(
    records: Sequence[Record],
    measured: Sequence[Record],
    worst: float,
    under_trained: Sequence[str],
) -> Trust:
    """Whether a row can be believed.

    Args:
        records: its records, the noise control's among them.
        measured: those of attacks.
        worst: its worst-case robust accuracy.
        under_trained: marks of a victim that classifies worse than it could.
    """
    word, why = _believed(measured, worst)
    return Trust(
        trust=word,
        why=why,
        marks="; ".join([*doubts(records), *under_trained]),
        is_trivial=bool(trivial_on(records)),
        is_under_trained=bool(under_trained),
    )


def _believed(measured: Sequence[Record], worst: float) -> tuple[str, str]:
    """The word of the worst case of these attacks, and what it rests on: of all rows of a victim
    read together, that other rows of the folder leave less among it.
    """
    lowest = [record.trust.worst_case for record in measured]
    known = [figure for figure in lowest if figure is not None]
    if len(known) == len(lowest) and worst - np.mean(known) > tolerance_of(measured[0].spec.data.n):
        word = "doubtful" if measured[0].stochastic else "failed"
        return word, f"other attacks in the folder leave {np.mean(known):.3f}"
    found = least_believed(record.trust.together or record.trust for record in measured)
    return found.word or "", found.because
