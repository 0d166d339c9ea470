"""How far a run is, found in its folder alone: during and after it, from another terminal or
another machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.progress import clock
from robustbench_med.store.belief import HASH_LENGTH
from robustbench_med.store.claim import Claim, claims
from robustbench_med.store.failure import Failures
from robustbench_med.store.ledger import Entry, Ledger, every, last
from robustbench_med.store.store import RECORDS

TRAINING = "training "
"""How what a worker is doing begins while it trains a victim."""


@dataclass(frozen=True)
class Worker:
    """A unit that somebody works on.

    Attributes:
        who: process and machine.
        victim: model, defense, data, fold, train_seed.
        since: when it began, in seconds since 1970.
        finished, cells: of the unit.
        doing: in words; `done` of `total` steps of it.
    """

    who: str
    victim: dict[str, Any]
    since: float
    finished: int
    cells: int
    doing: str
    done: float
    total: float


@dataclass(frozen=True)
class FailedCell:
    """A cell that failed: what it is called, and why."""

    name: str
    error: str


@dataclass(frozen=True)
class Earlier:
    """A run that began before the last one, and has ended.

    Attributes:
        owner: the process that began it.
        started: seconds since 1970.
        cells: of it; `done` have a record, `failed` have none, the others were not begun.
    """

    owner: str
    started: float
    cells: int
    done: int
    failed: int


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        owner: the process that began it.
        running: whether that process or a worker lives, or a scheduler was given what is left.
        handed_to: the scheduler's job that does the work; None: the owner and its workers do.
        started: seconds since 1970; `seconds` since then, or until the last cell.
        trainings: that were needed; `trained` of them are done, `training` under way.
        cells: of the run; `done` have a record, `before` of these had it when the run began,
            `failed` have none, `waiting` are not begun.
        workers: who works on what.
        failures: the cells that failed.
        per_minute: cells a minute, those done before not counted; None before the first.
        left: seconds to go at this rate of passes; None before the first cell.
        earlier: other runs in the folder, the newest first; not those that a later one took up.
    """

    owner: str
    running: bool
    handed_to: str | None
    started: float
    seconds: float
    trainings: int
    trained: int
    training: int
    cells: int
    done: int
    before: int
    failed: int
    waiting: int
    workers: tuple[Worker, ...]
    failures: tuple[FailedCell, ...]
    per_minute: float | None
    left: float | None
    earlier: tuple[Earlier, ...] = ()

    def __repr__(self) -> str:
        how = "running" if self.running else "ended"
        left = "" if self.left is None else f", about {clock(self.left)} left"
        return (
            f"<run {how}: {self.done} of {self.cells} cells done, {self.failed} failed,"
            f" {self.waiting} waiting{left}>"
        )


def status(out: Path) -> Status:
    """How far the last run in a folder is, and how far others before it came.

    Raises:
        UserError: no run began there.
    """
    ledgers = last(out)
    if not ledgers:
        raise UserError(f"no run began in {out}; `medrobust run --out {out}` begins one")
    return replace(_Reading(out, ledgers).status(), earlier=_earlier(out, ledgers))


def _earlier(out: Path, last_ones: Sequence[Ledger]) -> tuple[Earlier, ...]:
    """Runs before the last ones whose cells no later run has."""
    taken_up = {_cells(ledger) for ledger in last_ones}
    found = []
    for ledger in reversed(every(out)):
        cells = _cells(ledger)
        if any(cells <= later for later in taken_up):
            continue
        taken_up.add(cells)
        done = sum(entry.record is not None for entry in ledger.entries.values())
        failed = len(ledger.entries) - done
        found.append(Earlier(str(ledger.owner), ledger.started, len(cells), done, failed))
    return tuple(found)


def _cells(ledger: Ledger) -> frozenset[tuple[str, int]]:
    """The cells of a run: which unit they are of, and their numbers."""
    return frozenset((unit.key, number) for unit in ledger.units for number in unit.cells)


