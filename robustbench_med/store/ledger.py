"""What a run set out to do and what became of it: `runs/<token>.json` and `runs/<token>.jsonl` in
its folder, so that others can see how far it is. Processes that a scheduler starts on other
machines write parts of their own, `runs/<token>.<part>.jsonl`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from robustbench_med.errors import UserError
from robustbench_med.formats import json_file
from robustbench_med.formats.files import UnreadableError, door, text_of
from robustbench_med.owners import Owner, me
from robustbench_med.paths import write_text

FOLDER = "runs"
KEPT = 20
"""Ledgers that a folder keeps; older ones of runs that have ended are taken away."""
OUTCOME = "outcome"
"""The kind of a line that tells what became of a cell."""


class LedgerUnit(BaseModel):
    """One victim of a run.

    Attributes:
        key: of the unit, as its claim names it.
        victim: model, defense, data, fold, train_seed.
        trained: whether its weights were there when the run began.
        cells: number of each cell in the grid, and its weight: passes it takes at most.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    victim: dict[str, Any]
    trained: bool
    cells: dict[int, int]


class Entry(BaseModel):
    """What became of a cell: the hash of its record, or of the request that failed, and when."""

    model_config = ConfigDict(frozen=True)

    number: int
    record: str | None = None
    failure: str | None = None
    at: float


@dataclass(frozen=True)
class Ledger:
    """A run as its folder tells of it.

    Attributes:
        owner: the process that began it.
        started: seconds since 1970.
        units: its victims.
        entries: cells that have come to something, the last of each number.
        handed_to: the job of a scheduler that does the work, such as "Slurm job 12".
    """

    owner: Owner
    started: float
    units: tuple[LedgerUnit, ...]
    entries: dict[int, Entry]
    handed_to: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether its process is seen to live, and something is left to do."""
        return self.owner.is_gone is False and len(self.entries) < len(self.weights)

    @property
    def waits(self) -> bool:
        """Whether a scheduler was given what is left: the folder does not tell whether it still
        has it.
        """
        return self.handed_to is not None and len(self.entries) < len(self.weights)

    @property
    def weights(self) -> dict[int, int]:
        """Weight of every cell by its number."""
        return {number: weight for unit in self.units for number, weight in unit.cells.items()}


class Writer:
    """Writes the ledger of a run that begins now.

    Example:
        >>> ledger = Writer(Path("reports"), units)
        >>> ledger.note(1, record="0123...")
    """

    def __init__(self, out: Path, units: Sequence[LedgerUnit]) -> None:
        self.folder = out / FOLDER
        self._sweep()
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self.path = self.folder / f"{name}.jsonl"
        self.content = {
            "owner": asdict(me()),
            "started": time.time(),
            "units": [unit.model_dump(mode="json") for unit in units],
        }
        self._write()

    def note(self, number: int, *, record: str | None = None, failure: str | None = None) -> None:
        """Adds what became of a cell."""
        entry = Entry(number=number, record=record, failure=failure, at=time.time())
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(entry.model_dump_json() + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error

    def hand_to(self, job: str) -> None:
        """Says which job of a scheduler does the work from now on."""
        self.content["handed_to"] = job
        self._write()

    def part(self, number: int) -> Path:
        """The file of a process elsewhere that notes what becomes of cells: lines of JSON, of which
        those with the kind "outcome" are entries.
        """
        return self.path.with_suffix(f".{number}.jsonl")

    def _write(self) -> None:
        write_text(self.path.with_suffix(".json"), json.dumps(self.content))

    def _sweep(self) -> None:
        for path in sorted(self.folder.glob("*.json"))[: -KEPT + 1]:
            if _read(path).owner.is_gone is not False:
                path.unlink(missing_ok=True)
                for entries in _entries_of(path):
                    entries.unlink(missing_ok=True)


def every(out: Path) -> list[Ledger]:
    """The ledgers that a folder keeps, the newest last."""
    return [_read(path) for path in sorted((out / FOLDER).glob("*.json"))]


def last(out: Path) -> list[Ledger]:
    """The ledger of the last run in a folder, and those of other runs whose processes live; of a
    comparison every part of it. The newest comes last; none where no run began here.
    """
    ledgers = every(out)
    if not ledgers:
        return []
    newest = ledgers[-1].owner
    return [each for each in ledgers if each.owner == newest or each.goes_on]


def _read(path: Path) -> Ledger:
    try:
        content = json_file.load_object(path, "the ledger")
        units = tuple(LedgerUnit.model_validate(unit) for unit in content["units"])
        owner, started = Owner(**content["owner"]), float(content["started"])
        lines = [
            json_file.object_of(line) for file in _entries_of(path) for line in whole_lines(file)
        ]
        entries = [
            Entry.model_validate(line) for line in lines if line.pop("kind", OUTCOME) == OUTCOME
        ]
    except (UnreadableError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        reason = getattr(error, "reason", error)
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else reason
        raise UserError(f"{path} cannot be read as a run's ledger ({reason}); delete it") from error
    known = {entry.number: entry for entry in entries}
    return Ledger(owner, started, units, known, content.get("handed_to"))


def _entries_of(path: Path) -> list[Path]:
    """The files that what became of a run's cells stands in, parts first."""
    return [*sorted(path.parent.glob(f"{path.stem}.*.jsonl")), path.with_suffix(".jsonl")]


def whole_lines(path: Path) -> list[str]:
    """The whole lines of a file that may be written now; none where it is not there yet."""
    if not path.exists():
        return []
    with door("the notes", path):
        return [line for line in text_of(path).splitlines(keepends=True) if line.endswith("\n")]
