"""This process works on one unit after another."""

from __future__ import annotations

import time
from collections.abc import Sequence

from robustbench_med.owners import lock
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Unit
from robustbench_med.runs.working import Tell, work_on
from robustbench_med.store.claim import owner_of


def compute(units: Sequence[Unit], session: Session[RunSpec], tell: Tell) -> None:
    """Works on units; those that another process of the folder is at come last, once it is done."""
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