class _Reading:
    """What the files of a folder say of some runs."""

    def __init__(self, out: Path, ledgers: Sequence[Ledger]) -> None:
        self.out, self.ledgers = out, ledgers
        keys = {unit.key for ledger in ledgers for unit in ledger.units}
        self.claims = [each for each in claims(out) if each.about.get("unit") in keys]
        self.entries = [entry for ledger in ledgers for entry in ledger.entries.values()]
        self.before = [
            entry
            for ledger in ledgers
            for entry in ledger.entries.values()
            if self._was_there(entry, ledger)
        ]

    def _was_there(self, entry: Entry, ledger: Ledger) -> bool:
        """Whether a cell had its record when the run began."""
        if entry.record is None:
            return False
        path = self.out / RECORDS.folder / f"{entry.record[:HASH_LENGTH]}.json"
        return path.exists() and path.stat().st_mtime < ledger.started

    def status(self) -> Status:
        """All of it."""
        workers = tuple(map(_worker, self.claims))
        failures = self.failures()
        cells = sum(len(unit.cells) for ledger in self.ledgers for unit in ledger.units)
        done = sum(entry.record is not None for entry in self.entries)
        running = bool(workers) or any(each.goes_on or each.waits for each in self.ledgers)
        needed, trained = self.trainings()
        started = min(ledger.started for ledger in self.ledgers)
        until = time.time() if running else max((e.at for e in self.entries), default=started)
        per_minute, left = self.rate(until)
        waiting = cells - len(self.entries) - sum(1 for worker in workers)
        return Status(
            owner=str(self.ledgers[-1].owner),
            running=running,
            handed_to=self.ledgers[-1].handed_to,
            started=started,
            seconds=until - started,
            trainings=needed,
            trained=trained,
            training=sum(worker.doing.startswith(TRAINING) for worker in workers),
            cells=cells,
            done=done,
            before=len(self.before),
            failed=len(self.entries) - done,
            waiting=max(waiting, 0),
            workers=workers,
            failures=failures,
            per_minute=per_minute,
            left=left if running else None,
        )

    def trainings(self) -> tuple[int, int]:
        """Trainings that were needed, and those that are done: some cell of the victim has come to
        a record, or a worker is past its training.
        """
        past = {
            each.about["unit"]
            for each in self.claims
            if each.about.get("doing", TRAINING) and not _is_training(each)
        }
        needed = trained = 0
        for ledger in self.ledgers:
            for unit in ledger.units:
                if unit.trained:
                    continue
                entries = [ledger.entries.get(number) for number in unit.cells]
                needed += 1
                trained += unit.key in past or any(entry and entry.record for entry in entries)
        return needed, trained

    def failures(self) -> tuple[FailedCell, ...]:
        """The cells that failed."""
        kept, found = Failures(self.out), []
        for entry in self.entries:
            failure = kept.kept(entry.failure) if entry.failure else None
            if failure is not None:
                found.append(FailedCell(str(failure.cell), failure.error))
        return tuple(found)

    def rate(self, until: float) -> tuple[float | None, float | None]:
        """Cells a minute, and seconds left at the rate of passes so far."""
        before = {(entry.number, entry.at) for entry in self.before}
        spent = ahead = 0.0
        fresh, begun = 0, []
        for ledger in self.ledgers:
            own = [e for e in ledger.entries.values() if (e.number, e.at) not in before]
            fresh += len(own)
            spent += sum(ledger.weights[entry.number] for entry in own)
            ahead += sum(w for n, w in ledger.weights.items() if n not in ledger.entries)
            begun.append(ledger.started)
        seconds = until - min(begun)
        if not fresh or seconds <= 0:
            return None, None
        return 60 * fresh / seconds, ahead * seconds / spent if spent else None


def _is_training(claim: Claim) -> bool:
    return str(claim.about.get("doing", TRAINING)).startswith(TRAINING)


def _worker(claim: Claim) -> Worker:
    about = claim.about
    return Worker(
        who=str(claim.owner),
        victim=about.get("victim", {}),
        since=float(about.get("since", 0.0)),
        finished=int(about.get("finished", 0)),
        cells=int(about.get("cells", 0)),
        doing=str(about.get("doing", "")),
        done=float(about.get("done", 0)),
        total=float(about.get("total", 0)),
    )
