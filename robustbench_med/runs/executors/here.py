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
            weight = weights[outcome.number]
            if was_there(outcome, session, began):
                grid.left_out(weight)
            else:
                grid.finished(weight)

        work(units, session, told)


def was_there(outcome: Outcome, session: Session[RunSpec], began: float) -> bool:
    """Whether a cell had its record before this."""
    if outcome.record is None:
        return False
    return Store(session.out).path(outcome.record).stat().st_mtime < began


def work(units: Sequence[Unit], session: Session[RunSpec], tell: Tell) -> None:
    """Works on units until all are done."""
    while units:
        claimed = [unit for unit in units if not work_on(unit, session, tell)]
        if len(claimed) == len(units):
            time.sleep(lock.POLL)
        for unit in claimed:
            owner = owner_of(session.out, unit.key)
            if owner is not None and len(claimed) < len(units):
                session.job.display.say(f"{unit.label}: {owner} is at it, it comes last")
        units = claimed
