"""Joining stores: records and certificates of several machines in one folder, and what two machines
measured differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.errors import UserError
from robustbench_med.paths import writable_folder
from robustbench_med.store.store import CERTIFICATES, RECORDS, Record, Store

SHARES = {RECORDS: ("clean", "robust"), CERTIFICATES: ("certified_accuracy", "abstained")}
"""Kinds of what a store holds, and the shares of samples by which two of one specification are told
apart.
"""


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
    """What a merge did: records and certificates copied, those both had with the same figures, and
    conflicts.
    """

    copied: int
    same: int
    conflicts: tuple[Conflict, ...]


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Copies the records and certificates (and outcomes) that `out` lacks; never changes one it
    has.

    Two of one specification conflict when a share differs by half a sample or more; less is the
    rounding of other hardware.

    A file of `out` that does not fit is replaced where a source has one that does, else named in a
    `LeftOutWarning`.

    Raises:
        UserError: a source without any, or one that holds a file that does not fit; before anything
            is copied.
    """
    found = [(folder, kind, Store(folder, kind)) for folder in sources for kind in SHARES]
    held = [(folder, kind, store, _sound(store)) for folder, kind, store in found]
    for folder in sources:
        if not any(records for source, _, _, records in held if source == folder):
            raise UserError(f"{folder} holds no records or certificates")
    writable_folder(out)
    targets = {kind: Store(out, kind) for kind in SHARES}
    ours = {
        kind: {record["hash"]: record for record in store.look()[0]}
        for kind, store in targets.items()
    }
    copied, same, conflicts = 0, 0, []
    for folder, kind, store, records in held:
        for record in records:
            mine = ours[kind].get(record["hash"])
            if mine is None:
                ours[kind][record["hash"]] = targets[kind].add(
                    record, store.outcomes(record).read_bytes()
                )
                copied += 1
                continue
            difference = _difference(mine, record, SHARES[kind])
            if difference is None:
                same += 1
            else:
                conflicts.append(Conflict(record["hash"], folder, *difference))
    for target in targets.values():
        target.records()
    return Merged(copied, same, tuple(conflicts))


def _sound(store: Store) -> list[Record]:
    """Everything in a source; a file that does not fit is a UserError."""
    records, misfits = store.look()
    if misfits:
        more = (
            f" (and {len(misfits) - 1} more; `medrobust verify --out {store.folder.parent}` lists"
            " them)"
            if len(misfits) > 1
            else ""
        )
        raise UserError(f"nothing was merged: {misfits[0]}{more}")
    return records


def _difference(
    ours: Record, theirs: Record, shares: Sequence[str]
) -> tuple[str, float, float] | None:
    """The share that differs most, if any differs by half a sample or more."""
    pairs: list[tuple[float, str, float, float]] = []
    for name, mine, other in zip(ours["names"]["tasks"], _tasks(ours), _tasks(theirs), strict=True):
        pairs += [
            (abs(mine[key] - other[key]) * mine["n"], f"{key} at {name}", mine[key], other[key])
            for key in shares
        ]
    samples, what, a, b = max(pairs, key=lambda pair: pair[0])
    return None if samples < 0.5 else (what, a, b)


def _tasks(record: Record) -> list[dict[str, float]]:
    figures = record["figures"]
    return list(figures if isinstance(figures, list) else figures["tasks"])
