"""Processes of this machine, each with its share of processors, and a GPU of its own where there
are several. One that is killed is replaced, and what it worked on is tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import torch

from robustbench_med.owners import lock
from robustbench_med.runs.executors.shown import Board
from robustbench_med.runs.executors.worker import error_of
from robustbench_med.runs.failing import failure_of
from robustbench_med.runs.job import Job
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Outcome, Unit
from robustbench_med.runs.working import Tell
from robustbench_med.store.failure import Failures

DEATHS = 3
"""Workers that may die at one cell before it is taken for the reason."""
WORKER = [sys.executable, "-m", "robustbench_med.runs.start_worker"]


class WorkerDiedError(Exception):
    """Processes that worked on a cell ended without a word, one after another."""


@dataclass
class Worker:
    """A process that works on one unit after another.

    Attributes:
        number: its place, from 0.
        process: with units on its standard input, messages on its standard output.
        unit: what it works on; None: it waits.
        done: numbers of the unit's cells that have come to something.
    """

    number: int
    process: subprocess.Popen[str]
    unit: Unit | None = None
    done: set[int] = field(default_factory=set)

    @classmethod
    def start(cls, number: int, threads: int, messages: queue.Queue[Any]) -> Worker:
        """Starts a process; what it sends comes into `messages` with its worker, None at its
        end.
        """
        process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **_gpu(number)},
        )
        worker = cls(number, process)
        assert process.stdout is not None
        arguments = (worker, process.stdout, messages)
        threading.Thread(target=_read, args=arguments, daemon=True).start()
        return worker

    def give(self, unit: Unit, job: Job) -> None:
        """Lets it work on a unit."""
        self.unit, self.done = unit, set()
        line = json.dumps({"unit": unit.written(), "job": json.dumps(job.plain())})
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: its last message says so
            print(line, file=self.process.stdin, flush=True)

    def end(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait()


def _read(worker: Worker, output: IO[str], messages: queue.Queue[Any]) -> None:
    for line in output:
        messages.put((worker, json.loads(line)))
    worker.process.wait()
    messages.put((worker, None))


def _gpu(number: int) -> dict[str, str]:
    """What shows a process one GPU, where there are several."""
    if torch.cuda.device_count() < 2:
        return {}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = seen.split(",") if seen else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}


@dataclass(frozen=True)
class Processes:
    """Works on units in `n` processes of so many threads each."""

    n: int
    threads: int

    def __call__(self, units: Sequence[Unit], session: Session[RunSpec], tell: Tell) -> None:
        """Works on all units; see `executors`."""
        with Board(session.job.display, units) as board:
            work = _Work(self, session, tell, board, deque(units))
            try:
                work.run()
            finally:
                for worker in work.workers.values():
                    worker.end()


class _Work:
    """Units that wait, and the workers that are at the others."""

    def __init__(
        self,
        size: Processes,
        session: Session[RunSpec],
        tell: Tell,
        board: Board,
        waiting: deque[Unit],
    ) -> None:
        self.size, self.session, self.tell, self.board = size, session, tell, board
        self.waiting, self.claimed = waiting, deque[Unit]()
        self.next_look = 0.0
        """When units are tried again that another process of the folder was at."""
        self.messages: queue.Queue[tuple[Worker, dict[str, Any] | None]] = queue.Queue()
        self.workers: dict[int, Worker] = {}
        self.deaths: Counter[int] = Counter()
        """Workers that died at a cell, by its number."""

    def run(self) -> None:
        """Until every unit is done."""
        for number in range(self.size.n):
            self._start(number)
        while self.waiting or self.claimed or any(w.unit for w in self.workers.values()):
            with contextlib.suppress(queue.Empty):
                self._receive(*self.messages.get(timeout=lock.BEAT if self.claimed else None))
            if self.claimed and time.monotonic() >= self.next_look:
                self.waiting.extend(self.claimed)  # who is at them may be done
                self.claimed.clear()
            for idle in self.workers.values():
                if idle.unit is None and self.waiting:
                    idle.give(self.waiting.popleft(), self.session.job)

    def _start(self, number: int) -> None:
        self.workers[number] = Worker.start(number, self.size.threads, self.messages)
        if self.waiting:
            self.workers[number].give(self.waiting.popleft(), self.session.job)

    def _receive(self, worker: Worker, message: dict[str, Any] | None) -> None:
        if message is None:
            self._replace(worker)
            return
        kind, content = message.pop("kind"), message
        if kind == "outcome":
            outcome = Outcome(**content)
            worker.done.add(outcome.number)
            self._tell(outcome)
        elif kind == "claimed" and worker.unit is not None:
            self.claimed.append(worker.unit)
            self.next_look = time.monotonic() + lock.BEAT
        elif kind == "done":
            worker.unit = None
        elif kind == "raised":
            raise error_of(content)
        else:
            self.board.receive(worker.number, kind, content)

    def _tell(self, outcome: Outcome) -> None:
        self.tell(outcome)
        self.board.finished()

    def _replace(self, worker: Worker) -> None:
        """Starts another worker in the place of one that has died; what it had not finished is
        tried again, but for a cell that too many died at.
        """
        rest = worker.unit and worker.unit.without(worker.done)
        code = worker.process.returncode
        if rest is not None:
            self.session.job.display.warn(
                f"a worker died (exit code {code}) at {rest.label}; another one goes on"
            )
            number, cell = next(rest.numbered())
            self.deaths[number] += 1
            if self.deaths[number] >= DEATHS:
                died = WorkerDiedError(
                    f"{DEATHS} processes died at it, the last with exit code {code}: out of memory?"
                )
                failure = failure_of(cell, self.session.of(rest.spec), died, "cell")
                Failures(self.session.out).write(failure)
                self._tell(Outcome(number=number, failure=failure.hash))
                rest = rest.without({number})
        if rest is not None:
            self.waiting.appendleft(rest)
        self._start(worker.number)
