"""The store: one immutable, content-addressed record a cell, `records/<hash>.json`, per-sample outcomes beside it as npz."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import UserError
from robustbench_med.paths import write_atomically, write_text

Record = dict[str, Any]
HASH_LENGTH = 16
RECORDS = "records"
CERTIFICATES = "certificates"
"""The folder of what `certify` proved: immutable and addressed like records, but not measured under an attack."""


class Store:
    """Records below `<folder>/records`, or another `kind`. A record is never changed: another spec is another hash."""

    def __init__(self, folder: Path, kind: str = RECORDS) -> None:
        self.folder = folder / kind

    def path(self, spec_hash: str) -> Path:
        """Where a record lies."""
        return self.folder / f"{spec_hash[:HASH_LENGTH]}.json"

    def __contains__(self, spec_hash: str) -> bool:
        return self.path(spec_hash).exists()

    def write(self, record: Record, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes the arrays, then the record that makes them count; each whole or not at all."""
        path = self.path(record["hash"])

        def write_arrays(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

        write_atomically(path.with_suffix(".npz"), write_arrays)
        write_text(path, json.dumps(record, indent=1, allow_nan=False))

    def records(self) -> list[Record]:
        """All records, ordered by hash."""
        return [self._load(path) for path in sorted(self.folder.glob("[0-9a-f]*.json"))]

    def find(self, prefix: str) -> Record:
        """The one record whose hash starts with `prefix`."""
        matches = [path for path in sorted(self.folder.glob("[0-9a-f]*.json")) if path.stem.startswith(prefix[:HASH_LENGTH])]
        if len(matches) != 1:
            reason = "no record" if not matches else f"{len(matches)} records"
            raise UserError(f"{reason} in {self.folder} with a hash that starts with {prefix!r}; `medrobust leaderboard` lists them")
        return self._load(matches[0])

    def arrays(self, record: Record, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Per-sample outcomes of a record: all, or those of the named ones it has."""
        path = self.path(record["hash"]).with_suffix(".npz")
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files if names is None or key in names}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not readable ({error}); compute its cell again with --force") from error

    def _load(self, path: Path) -> Record:
        try:
            record: Record = json.loads(path.read_text(encoding="utf-8"))
            if record["hash"][:HASH_LENGTH] != path.stem:
                raise ValueError("its name is not its hash")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a readable record ({error}); delete it to compute it again") from error
        return record
