"""A worker: a process that is given units as lines of JSON and answers with lines of JSON, until
who started it closes the pipe or is no more (`start_worker`).
"""

from __future__ import annotations

import contextlib
import json
import queue
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
from robustbench_med.runs.units import Outcome, Unit
from robustbench_med.runs.working import work_on

Send = Callable[..., None]
"""Sends one message: its kind, and what it says by name."""


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


def work(unit: str, job: str, send: Send) -> list[str]:
    """Works on a unit.

    Args:
        unit: `Unit.written`.
        job: JSON of `Job.plain`.
        send: told what goes on: `say`, `warn`, bars, and the `outcome` of each cell.

    Returns:
        Hashes of the records that are there now; none where another process is at the unit.

    Raises:
        UserError: data that are missing here, a device that is not there.
        Exception: what a cell raised, where the job is to end with the first that fails.
    """
    asked = Unit.model_validate(json.loads(unit))
    session = Session.open(asked.spec, Job.of(json.loads(job), Reporting(send)), lambda spec: None)
    records: list[str] = []

    def tell(outcome: Outcome) -> None:
        send("outcome", **outcome.model_dump())
        if outcome.record is not None:
            records.append(outcome.record)

    if not work_on(asked, session, tell):
        send("claimed")
    return records


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

        def advance(n: float, note: str = "") -> None:
            self.send("advance", n=n, note=note)

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
    while True:
        asked = json.loads(units.get())
        try:
            work(asked["unit"], asked["job"], send)
        except BaseException as error:  # code of the user's may end with any
            send("raised", **told(error))
        else:
            send("done")
