"""One task of a Slurm array: units that are worked on one after another, on a node that shares the
folder of the run. What it does stands in a file there, which outlives it: a task that is requeued
goes on from that.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.owners import lock
from robustbench_med.runs.device import threads
from robustbench_med.runs.executors.worker import Sessions, told, work
from robustbench_med.runs.units import Unit
from robustbench_med.store.ledger import OUTCOME, whole_lines

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""One of them tells that the time is nearly up, or that others need the node."""


@dataclass(frozen=True)
class Task:
    """Plain data that submitit pickles and calls on a node.

    Attributes:
        units: `Unit.written` of each.
        job: JSON of `Job.plain`.
        notes: the file of what it does: lines of JSON.
        threads: of PyTorch.
    """

    units: tuple[str, ...]
    job: str
    notes: str
    threads: int

    def __call__(self) -> list[str]:
        """Works on its units; hashes of the records that are there now.

        Raises:
            UserError: the folder of the run is not to be seen here.
            Exception: what a unit raised; the notes tell it too.
        """
        path = Path(self.notes)
        if not path.parent.is_dir():
            raise UserError(
                f"{path.parent} is not to be seen on this node: all nodes must share it"
            )
        records, claimed = list[str](), list[str]()
        with path.open("a", encoding="utf-8") as notes, threads(self.threads), ended_by_signals():

            def send(kind: str, **content: Any) -> None:
                if kind in ("bar", "advance"):  # the claim of the unit tells that
                    return
                if kind == "claimed":
                    claimed.append(kind)
                    return
                line = {"kind": kind, **content, "at": time.time()}
                print(content.get("line", json.dumps(line)), flush=True)  # into the task's log
                notes.write(json.dumps(line) + "\n")
                notes.flush()

            sessions = Sessions(send)
            try:
                for unit in self._left():
                    records += _worked(unit, self.job, sessions, claimed)
            except Exception as error:
                send("raised", **told(error))
                raise
        return records

    def checkpoint(self) -> Any:
        """What submitit calls after it has requeued this task: the same, since its notes tell what
        need not be done again.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _left(self) -> Iterator[Unit]:
        """Its units without the cells that came to something before it was requeued."""
        noted = map(json.loads, whole_lines(Path(self.notes)))
        done = {line["number"] for line in noted if line["kind"] == OUTCOME}
        for text in self.units:
            left = Unit.model_validate(json.loads(text)).without(done)
            if left is not None:
                yield left


def _worked(unit: Unit, job: str, sessions: Sessions, claimed: list[str]) -> list[str]:
    """The records of a unit, once no other process is at it, which `claimed` would tell."""
    while True:
        claimed.clear()
        records = work(unit.written(), job, sessions)
        if not claimed:
            return records
        time.sleep(lock.BEAT)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, work that submitit's signal ends is left as by Ctrl-C, so that no cell is taken to
    have failed and claims are given back.
    """
    usual = {number: signal.getsignal(number) for number in SIGNALS}
    ends: list[BaseException] = []

    def ending(submitit: Callable[[int, FrameType | None], Any]) -> Callable[..., None]:
        def end(number: int, frame: FrameType | None) -> None:
            try:
                submitit(number, frame)  # requeues the task
            except BaseException as error:
                ends.append(error)
                raise KeyboardInterrupt from error

        return end

    for number, handler in usual.items():
        if callable(handler):
            signal.signal(number, ending(handler))
    try:
        yield
    except KeyboardInterrupt:
        if ends:
            raise ends[0] from None
        raise
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
