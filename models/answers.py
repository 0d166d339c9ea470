"""What a black box has answered, by image and draw: nobody is asked the same twice, nor after an
interruption.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import UserError
from robustbench_med.paths import home

Vector = NDArray[np.float32]
AT_ONCE = 500
"""Keys of one look-up."""
WAIT = 60.0
"""Seconds that another process of the same folder may write."""


def path_of(identity: str) -> Path:
    """Where the answers of a black box lie, by the hash of what it is."""
    return home() / "answers" / f"{identity[:16]}.sqlite"


def files_of(path: Path) -> list[Path]:
    """What SQLite keeps of it: the file, and those of a writing that was cut off."""
    return sorted(path.parent.glob(f"{path.name}*"))


def forget(identity: str) -> None:
    """Drops what a black box has answered."""
    for path in files_of(path_of(identity)):
        path.unlink()


class Answers:
    """Answers by key.

    Args:
        path: a file that keeps them for later processes; None: this process alone.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with self._told():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self.file = sqlite3.connect(
                ":memory:" if path is None else path, timeout=WAIT, isolation_level=None
            )
            self.file.execute("PRAGMA synchronous = NORMAL")
            self.file.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL)"
                " WITHOUT ROWID"
            )

    def any(self) -> bool:
        """Whether there are some."""
        with self._told():
            return self.file.execute("SELECT 1 FROM answers LIMIT 1").fetchone() is not None

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Those that there are, by their keys."""
        found: dict[bytes, Vector] = {}
        with self._told():
            for start in range(0, len(keys), AT_ONCE):
                part = keys[start : start + AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = self.file.execute(
                    f"SELECT key, answer FROM answers WHERE key IN ({marks})", part
                )
                found |= {key: np.frombuffer(answer, "<f4") for key, answer in rows}
        return found

    def keep(self, answers: Mapping[bytes, Vector]) -> None:
        """Adds some, all of them or none."""
        rows = [(key, answer.astype("<f4").tobytes()) for key, answer in answers.items()]
        with self._told():
            self.file.execute("BEGIN IMMEDIATE")
            self.file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            self.file.execute("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Faults of the file as a UserError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"the answers kept in {self.path} cannot be used ({error}); delete that file, and"
                " they are asked for again"
            ) from error
