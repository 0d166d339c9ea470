"""Joining stores: records of several machines in one folder, and what two machines measured differently."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from robustbench_med.errors import UserError
from robustbench_med.paths import writable_folder, write_atomically, write_text
from robustbench_med.schema import RecordModel
from robustbench_med.spec import canonical_hash
from robustbench_med.store import Record, Store


@dataclass(frozen=True)
class Conflict:
    """One cell that two stores measured differently; the target's record was kept."""

    hash: str
    source: Path
    what: str
    ours: float
    theirs: float


@dataclass(frozen=True)
class Merged:
    """What a merge did: records copied, records both had with the same figures, and conflicts."""

    copied: int
    same: int
    conflicts: tuple[Conflict, ...]


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Copies the records (and outcomes) that `out` lacks; never changes one it has.

    Two records of one cell conflict when an accuracy differs by half a sample or more; less is the rounding of other hardware.

    Raises:
        UserError: a source without records, or a record that is damaged, altered, or without its outcomes; before anything is
            copied.
    """
    found = []
    for folder in sources:
        store = Store(folder)
        records = store.records()
        if not records:
            raise UserError(f"{folder} holds no records")
        for record in records:
            check(record, store.path(record["hash"]))
        found.append((folder, store, records))
    target = Store(writable_folder(out))
    copied, same, conflicts = 0, 0, []
    for folder, store, records in found:
        for record in records:
            path = target.path(record["hash"])
            if record["hash"] not in target:
                outcomes = store.path(record["hash"]).with_suffix(".npz")
                write_atomically(path.with_suffix(".npz"), lambda temporary, source=outcomes: shutil.copyfile(source, temporary))  # type: ignore[misc]
                write_text(path, json.dumps(record, indent=1, allow_nan=False))
                copied += 1
                continue
            difference = _difference(target.find(record["hash"]), record)
            if difference is None:
                same += 1
            else:
                conflicts.append(Conflict(record["hash"], folder, *difference))
    return Merged(copied, same, tuple(conflicts))


def check(record: Record, path: Path) -> None:
    """Refuses (UserError) a record that breaks the schema, whose hash is not its spec's, or whose outcomes are missing."""
    try:
        RecordModel.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path} is no record of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if canonical_hash(record["spec"]) != record["hash"]:
        raise UserError(f"{path}: its hash is not that of its specification; it was altered, or made by a version with another protocol")
    if not path.with_suffix(".npz").is_file():
        raise UserError(f"{path} lacks its outcomes {path.with_suffix('.npz').name}")


def _difference(ours: Record, theirs: Record) -> tuple[str, float, float] | None:
    """The accuracy that differs most, if any differs by half a sample or more."""
    pairs: list[tuple[float, str, float, float]] = []
    for t, name in enumerate(ours["names"]["tasks"]):
        for figure in ("clean", "robust"):
            a, b = ours["figures"]["tasks"][t][figure], theirs["figures"]["tasks"][t][figure]
            pairs.append((abs(a - b) * ours["figures"]["tasks"][t]["n"], f"{figure} at {name}", a, b))
    samples, what, a, b = max(pairs, key=lambda pair: pair[0])
    return None if samples < 0.5 else (what, a, b)
