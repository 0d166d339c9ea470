"""Joining stores: records and certificates of several machines in one folder, and what two machines measured differently."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from robustbench_med.errors import UserError
from robustbench_med.naming import canonical_hash
from robustbench_med.paths import writable_folder, write_atomically, write_text
from robustbench_med.schema import SCHEMAS
from robustbench_med.store import CERTIFICATES, RECORDS, Record, Store

SHARES = {RECORDS: ("clean", "robust"), CERTIFICATES: ("certified_accuracy", "abstained")}
"""Kinds of what a store holds, and the shares of samples by which two of one specification are told apart."""


@dataclass(frozen=True)
class Conflict:
    """One record or certificate that two stores measured differently; the target's was kept."""

    hash: str
    source: Path
    what: str
    ours: float
    theirs: float


@dataclass(frozen=True)
class Merged:
    """What a merge did: records and certificates copied, those both had with the same figures, and conflicts."""

    copied: int
    same: int
    conflicts: tuple[Conflict, ...]


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Copies the records and certificates (and outcomes) that `out` lacks; never changes one it has.

    Two of one specification conflict when a share differs by half a sample or more; less is the rounding of other hardware.

    Raises:
        UserError: a source without any, or one that is damaged, altered, or without its outcomes; before anything is copied.
    """
    found: list[tuple[Path, str, Store, list[Record]]] = []
    for folder in sources:
        held = [(folder, kind, store := Store(folder, kind), store.records()) for kind in SHARES]
        if not any(records for *_, records in held):
            raise UserError(f"{folder} holds no records or certificates")
        for _, kind, store, records in held:
            for record in records:
                check(record, store.path(record["hash"]), kind)
        found += held
    writable_folder(out)
    copied, same, conflicts = 0, 0, []
    for folder, kind, store, records in found:
        target = Store(out, kind)
        for record in records:
            path = target.path(record["hash"])
            if record["hash"] not in target:
                outcomes = store.path(record["hash"]).with_suffix(".npz")
                write_atomically(path.with_suffix(".npz"), lambda temporary, source=outcomes: shutil.copyfile(source, temporary))  # type: ignore[misc]
                write_text(path, json.dumps(record, indent=1, allow_nan=False))
                copied += 1
                continue
            difference = _difference(target.find(record["hash"]), record, SHARES[kind])
            if difference is None:
                same += 1
            else:
                conflicts.append(Conflict(record["hash"], folder, *difference))
    return Merged(copied, same, tuple(conflicts))


def check(record: Record, path: Path, kind: str = RECORDS) -> None:
    """Refuses (UserError) a record that breaks the schema, whose hash is not its spec's, or whose outcomes are missing."""
    try:
        SCHEMAS[kind.removesuffix("s")].model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path} is no {kind.removesuffix('s')} of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    if canonical_hash(record["spec"]) != record["hash"]:
        raise UserError(f"{path}: its hash is not that of its specification; it was altered, or made by a version with another protocol")
    if not path.with_suffix(".npz").is_file():
        raise UserError(f"{path} lacks its outcomes {path.with_suffix('.npz').name}")


def _difference(ours: Record, theirs: Record, shares: Sequence[str]) -> tuple[str, float, float] | None:
    """The share that differs most, if any differs by half a sample or more."""
    pairs: list[tuple[float, str, float, float]] = []
    for name, mine, other in zip(ours["names"]["tasks"], _tasks(ours), _tasks(theirs), strict=True):
        pairs += [(abs(mine[key] - other[key]) * mine["n"], f"{key} at {name}", mine[key], other[key]) for key in shares]
    samples, what, a, b = max(pairs, key=lambda pair: pair[0])
    return None if samples < 0.5 else (what, a, b)


def _tasks(record: Record) -> list[dict[str, float]]:
    figures = record["figures"]
    return list(figures if isinstance(figures, list) else figures["tasks"])
