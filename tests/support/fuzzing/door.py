"""A place where what others wrote comes in, and what must hold there."""

from __future__ import annotations

import contextlib
import resource
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from robustbench_med.errors import UserError
from support.hostile.runner import LINE, UNFIT

SECONDS = 10
"""After which an input is taken to hang."""
MEMORY = 1 << 30
"""Bytes of address space, above what the process has, that no input may take."""


@dataclass(frozen=True)
class Door:
    """Where a format is read.

    Attributes:
        inputs: what comes in.
        read: reads it, in a folder of its own; returns, or raises a `UserError`.
    """

    inputs: st.SearchStrategy[bytes]
    read: Callable[[bytes, Path], object]


class CrashError(Exception):
    """An input that ended otherwise than it may."""

    def __init__(self, data: bytes, why: str) -> None:
        super().__init__(f"{why}: {data[:300]!r}")
        self.data = data
        self.why = why


def meets(door: Door, data: bytes) -> None:
    """Shows an input to a door.

    Raises:
        CrashError: the door raised something else than a `UserError`, or one that is unfit to read; it
            took too long, or too much memory.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _bounded():
                door.read(data, Path(folder))
        except UserError as error:
            said = str(error)
            if len(said) > LINE or UNFIT.search(said) or (not error.lines and "\n" in said):
                raise CrashError(data, f"unfit to read: {said[:300]!r}") from error
        except Exception as error:
            raise CrashError(data, f"{type(error).__name__}: {str(error)[:200]}") from error


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """No longer than SECONDS, no more than MEMORY."""

    def rung(*_: object) -> None:
        raise TimeoutError(f"took more than {SECONDS} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGVTALRM, rung)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
