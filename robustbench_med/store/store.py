"""The store: one immutable, content-addressed record a cell, `records/<hash>.json`, per-sample
outcomes beside it as npz.

Every reader comes through here, and gets only what fits: the schema, its own hash, and the digests
it was written with.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from robustbench_med.errors import IncompleteError, UserError, left_out
from robustbench_med.formats.arrays import load_npz
from robustbench_med.formats.files import UnreadableError
from robustbench_med.owners.temporary import is_abandoned
from robustbench_med.paths import write_atomically, write_text
from robustbench_med.store.belief import (
    HASH_LENGTH,
    Memory,
    Misfit,
    MisfitError,
    listing,
    read,
    stamped,
)
from robustbench_med.store.parts import Kept
from robustbench_med.store.recent import Recent
from robustbench_med.store.record import CERTIFICATES, RECORDS, Certificate, Kind, Record

__all__ = ["CERTIFICATES", "RECORDS", "Certificate", "Record", "Store", "nothing_left"]

K = TypeVar("K", bound=Kept)
PENDING = re.compile(r"([0-9a-f]{16})\.[0-9a-f]{8}\.npz")
"""Outcomes on their way to replace others: they count once the record names them."""
TEMPORARY = re.compile(r"\..*\.tmp")


class Store(Generic[K]):
    """Records below `<folder>/records`, or another `kind`. A record is never changed: another spec
    is another hash.

    Example:
        >>> store = Store(Path("reports"))
        >>> [record.figures.robust for record in store.records()]
    """

    @overload
    def __init__(self: Store[Record], folder: Path) -> None: ...

    @overload
    def __init__(self, folder: Path, kind: Kind[K]) -> None: ...

    def __init__(self, folder: Path, kind: Kind[Any] = RECORDS) -> None:
        self.folder, self.kind = folder / kind.folder, kind

    @cached_property
    def memory(self) -> Memory:
        """What is known of its files without hashing them again."""
        return Memory(self.folder)

    @cached_property
    def recent(self) -> Recent:
        """Arrays of outcomes that were asked for by name."""
        return Recent()

    def path(self, spec_hash: str) -> Path:
        """Where a record lies."""
        return self.folder / f"{spec_hash[:HASH_LENGTH]}.json"

    def paths(self) -> list[Path]:
        """Everything that should be a record, ordered by name."""
        return [
            path for path in sorted(self.folder.glob("*.json")) if not path.name.startswith(".")
        ]

    def write(self, record: K, arrays: Mapping[str, NDArray[Any]]) -> K:
        """Writes a record and its per-sample arrays as one: a reader sees both or neither, or the
        pair that they replace.

        Returns:
            The record as it is kept, with versions and digests.

        Raises:
            UserError: the folder cannot be written.
        """
        return self.add(record, packed(arrays))

    def add(self, record: K, outcomes: bytes) -> K:
        """As `write`, of outcomes that are an npz already."""
        sha256 = hashlib.sha256(outcomes).hexdigest()
        kept = stamped(record, sha256)
        path = self.path(kept.hash)
        settled = path.with_suffix(".npz")
        with self._alone() as alone:
            _make_way(path)
            _make_way(settled)
            place = self._pending(kept.hash, sha256) if path.exists() else settled
            write_atomically(place, lambda temporary: temporary.write_bytes(outcomes))
            write_text(
                path, json.dumps(kept.plain(), indent=1, allow_nan=False)
            )  # from here on the new pair counts
            if place != settled:
                _move(place, settled)
            if alone:
                self._sweep()
        return kept

    def remove(self, spec_hash: str) -> None:
        """Takes a record and its outcomes away."""
        for path in (self.path(spec_hash), self.path(spec_hash).with_suffix(".npz")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"cannot remove {path}: {error.strerror or error}") from error

    def look(self, *, fresh: bool = False) -> tuple[list[K], list[Misfit]]:
        """All records that fit, and what does not, ordered by name; `fresh` hashes outcomes
        whatever is remembered of them.
        """
        records, misfits = [], []
        for path in self.paths():
            try:
                records.append(self._believed(path, fresh=fresh))
            except MisfitError as error:
                if os.path.lexists(path):  # else it was taken away meanwhile
                    misfits.append(Misfit(path, str(error), error.stale))
        if self.folder.is_dir():
            self.memory.keep()
        return records, misfits

    def records(self) -> list[K]:
        """All records that fit, ordered by hash; the others are named in a `LeftOutWarning`."""
        records, misfits = self.look()
        if misfits:
            left_out(
                f"{len(misfits)} of {len(records) + len(misfits)} files in {self.folder} left out"
                f" (`medrobust verify --out {self.folder.parent}` lists all):\n  {listing(misfits)}"
            )
        return records

    def find(self, prefix: str) -> K:
        """The one record whose hash starts with `prefix`.

        Raises:
            UserError: none or several, or it does not fit.
        """
        matches = [path for path in self.paths() if path.stem.startswith(prefix[:HASH_LENGTH])]
        if len(matches) != 1:
            reason = "no record" if not matches else f"{len(matches)} records"
            raise UserError(
                f"{reason} in {self.folder} with a hash that starts with {prefix!r}; `medrobust"
                " leaderboard` lists them"
            )
        try:
            return self._believed(matches[0])
        except MisfitError as error:
            raise UserError(str(Misfit(matches[0], str(error)))) from error

    def kept(self, spec_hash: str, warn: Callable[[str], None]) -> K | None:
        """The record of a cell that is done; None where it is not, or where what lies there does
        not fit, which `warn` is told.
        """
        path = self.path(spec_hash)
        if not os.path.lexists(path):
            return None
        try:
            return self._believed(path)
        except MisfitError as error:
            warn(f"{Misfit(path, str(error))}; its cell is computed again")
            return None

    def arrays(self, record: K, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Per-sample outcomes of a record: all, or those of the named ones it has, not to be
        written to.
        """
        path = self.path(record.hash).with_suffix(".npz")
        try:
            place = self.outcomes(record)
            if names is None or record.digests is None:
                return load_npz(place, "the outcomes", names)
            return self.recent.of(
                record.digests.outcomes, names, lambda few: load_npz(place, "the outcomes", few)
            )
        except (UnreadableError, MisfitError, OSError) as error:
            raise UserError(
                f"{path} is not readable ({getattr(error, 'reason', error)}); compute its cell"
                " again with --force"
            ) from error

    def outcomes(self, record: K, *, fresh: bool = False) -> Path:
        """The npz that belongs to a record.

        Raises:
            MisfitError: it is not there, or another's.
        """
        settled, digests = self.path(record.hash).with_suffix(".npz"), record.digests
        candidates = [settled]
        if digests is not None:
            candidates.append(self._pending(record.hash, digests.outcomes))
        there = [path for path in candidates if path.is_file()]
        if not there:
            raise MisfitError(f"it lacks its outcomes {settled.name}")
        for path in there:
            if digests is None or self.memory.fits(path, digests.outcomes, fresh=fresh):
                return path
        raise MisfitError(f"its outcomes {settled.name} are not those it was written with")

    def leftovers(self) -> list[Misfit]:
        """What no record needs: outcomes without one, and what writers that were killed left
        behind.
        """
        stems = {path.stem for path in self.paths()}
        misfits = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            written = TEMPORARY.fullmatch(path.name) and is_abandoned(path)
            if written or PENDING.fullmatch(path.name):
                misfits.append(
                    Misfit(path, "a writer that was killed left it; the next one takes it away")
                )
            elif path.suffix == ".npz" and path.stem not in stems:
                misfits.append(Misfit(path, "outcomes without a record"))
        return misfits

    def _believed(self, path: Path, *, fresh: bool = False) -> K:
        with contextlib.suppress(MisfitError):
            return self._look_at(path, fresh=fresh)
        return self._look_at(
            path, fresh=fresh
        )  # a second look: a writer may have been between record and outcomes

    def _look_at(self, path: Path, *, fresh: bool) -> K:
        record = read(path, self.kind)
        try:
            self.outcomes(record, fresh=fresh)
        except OSError as error:
            raise MisfitError(f"its outcomes cannot be read ({error.strerror or error})") from error
        return record

    def _pending(self, spec_hash: str, sha256: str) -> Path:
        return self.path(spec_hash).with_suffix(f".{sha256[:8]}.npz")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Keeps other writers out; False where the file system has no locks."""
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(self.folder.with_name(f".{self.kind.folder}.lock")))
            except (OSError, NotImplementedError):
                yield False
            else:
                yield True

    def _sweep(self) -> None:
        """Takes away what killed writers left, or finishes what they began; only for who is
        alone.
        """
        for name in os.listdir(self.folder):
            path = (
                self.folder / name if name.count(".") > 1 else None
            )  # most are records and outcomes
            if path and TEMPORARY.fullmatch(name):
                if is_abandoned(path):
                    path.unlink(missing_ok=True)
            elif path and (named := PENDING.fullmatch(name)):
                if self._needed(path, self.path(named[1])):
                    _move(path, path.with_name(f"{named[1]}.npz"))
                else:
                    path.unlink(missing_ok=True)

    def _needed(self, pending: Path, path: Path) -> bool:
        try:
            return self.outcomes(read(path, self.kind)) == pending
        except MisfitError:
            return False


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as an npz."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def nothing_left(message: str, *stores: Store[Any]) -> UserError:
    """The error where none of these holds anything to show: `message` where nothing lies there,
    else that all was left out.
    """
    left = [str(store.folder) for store in stores if store.paths()]
    return (
        IncompleteError(
            f"nothing in {' or '.join(left)} can be believed, so nothing was made of it"
        )
        if left
        else UserError(message)
    )


def _make_way(path: Path) -> None:
    """Puts a folder aside that has the name of a file to be written."""
    if path.is_dir():
        _move(path, path.with_name(f".{path.name}.{time.time_ns()}.aside"))


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
