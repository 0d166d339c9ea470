"""Where medrobust keeps what outlives a run, and how it writes files: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import platformdirs

from robustbench_med.errors import Notice, UserError
from robustbench_med.owners.temporary import TAG, is_abandoned, temporary

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""How a system refuses to write where one may only read."""


def home() -> Path:
    """`$MEDROBUST_HOME`, by default the platform's cache folder: checkpoints, manifests, downloaded
    data.
    """
    if said := os.environ.get("MEDROBUST_HOME"):
        return Path(said)
    try:
        return Path(platformdirs.user_cache_dir("medrobust"))
    except (RuntimeError, KeyError):  # no HOME, and a user without an entry (containers)
        return Path(tempfile.gettempdir()) / f"medrobust-{os.getuid()}"


def config_folder() -> Path:
    """The user's configuration, which is never shared and never swept: keys."""
    try:
        return Path(platformdirs.user_config_dir("medrobust"))
    except (RuntimeError, KeyError):
        return home() / "config"


def own_folder() -> Path | None:
    """The user's own folder; None where the system knows of none."""
    try:
        return Path.home()
    except (RuntimeError, KeyError):
        return None


def nearest_there(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    return next(each for each in (path, *path.absolute().parents) if os.path.exists(each))


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
    file or the new one, never half. Who may read it is for the umask to say.
    """
    _sweep_signed(path.parent.absolute())
    with temporary(path) as written:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            written.touch(exist_ok=False)
            mode = stat.S_IMODE(written.stat().st_mode)
            write(written)
            with written.open("rb+") as file:
                os.fsync(file.fileno())
            written.chmod(mode)  # some libraries write files that nobody else can read
            written.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}; choose another folder or free"
                " some space"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on disk afterwards, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # the file system has no such thing
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path, *, signed: bool = False) -> None:
    """Takes away the temporary files and folders that writers left which are no more; nothing of
    the living.

    Args:
        signed: only those whose names say that a process of medrobust made them: in a folder of
            the user's, others may be another program's.
    """
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        if (TAG.search(path.name) or not signed) and is_abandoned(path):
            with contextlib.suppress(OSError):  # another one sweeps too, or it is another user's
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@cache
def _sweep_signed(folder: Path) -> None:
    """Once a process and folder: what killed writers left where this one writes too."""
    sweep(folder, signed=True)


def sweep_below(folder: Path) -> None:
    """`sweep` of a folder of results, and of those in it."""
    for each in (folder, *folder.glob("*/"), *folder.glob("*/*/")):
        sweep(each)


def sweep_home() -> None:
    """`sweep` of the small files that medrobust keeps below its home; data sets and weights are
    swept by those that write them.
    """
    for folder in (home() / "manifests", home() / "paces", *(home() / "cache").glob("*/")):
        sweep(folder)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda written: written.write_text(text, encoding="utf-8"))


def remember(path: Path, text: str) -> None:
    """Writes what medrobust can do without, below its home; where that may only be read (a cache
    shared by a site, a container), it says so once (Notice) and nothing is kept.
    """
    try:
        write_text(path, text)
    except UserError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in READ_ONLY:
            raise
        _say_unkept(home())


@cache
def _say_unkept(folder: Path) -> None:
    warnings.warn(
        f"{folder} may only be read: splits, hashes and timings are not kept there; set"
        " MEDROBUST_HOME to a folder that can be written",
        Notice,
        stacklevel=3,
    )
