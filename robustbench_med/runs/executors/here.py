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
    while units:
        claimed = [unit for unit in units if not work_on(unit, session, tell)]
        if len(claimed) == len(units):
            time.sleep(lock.POLL)
        for unit in claimed:
            owner = owner_of(session.out, unit.key)
            if owner is not None and len(claimed) < len(units):
                session.job.display.say(f"{unit.label}: {owner} is at it, it comes last")
        units = claimed
