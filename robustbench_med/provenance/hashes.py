"""Hashes of files, remembered for as long as a file is the one that was hashed: an unchanged file
costs one stat.

It is the same one while its device, inode, size and times are. Name, size and time of writing would
not do: reproducible archives, `cp -p`, `rsync -t` and `touch -d` give them to other bytes. The time
at which an inode changed (ctime) none of them can set.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from robustbench_med.formats import json_file
from robustbench_med.formats.files import UnreadableError, checked, door, text_of
from robustbench_med.paths import remember

SETTLED = 2.0
"""Seconds: the hash of a file that changed later than that is not remembered, since one more change
might bear the same time.
"""


CHUNK = 256
"""Files handed to the threads at once."""
Read = tuple[str, str, bool]
"""Signature of a file, what was read out of it, and whether it has not changed lately; empty where
it cannot be read.
"""


def hashes_of(
    paths: Sequence[Path],
    memory: Path,
    *,
    algorithm: str = "sha256",
    most: str = "data_bytes",
    tick: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """Hash of each file's bytes in hexadecimal, "" where a file cannot be read, is a pipe or a
    device, or is too large.

    Args:
        memory: the file in which the hashes of these very paths are remembered.
        most: the limit of a file's size, by its name.
        tick: told how many of the files that had to be read are done.
    """

    def read(path: Path, settled: float) -> Read:
        return _read(path, algorithm, settled, most)

    return remembered(paths, memory, read, tick)


def remembered(
    paths: Sequence[Path],
    memory: Path,
    read: Callable[[Path, float], Read],
    tick: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """What is read out of each file, "" where that is nothing.

    Args:
        memory: the file in which it is remembered of these very paths.
        read: given a path and the time since which a file must not have changed to be remembered.
        tick: as in `hashes_of`.
    """
    known: dict[str, str] = read_sealed(memory) or {}
    signatures = [_signature_of(path) for path in paths]
    found = [known.get(signature, "") for signature in signatures]
    new = [i for i, said in enumerate(found) if not said]
    settled = time.time() - SETTLED

    def work(i: int) -> Read:
        return read(paths[i], settled)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(new), CHUNK):
            some = new[start : start + CHUNK]
            for i, (signature, said, old) in zip(some, pool.map(work, some), strict=True):
                found[i], signatures[i] = said, signature if old else ""
            if tick is not None:
                tick(start + len(some), len(new), "")
    kept = {
        signature: said
        for signature, said in zip(signatures, found, strict=True)
        if signature and said
    }
    if not kept.items() <= known.items():
        remember(memory, sealed(kept))
    return found


def sealed(value: Any) -> str:
    """JSON with its own sha256, so that damage is noticed."""
    text = json.dumps(value)
    return f'{{"sha256": "{_sha256(text)}", "value":\n{text}\n}}'


def read_sealed(path: Path) -> Any:
    """What `sealed` made; None where there is no such file or it is damaged."""
    try:
        with door("what is remembered in", path):
            head, text, _ = text_of(path, "memory_bytes").split("\n")
            return json_file.value_of(text) if _sha256(text) in head else None
    except UnreadableError:
        return None


def _read(path: Path, algorithm: str, settled: float, most: str) -> Read:
    """The hash of a file."""
    try:
        checked(path, most)
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            sha = hashlib.file_digest(
                file, lambda: hashlib.new(algorithm, usedforsecurity=False)
            ).hexdigest()
            return signature(stat), sha, last_change(stat) < settled
    except (OSError, ValueError):
        return "", "", False


def _signature_of(path: Path) -> str:
    try:
        return signature(os.stat(path))
    except OSError:
        return ""


def signature(stat: os.stat_result) -> str:
    """What an unchanged file keeps."""
    return f"{stat.st_dev}-{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}"


def last_change(stat: os.stat_result) -> float:
    """When a file or its inode was last changed, in seconds."""
    return max(stat.st_ctime, stat.st_mtime)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
