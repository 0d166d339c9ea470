"""Who works on a file: processes that can be asked whether they still live.

What they are writing carries their name (`temporary`), what they hold says whose it is (`lock`).
Nothing rests on flock, which network file systems do not keep.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GONE = 120.0
"""Seconds without a sign of life after which an owner on another machine is taken for dead."""


@dataclass(frozen=True)
class Owner:
    """A process that writes files.

    Attributes:
        host: name of its machine.
        space: hash of the machine's boot and of the processes that see each other: two containers
            of one host, or name, have different ones.
        pid: number of the process.
        born: when it started, as the machine counts; 0 where that is not told. Numbers come again.
    """

    host: str
    space: str
    pid: int
    born: int

    @property
    def is_gone(self) -> bool | None:
        """Whether it has ended; None where that cannot be seen from here."""
        if self.space != _space() or os.name != "posix":
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's: it lives
            return False
        return born_at(self.pid) not in (0, self.born)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def me() -> Owner:
    """This process."""
    pid = os.getpid()
    return Owner(socket.gethostname(), _space(), pid, born_at(pid))


@cache
def _space() -> str:
    seen = [socket.gethostname()]
    with contextlib.suppress(OSError):  # only Linux tells
        seen.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        seen.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256(" ".join(seen).encode()).hexdigest()[:8]


def born_at(pid: int) -> int:
    """When a process started, in ticks since the machine did; -1 where it has ended and nobody
    took note, 0 where that is not told.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    state, *numbers = text.rpartition(")")[2].split()
    return -1 if state in "ZX" else int(numbers[18])


def age(path: Path) -> float:
    """Seconds since a file was written, by the clock of the file system it lies on (by this
    machine's where the folder cannot be written); 0 where it is no more.
    """
    try:
        written = path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            return os.fstat(probe.fileno()).st_mtime - written
    except OSError:
        return time.time() - written
