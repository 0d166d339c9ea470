"""Work on one unit: claimed, so that no other process of the folder does the same, its cells
evaluated one after another, what fails kept as a failure.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch

from robustbench_med.owners.lock import Lock
from robustbench_med.runs.cell import evaluate_cell
from robustbench_med.runs.failing import Where, failure_of
from robustbench_med.runs.requests import request_hash
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.units import Outcome, Unit
from robustbench_med.store.claim import claim
from robustbench_med.store.failure import Failures
from robustbench_med.store.store import Store

Tell = Callable[[Outcome], object]
"""Called with what became of a cell, as soon as that is known."""


def work_on(unit: Unit, session: Session[RunSpec], tell: Tell) -> bool:
    """Evaluates the cells of a unit; False where another process is at it.

    Raises:
        Exception: what a cell raised, where the job is to end with the first that fails.
    """
    lock = claim_of(unit, session.out)
    if not lock.take():
        return False
    try:
        with session.told(lock):
            for finished, (number, cell) in enumerate(unit.numbered()):
                lock.tell(finished=finished)
                tell(outcome_of(number, cell, unit.of, session))
    finally:
        lock.release()
    return True


def claim_of(unit: Unit, out: Path) -> Lock:
    """The claim of a unit, to be taken by who works on it."""
    cells = {"cells": len(unit.cells), "finished": 0}
    return claim(out, unit.key, {"victim": unit.victim, "since": time.time(), **cells})


def outcome_of(number: int, cell: Cell, of: int, session: Session[RunSpec]) -> Outcome:
    """The record of a cell, from the store or measured now, or its failure."""
    failures, request = Failures(session.out), request_hash(cell, session)
    if session.job.skip_failed and (known := failures.kept(request)) is not None:
        session.job.display.say(f"[{number}/{of}] {known.cell}: failed before, left out")
        return Outcome(number=number, failure=request)
    where: Where = "victim"
    try:
        session.victim(cell)
        where = "cell"
        record = evaluate_cell(cell, session, Store(session.out), f"{number}/{of}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # code of the user's may end with any
        if session.job.fail_fast:
            raise
        failure = failure_of(cell, session, error, where)
        failures.write(failure)
        session.job.display.warn(f"[{number}/{of}] {failure.cell} failed: {failure.error}")
    else:
        failures.remove(request)
        return Outcome(number=number, record=record.hash)
    session.victims.forget()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Outcome(number=number, failure=request)
