"""Where medrobust keeps what outlives a run, and how it writes files: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

from robustbench_med.errors import UserError


def home() -> Path:
    """`$MEDROBUST_HOME`, by default the platform's cache folder: checkpoints, manifests, downloaded
    data.
    """
    return Path(os.environ.get("MEDROBUST_HOME") or platformdirs.user_cache_dir("medrobust"))


def writable_folder(path: Path) -> Path:
    """Makes the folder; refuses (UserError) one that cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to the folder {path}: {error.strerror or error}; choose another or free"
            " some space"
        ) from error
    return path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary name beside `path`, fsyncs, renames. A reader sees the old
    file or the new one, never half.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another folder or free some"
            " space"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
