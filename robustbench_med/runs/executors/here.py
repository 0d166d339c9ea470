"""This process works on one unit after another."""

from __future__ import annotations

import time
from collections.abc import Sequence

from robustbench_med.owners import lock
from robustbench_med.runs.estimates import weight_of
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Outcome, Unit
from robustbench_med.runs.working import Tell, work_on
from robustbench_med.store.claim import owner_of
from robustbench_med.store.store import Store


def compute(units: Sequence[Unit], session: Session[RunSpec], tell: Tell) -> None:
    """Works on units; those that another process of the folder is at come last, once it is done."""
    weights = {
        number: weight_of(cell, session) for unit in units for number, cell in unit.numbered()
    }
    display, began = session.job.display, time.time()
    with display.overall(f"all {len(weights)} cells", sum(weights.values())) as grid:

        def told(outcome: Outcome) -> None:
            tell(outcome)
            moved = grid.finished if is_new(outcome, session, began) else grid.left_out
            moved(weights[outcome.number])

        work(units, session, told)


def is_new(outcome: Outcome, session: Session[RunSpec], began: float) -> bool:
    """Whether the record of a cell was made since; those that fail have none."""
    if outcome.record is None:
        return False
    return Store(session.out).path(outcome.record).stat().st_mtime >= began


def work(units: Sequence[Unit], session: Session[RunSpec], tell: Tell) -> None:
    """Works on units until all are done."""
    said: set[str] = set()
    while units:
        claimed = []
        for unit in units:
            if work_on(unit, session, tell):
                continue
            claimed.append(unit)
            owner = owner_of(session.out, unit.key)
            if owner is not None and unit.key not in said:
                session.job.display.say(f"{unit.label}: {owner} is at it, it comes last")
                said.add(unit.key)
        if len(claimed) == len(units):
            time.sleep(lock.POLL)
        units = claimed
