"""A Ray cluster: a task a unit. What a node makes comes back to the driver, so that no folder need
be shared; data are found on each node by `--data-root` or in its cache.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.owners.lock import POLL, Lock
from robustbench_med.paths import home
from robustbench_med.runs.device import threads
from robustbench_med.runs.executors.parcel import (
    Files,
    checkpoints_of,
    delivered,
    packed,
    records_of,
    unpacked,
)
from robustbench_med.runs.executors.shown import Board
from robustbench_med.runs.executors.worker import Sessions, error_of, told, work
from robustbench_med.runs.failing import failure_of
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Outcome, Unit
from robustbench_med.runs.working import Tell, claim_of
from robustbench_med.store.failure import Failures

RETRIES = 3
"""Times that a unit is tried again when its node, or its process there, is lost."""
AHEAD = 2
"""Units that are handed over for each that the cluster can work on at once."""
Made = tuple[Files, Files, list[str]]
"""Files of a run's folder, files below medrobust's home, and messages as JSON."""


def work_there(
    unit: str, job: str, recorded: Files, trained: Files, weights: list[str], n_threads: int
) -> Made:
    """Works on a unit on a node, in a folder of its own.

    Args:
        unit: `Unit.written`.
        job: JSON of `Job.plain`.
        recorded: files of the run's folder that need not be made again.
        trained: the same of medrobust's home.
        weights: files below it that are to come back.
        n_threads: of PyTorch.
    """
    messages: list[str] = []

    def send(kind: str, **content: Any) -> None:
        if kind not in ("bar", "advance"):
            messages.append(json.dumps({"kind": kind, **content}))

    with tempfile.TemporaryDirectory(prefix="medrobust-") as name:
        unpacked(recorded, Path(name))
        unpacked(trained, home())
        try:
            with threads(n_threads):
                work(unit, json.dumps({**json.loads(job), "out": name}), Sessions(send))
        except BaseException as error:  # code of the user's may end with any
            message = told(error)
            there = f"on the node {socket.gethostname()}: {message['error']}"
            send("raised", **{**message, "error": there})
        made = packed(Path(name).rglob("*"), Path(name))
    return made, packed((home() / path for path in weights), home()), messages


@dataclass(frozen=True)
class RayCluster:
    """Works on units on the nodes of a cluster.

    Attributes:
        address: of the cluster; None: one of this machine, for this run alone.
        threads: processors of a task.
        gpus: GPUs of a task, or a part of one.
    """

    address: str | None
    threads: int
    gpus: float

    def __call__(self, units: Sequence[Unit], session: Session[RunSpec], tell: Tell) -> None:
        """Works on all units; see `executors`.

        Raises:
            UserError: Ray is missing, or there is no such cluster.
        """
        ray = imported()
        begun = not ray.is_initialized()
        if begun:
            self._connect(ray)
        try:
            with Board(session.job.display, units) as board:
                _Work(ray, self, session, tell, board).run(units)
        finally:
            if begun:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        try:
            own = {"include_dashboard": False} if self.address is None else {}
            ray.init(address=self.address, log_to_driver=False, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            line = " ".join(str(error).split())
            raise UserError(f"--address {self.address}: no Ray cluster answers ({line})") from error


def imported() -> Any:
    """Ray, which reports nothing about its use."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise UserError("--executor ray needs Ray: pip install 'medrobust[ray]'") from error
    return ray


class _Work:
    """Units that wait, and those that are on their way."""

    def __init__(
        self, ray: Any, size: RayCluster, session: Session[RunSpec], tell: Tell, board: Board
    ) -> None:
        self.ray, self.session, self.tell, self.board = ray, session, tell, board
        self.threads = size.threads
        self.task = ray.remote(work_there).options(
            num_cpus=size.threads, num_gpus=size.gpus, max_retries=RETRIES
        )
        self.under_way: dict[Any, tuple[Unit, Lock]] = {}

    def run(self, units: Sequence[Unit]) -> None:
        """Until every unit is done."""
        waiting = deque(units)
        try:
            while waiting or self.under_way:
                claimed = deque[Unit]()
                while waiting and len(self.under_way) < self._most():
                    if not self._hand_over(waiting[0]):
                        claimed.append(waiting[0])  # another process of the folder is at it
                    waiting.popleft()
                waiting.extend(claimed)
                ready, _ = (
                    self.ray.wait(list(self.under_way), timeout=POLL)
                    if (self.under_way)
                    else ([], [])
                )
                for reference in ready:
                    self._receive(reference)
        finally:
            for _, lock in self.under_way.values():
                lock.release()

    def _most(self) -> int:
        at_once = int(self.ray.cluster_resources().get("CPU", 0)) // self.threads
        return AHEAD * max(1, at_once)

    def _hand_over(self, unit: Unit) -> bool:
        lock = claim_of(unit, self.session.out)
        if not lock.take():
            return False
        planned = self.session.of(unit.spec)
        weights = checkpoints_of(unit, planned)
        job = replace(self.session.job, shard=None)
        reference = self.task.remote(
            unit.written(),
            json.dumps(job.plain()),
            packed(records_of(unit, planned), self.session.out),
            packed(weights, home()),
            [path.relative_to(home()).as_posix() for path in weights],
            self.threads,
        )
        self.under_way[reference] = unit, lock
        return True

    def _receive(self, reference: Any) -> None:
        unit, lock = self.under_way.pop(reference)
        try:
            recorded, trained, messages = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self._lost(unit, error)
        else:
            unpacked(trained, home())
            with tempfile.TemporaryDirectory(prefix="medrobust-") as name:
                unpacked(recorded, Path(name))
                delivered(Path(name), self.session)
            for text in messages:
                self._message(json.loads(text))
        finally:
            lock.release()

    def _message(self, message: dict[str, Any]) -> None:
        kind = message.pop("kind")
        if kind == "outcome":
            self.tell(Outcome(**message))
            self.board.finished()
        elif kind == "raised":
            raise error_of(message)
        else:
            self.board.receive(0, kind, message)

    def _lost(self, unit: Unit, error: Exception) -> None:
        """Every cell of a unit fails whose task was lost too often."""
        for number, cell in unit.numbered():
            failure = failure_of(cell, self.session.of(unit.spec), error, "cell")
            Failures(self.session.out).write(failure)
            self.tell(Outcome(number=number, failure=failure.hash))
            self.board.finished()
