"""The bytes of a file of others, if it is a file, and no more of them than is stated."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from robustbench_med.errors import UserError
from robustbench_med.formats import text
from robustbench_med.formats.limits import beyond, limit


class UnreadableError(UserError):
    """A file that cannot be read as what it should be.

    Attributes:
        reason: why, without the file's name.
    """

    reason = ""


def unreadable(what: str, path: object, reason: str) -> UnreadableError:
    """The error of a file, in one line."""
    said = text.line(reason)
    error = UnreadableError(f"cannot read {what} {text.line(path)}: {said}")
    error.reason = said
    return error


@contextlib.contextmanager
def door(what: str, path: object) -> Iterator[None]:
    """Inside, every fault of a file is an `UnreadableError`: readers of a format have no common
    ancestor for theirs, and raise what Python does.

    Args:
        what: what the file should be, as in "the run file".
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise unreadable(what, path, "it does not fit in memory") from error
    except RecursionError as error:
        raise unreadable(what, path, "it is nested too deep") from error
    except Exception as error:
        raise unreadable(what, path, reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    """An error in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding.upper()} (byte {error.start})"
    said = text.line(error)
    return said if said and not isinstance(error, KeyError) else f"{type(error).__name__} {said}"


def checked(path: Path, most: str) -> os.stat_result:
    """What a file is.

    Raises:
        OSError: it is not there.
        ValueError: it is a folder, a pipe or a device, or larger than the limit named `most`.
    """
    about = path.stat()
    if stat.S_ISDIR(about.st_mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is a pipe or a device, expected a file")
    if about.st_size > limit(most):
        raise ValueError(f"it holds {beyond(most, about.st_size)}")
    return about


def data_of(path: Path, most: str) -> bytes:
    """The bytes of a file; raises as `checked`."""
    checked(path, most)
    with path.open("rb") as file:
        data = file.read(limit(most) + 1)
    if len(data) > limit(most):
        raise ValueError(f"it holds more than {beyond(most, limit(most))}")
    return data


def text_of(path: Path, most: str = "text_bytes") -> str:
    """The text of a file in UTF-8; raises as `checked`, and UnicodeDecodeError."""
    return data_of(path, most).decode("utf-8")
