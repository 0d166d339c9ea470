"""The door of zip archives, and of what is packed in them and elsewhere."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from robustbench_med.formats.files import checked, door
from robustbench_med.formats.limits import beyond, limit

GZIP = 16 + zlib.MAX_WBITS
"""zlib reads a gzip file's head and end with it."""


@contextlib.contextmanager
def opened(path: Path, what: str, most: str = "weights_bytes") -> Iterator[zipfile.ZipFile]:
    """A zip archive; faults of it, also inside, are an UnreadableError.

    Args:
        most: the limit of the file itself.
    """
    with contextlib.ExitStack() as stack:
        with door(what, path):
            checked(path, most)
            archive = stack.enter_context(zipfile.ZipFile(path))
            if len(archive.filelist) > limit("archive_members"):
                raise ValueError(f"it holds {beyond('archive_members', len(archive.filelist))}")
        with door(what, path):
            yield archive


def check_ratio(member: zipfile.ZipInfo) -> None:
    """Refuses (ValueError) a member that says it unpacks to more than can be meant: arrays of one
    number are packed a thousand times.
    """
    most = max(limit("packed_ratio") * member.compress_size, 1 << 24)
    if member.file_size > most:
        raise ValueError(
            f"{member.filename} unpacks from {member.compress_size:,} to {member.file_size:,}"
            f" bytes: {beyond('packed_ratio', 'more')}"
        )


def check_members(data: bytes) -> None:
    """Refuses (ValueError, and what zipfile raises) an archive, in its bytes, whose members unpack
    to more than can be meant.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for about in archive.infolist():
            check_ratio(about)


def member(archive: zipfile.ZipFile, name: str, most: str) -> bytes:
    """What a member holds; ValueError where it is more than the limit named `most`."""
    about = archive.getinfo(name)
    check_ratio(about)
    if about.file_size > limit(most):
        raise ValueError(f"{name} holds {beyond(most, about.file_size)}")
    with archive.open(about) as file:
        data = file.read(about.file_size)
        if file.read(1):
            raise ValueError(f"{name} unpacks to more than its directory says")
    return data


def gunzipped(data: bytes, most: int) -> bytes:
    """The first `most` bytes of what gzip packed, or all of it where it is less.

    Raises:
        zlib.error: it is damaged.
        ValueError: it ends early.
    """
    found = bytearray()
    while data and len(found) < most:
        packed = zlib.decompressobj(GZIP)
        found += packed.decompress(data, most - len(found))
        if len(found) < most and not packed.eof:
            raise ValueError("it ends early")
        data = packed.unused_data.lstrip(b"\0")
    return bytes(found)
