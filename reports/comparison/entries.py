"""What a comparison ran and what it left out, and compare.json, which keeps both for later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.formats import json_file
from robustbench_med.formats.files import UnreadableError
from robustbench_med.paths import write_text
from robustbench_med.store.record import Record

NOTED = "compare.json"


@dataclass(frozen=True)
class Entry:
    """One model with one defence.

    Attributes:
        model: its name.
        defense: the defence's name, `none` for the undefended model.
        records: of all attacks, radii, data sets and seeds.
        naive: those of a naive attack; empty where the attack is adaptive anyway.
    """

    model: str
    defense: str
    records: tuple[Record, ...]
    naive: tuple[Record, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """What is missing from a comparison, and why."""

    model: str
    defense: str
    """Empty: the model altogether, with every defence."""
    reason: str
    unsuited: bool
    """The defence has no place in this model, whatever the parameters: nothing failed."""

    def __str__(self) -> str:
        return (
            f"{self.defense} on {self.model} ({self.reason})"
            if self.defense
            else f"{self.model} altogether ({self.reason})"
        )


@dataclass(frozen=True)
class Compared:
    """A comparison as it was run.

    Attributes:
        entries: what was measured.
        left_out: what was asked for and is missing.
        command: the command line that made the records.
        seconds: how long that took.
    """

    entries: tuple[Entry, ...]
    command: str
    seconds: float
    left_out: tuple[LeftOut, ...] = ()


def save(compared: Compared, out: Path) -> None:
    """Writes compare.json, which names the records by their hashes."""
    entries = [
        {
            "model": entry.model,
            "defense": entry.defense,
            "records": [record.hash for record in entry.records],
            "naive": [record.hash for record in entry.naive],
        }
        for entry in compared.entries
    ]
    facts = {
        "command": compared.command,
        "seconds": compared.seconds,
        "entries": entries,
        "left_out": [asdict(missing) for missing in compared.left_out],
    }
    write_text(out / NOTED, json.dumps(facts, indent=1))


def read(out: Path, records: Sequence[Record]) -> Compared:
    """The folder's last comparison.

    Args:
        out: folder of the store.
        records: all of the folder.

    Raises:
        UserError: compare.json cannot be read, or a record that it names is gone or left out.
    """
    file, by_hash = out / NOTED, {record.hash: record for record in records}
    try:
        facts = json_file.load_object(file, "the comparison")
        return Compared(
            tuple(_entry(entry, by_hash) for entry in facts["entries"]),
            str(facts["command"]),
            float(facts["seconds"]),
            tuple(_left_out(missing) for missing in facts.get("left_out", ())),
        )
    except (UnreadableError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be rebuilt ({error!r} is missing or wrong); delete it, or run"
            " `medrobust compare` again"
        ) from error


def _entry(entry: Mapping[str, Any], by_hash: Mapping[str, Record]) -> Entry:
    records, naive = (tuple(by_hash[name] for name in entry[kind]) for kind in ("records", "naive"))
    return Entry(str(entry["model"]), str(entry["defense"]), records, naive)


def _left_out(missing: Mapping[str, Any]) -> LeftOut:
    model, defense, reason = (str(missing[key]) for key in ("model", "defense", "reason"))
    return LeftOut(model, defense, reason, bool(missing["unsuited"]))
