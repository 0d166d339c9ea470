"""Zip archives a user downloaded, unpacked so that neither a hostile nor a broken one does harm."""

from __future__ import annotations

import contextlib
import errno
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from robustbench_med.data.cards import Card, MedMNISTReader, PhantomReader
from robustbench_med.data.fetch import check_space
from robustbench_med.data.listing import Files
from robustbench_med.data.readers.files import CLUTTER
from robustbench_med.data.source import locate, placement
from robustbench_med.errors import UserError
from robustbench_med.formats.archives import opened
from robustbench_med.owners.lock import Lock
from robustbench_med.owners.temporary import temporary
from robustbench_med.paths import home, sweep, writable_folder
from robustbench_med.progress import Tick

RATIO = 200
"""Largest believable factor between packed and unpacked size; uncompressed bitmaps on black reach
about 100.
"""
SMALL = 1 << 24
"""Bytes below which no ratio is suspicious."""
PIECE = 1 << 20
ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
"""Of other kinds, which are not unpacked here."""


def import_files(card: Card, paths: Sequence[Path], files: Files) -> Path:
    """Unpacks zip archives (and copies other files) into `<data root>/<id>`; returns that folder.

    All or nothing: the files are unpacked beside the target, looked at by the card's reader, and
    only then moved into place.

    Raises:
        UserError: a file is missing, hostile or broken, the disk is full, or the card's tree is not
            in there.
    """
    if isinstance(card.reader, (PhantomReader, MedMNISTReader)):
        raise UserError(f"{card.id} needs no import: {placement(card)}")
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is not a file")
    root = writable_folder(files.data_root or home() / "data")
    with Lock(root / f".{card.id}.lock").waited(files.say, f"the import of {card.id}"):
        sweep(root)
        return _imported(card, paths, files, root)


def _imported(card: Card, paths: Sequence[Path], files: Files, root: Path) -> Path:
    target = root / card.id
    if target.exists():
        raise UserError(
            f"{target} exists already; move it away to import {card.id} anew, or `medrobust data"
            f" verify {card.id}`"
        )
    with temporary(root / card.id) as beside:
        unpacked = beside / card.id
        try:
            unpacked.mkdir(parents=True)
            for path in paths:
                _take(path, unpacked, files)
            if not (_holds(card, unpacked) or (_lifted(unpacked) and _holds(card, unpacked))):
                tree = "; ".join(card.tree) or placement(card)
                raise UserError(
                    f"{', '.join(path.name for path in paths)}: not the archive of {card.id};"
                    f" expected {tree}"
                )
            unpacked.rename(target)
        except OSError as error:
            raise _full(root, error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return target


def _holds(card: Card, unpacked: Path) -> bool:
    """Whether the card's files are found in this folder, which has its name."""
    place = locate(card, unpacked.parent)
    return place is not None and unpacked in (place, *place.parents)


def _lifted(unpacked: Path) -> bool:
    """Puts what lies in a folder of the same name in there, and nowhere else, into its place: an
    archive of the folder that the files are kept in. Whether there was one.
    """
    inner = unpacked / unpacked.name
    if not inner.is_dir() or [*unpacked.iterdir()] != [inner]:
        return False
    moved = inner.rename(unpacked.with_name(f"{unpacked.name}-inner"))
    unpacked.rmdir()
    moved.rename(unpacked)
    return True


def _take(path: Path, unpacked: Path, files: Files) -> None:
    """Unpacks a zip archive, or copies another file."""
    if zipfile.is_zipfile(path):
        with files.progress(f"unpacking {path.name} (MiB)") as tick:
            unpack(path, unpacked, tick)
    elif path.suffix.lower() in ARCHIVES:
        raise UserError(f"{path} is no zip archive; unpack it, and pack it as one")
    elif path.suffix.lower() == ".zip":
        raise UserError(f"{path} is not a zip archive (cut off?); download it again")
    else:
        check_space(unpacked, path.stat().st_size)
        shutil.copyfile(path, unpacked / path.name)


def unpack(path: Path, target: Path, tick: Tick) -> None:
    """Extracts an archive after looking at every member: no way out of the folder, no links, no
    bombs, room for all of it.
    """
    with opened(path, "the archive") as archive:
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir() and not _clutter(member.filename)
        ]
        for member in members:
            _check(path, member)
        names = Counter(member.filename for member in members)
        if names and (most := names.most_common(1)[0])[1] > 1:
            raise UserError(f"{path} is hostile: it holds {most[0]!r} {most[1]} times")
        total = sum(member.file_size for member in members)
        packed = path.stat().st_size
        if total > max(RATIO * packed, SMALL):
            raise UserError(
                f"{path} would unpack from {packed:,} to {total:,} bytes; this is no archive of"
                " images"
            )
        check_space(target, total)
        done = 0
        for member in members:
            done += _extract(archive, member, target)
            tick(done >> 20, max(total >> 20, 1), "")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> int:
    """Writes a member, at most as much as the directory of the archive says; its bytes."""
    done = 0
    with archive.open(member) as source, _written(target / member.filename) as copy:
        while piece := source.read(PIECE):
            done += len(piece)
            if done > member.file_size:
                raise ValueError(f"{member.filename} unpacks to more than its directory says")
            try:
                copy.write(piece)
            except OSError as error:
                raise _full(target, error) from error
    return done


@contextlib.contextmanager
def _written(place: Path) -> Iterator[IO[bytes]]:
    """A new file; ValueError where the name is none, or a folder's."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.open("wb")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            raise _full(place.parent, error) from error
        raise ValueError(f"{place.name}: {error.strerror}") from error
    with file:
        yield file


def _full(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot unpack into {folder}: {error.strerror or error}; free some space")


def _check(path: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename)
    if (
        name.is_absolute()
        or not name.parts
        or ".." in name.parts
        or "\\" in member.filename
        or ":" in name.parts[0]
    ):
        raise UserError(
            f"{path} is hostile: the member {member.filename!r} points out of the archive"
        )
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        what = "a link" if kind == stat.S_IFLNK else "a device or a pipe"
        raise UserError(f"{path} is hostile: the member {member.filename!r} is {what}")
    if member.flag_bits & 1:
        raise UserError(f"{path} is encrypted; unpack it by hand")


def _clutter(name: str) -> bool:
    return any(part.lower() in CLUTTER or part.startswith("._") for part in name.split("/"))
