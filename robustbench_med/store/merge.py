"""Joining stores: records and certificates of several machines in one folder, and what two machines
measured differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.paths import sweep_below, writable_folder
from robustbench_med.store.absence import ABSENCES, Absence
from robustbench_med.store.anonymous import Anonymous, key
from robustbench_med.store.diagnosis import DIAGNOSES, Diagnosis
from robustbench_med.store.failure import Failures
from robustbench_med.store.store import CERTIFICATES, RECORDS, Certificate, Record, Store, packed
from robustbench_med.store.validation import VALIDATIONS, Validation

KINDS = (RECORDS, CERTIFICATES, DIAGNOSES, ABSENCES, VALIDATIONS)


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


def merge(sources: Sequence[Path], out: Path, *, anonymous: bool = False) -> Merged:
    """Copies the records and certificates (and outcomes) that `out` lacks; never changes one it
    has.

    Two of one specification conflict when a share differs by half a sample or more; less is the
    rounding of other hardware.

    Failures are taken along, but not into anonymous copies: they hold paths. Copies have hashes of
    their own and name their source. A file of `out` that does not fit is replaced where a source
    has one that does, else named in a `LeftOutWarning`.

    Raises:
        UserError: a source without any, or one that holds a file that does not fit; a folder for
            anonymous copies that holds others; before anything is copied.
    """
    stores = [(folder, Store(folder, kind)) for folder in sources for kind in KINDS]
    held = [(folder, store, _sound(store)) for folder, store in stores]
    for folder in sources:
        if not any(records for source, _, records in held if source == folder):
            raise UserError(f"{folder} holds no records or certificates")
    targets = {kind: Store(out, kind) for kind in KINDS}
    copy = _copying(out, targets.values()) if anonymous else _whole
    sweep_below(writable_folder(out))
    ours = {
        kind: {record.hash: record for record in target.look()[0]}
        for kind, target in targets.items()
    }
    copied, same, conflicts = 0, 0, []
    for folder, store, records in held:
        target, known = targets[store.kind], ours[store.kind]
        for each in records:
            record, outcomes = copy(store, each)
            mine = known.get(record.hash)
            if mine is None:
                known[record.hash] = target.add(record, outcomes())
                copied += 1
                continue
            difference = _difference(mine, record)
            if difference is None:
                same += 1
            else:
                conflicts.append(Conflict(record.hash, folder, *difference))
    for target in targets.values():
        target.records()
    for folder in () if anonymous else sources:
        for failure in Failures(folder).all():
            Failures(out).write(failure)
    return Merged(copied, same, tuple(conflicts))


def _whole(store: Store[Any], record: Any) -> tuple[Any, Callable[[], bytes]]:
    """A record as it is."""
    return record, lambda: store.outcomes(record).read_bytes()


def _copying(
    out: Path, targets: Iterable[Store[Any]]
) -> Callable[[Store[Any], Any], tuple[Any, Callable[[], bytes]]]:
    """What makes anonymous copies for a folder that holds nothing else."""
    if any(kept.source is None for store in targets for kept in store.look()[0]) or (
        Failures(out).folder.is_dir()
    ):
        raise UserError(
            f"{out} holds records that are not anonymous; name a folder of its own for the copies"
        )
    if left := [path.name for path in out.iterdir()] if out.is_dir() else []:
        ours = {kind.folder for kind in KINDS}
        others = sorted(name for name in left if name not in ours and not name.startswith("."))
        if others and not any(store.paths() for store in targets):
            raise UserError(
                f"{out} holds other files ({others[0]}); name a folder of its own for the copies"
            )
    copies = Anonymous(key())

    def copy(store: Store[Any], record: Any) -> tuple[Any, Callable[[], bytes]]:
        made, arrays = copies.copy(store, record)
        return made, lambda: packed(arrays)

    return copy


def _sound(store: Store[Any]) -> list[Any]:
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
    ours: Record | Certificate | Diagnosis | Absence | Validation,
    theirs: Record | Certificate | Diagnosis | Absence | Validation,
) -> tuple[str, float, float] | None:
    """The share of samples that differs most, if any differs by half a sample or more; diagnoses
    and validations hold none.
    """
    if not isinstance(ours, Record | Certificate) or not isinstance(theirs, Record | Certificate):
        return None
    pairs = [
        (abs(mine - other) * n, what, mine, other)
        for (what, n, mine), (_, _, other) in zip(_shares(ours), _shares(theirs), strict=True)
    ]
    samples, what, mine, other = max(pairs, key=lambda pair: pair[0])
    return None if samples < 0.5 else (what, mine, other)


def _shares(kept: Record | Certificate | Absence) -> Iterator[tuple[str, int, float]]:
    """What two of one specification are told apart by: name, samples and share, task by task."""
    if isinstance(kept, Absence):
        for row in kept.rows:
            yield f"accuracy at {row.task}, {row.modality} {row.by}", row.n, row.accuracy
        return
    if isinstance(kept, Certificate):
        for task in kept.figures:
            yield f"certified_accuracy at {task.task}", task.n, task.certified_accuracy
            yield f"abstained at {task.task}", task.n, task.abstained
    else:
        for name, figures in zip(kept.names.tasks, kept.figures.tasks, strict=True):
            yield f"clean at {name}", figures.n, figures.clean
            yield f"robust at {name}", figures.n, figures.robust
