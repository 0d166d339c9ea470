"""A worker: a process that is given units as lines of JSON and answers with lines of JSON, until
who started it closes the pipe or is no more (`start_worker`).
"""

from __future__ import annotations

import contextlib
import json
import queue
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import torch

from robustbench_med.errors import LeftOutWarning, Notice, UserError
from robustbench_med.models import user_file
from robustbench_med.progress import Display
from robustbench_med.runs.job import Job
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Outcome, Unit
from robustbench_med.runs.working import work_on

Send = Callable[..., None]
"""Sends one message: its kind, and what it says by name."""


BETWEEN = 0.25
"""Seconds between two messages about how far a bar is."""


class WorkerRaisedError(Exception):
    """What a unit raised in another process; the message holds its traceback."""


def told(error: BaseException) -> dict[str, Any]:
    """What is sent of an error that a unit raised."""
    own = user_file.mishap(error)
    return {
        "user": own is not None or isinstance(error, UserError),
        "error": own or str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def error_of(message: Mapping[str, Any]) -> Exception:
    """The error that a message tells of: one line of the user's, else with its traceback."""
    if message["user"]:
        return UserError(message["error"])
    return WorkerRaisedError(message["traceback"])


def work(unit: str, job: str, sessions: Sessions) -> list[str]:
    """Works on a unit.

    Args:
        unit: `Unit.written`.
        job: JSON of `Job.plain`.
        sessions: whose `send` is told what goes on: `say`, `warn`, bars, and the `outcome` of each
            cell.

    Returns:
        Hashes of the records that are there now; none where another process is at the unit.

    Raises:
        UserError: data that are missing here, a device that is not there.
        Exception: what a cell raised, where the job is to end with the first that fails.
    """
    asked = Unit.model_validate(json.loads(unit))
    session, send = sessions.of(asked, job), sessions.send
    records: list[str] = []

    def tell(outcome: Outcome) -> None:
        send("outcome", **outcome.model_dump())
        if outcome.record is not None:
            records.append(outcome.record)

    if not work_on(asked, session, tell):
        send("claimed")
    return records


class Sessions:
    """Opens the sessions of units, and keeps the last one, which the next unit of the same data set
    works with too.

    Attributes:
        send: where their displays send everything.
    """

    def __init__(self, send: Send) -> None:
        self.send = send
        self._last: tuple[tuple[str, str], Session[RunSpec]] | None = None

    def of(self, unit: Unit, job: str) -> Session[RunSpec]:
        """The session of a unit under a job (JSON of `Job.plain`)."""
        key = unit.spec.model_dump_json(), job
        if self._last is None or self._last[0] != key:
            self._last = None
            shown = Job.of(json.loads(job), Reporting(self.send))
            self._last = key, Session.open(unit.spec, shown, lambda spec: None)
        return self._last[1]


class Reporting(Display):
    """A display that sends everything to who shows it."""

    def __init__(self, send: Send) -> None:
        super().__init__(quiet=True)
        self.send = send

    def say(self, line: str) -> None:
        """One line about what is going on."""
        self.send("say", line=line)

    def warn(self, line: str) -> None:
        """One line the user must not miss."""
        self.send("warn", line=line)

    @contextlib.contextmanager
    def bar(self, description: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """A progress bar, shown elsewhere."""

        gone, sent = 0.0, time.monotonic()

        def advance(n: float, note: str = "") -> None:
            nonlocal gone, sent
            gone += n
            if time.monotonic() - sent >= BETWEEN:
                self.send("advance", n=gone, note=note)
                gone, sent = 0.0, time.monotonic()

        self.send("bar", description=description, total=total)
        yield advance
        self.send("bar", description="", total=0)


def answers(output: TextIO) -> Send:
    """Sends messages as lines of JSON."""

    def send(kind: str, **content: Any) -> None:
        print(json.dumps({"kind": kind, **content}), file=output, flush=True)

    return send


def serve(units: queue.Queue[str], send: Send, threads: int) -> None:
    """Works on every unit that comes, with so many threads; what a unit raises is sent too."""
    torch.set_num_threads(threads)

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, (Notice, LeftOutWarning)):
            send("warn", line=str(message))

    warnings.showwarning = show  # type: ignore[assignment]
    sessions = Sessions(send)
    while True:
        asked = json.loads(units.get())
        try:
            work(asked["unit"], asked["job"], sessions)
        except BaseException as error:  # code of the user's may end with any
            send("raised", **told(error))
        else:
            send("done")
