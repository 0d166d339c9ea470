"""Zip archives a user downloaded, unpacked so that neither a hostile nor a broken one does harm."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from robustbench_med.data.cards import Card, MedMNISTReader, PhantomReader
from robustbench_med.data.fetch import check_space
from robustbench_med.data.listing import Files
from robustbench_med.data.readers.files import CLUTTER
from robustbench_med.data.source import locate, placement
from robustbench_med.errors import UserError
from robustbench_med.paths import home, writable_folder
from robustbench_med.progress import Tick

RATIO = 200
"""Largest believable factor between packed and unpacked size; uncompressed bitmaps on black reach
about 100.
"""
SMALL = 1 << 24
"""Bytes below which no ratio is suspicious."""
PIECE = 1 << 20


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
    target = root / card.id
    if target.exists():
        raise UserError(
            f"{target} exists already; move it away to import {card.id} anew, or `medrobust data"
            f" verify {card.id}`"
        )
    with tempfile.TemporaryDirectory(prefix=f".{card.id}-", dir=root) as temporary:
        unpacked = Path(temporary) / card.id
        unpacked.mkdir()
        try:
            for path in paths:
                if zipfile.is_zipfile(path):
                    with files.progress(f"unpacking {path.name} (MiB)") as tick:
                        unpack(path, unpacked, tick)
                elif path.suffix.lower() == ".zip":
                    raise UserError(f"{path} is not a zip archive (cut off?); download it again")
                else:
                    check_space(root, path.stat().st_size)
                    shutil.copyfile(path, unpacked / path.name)
        except OSError as error:
            raise UserError(
                f"cannot unpack into {root}: {error.strerror or error}; free some space"
            ) from error
        place = locate(card, Path(temporary))
        if place is None or unpacked not in (place, *place.parents):
            raise UserError(
                f"{', '.join(path.name for path in paths)}: not the archive of {card.id}; expected"
                f" {'; '.join(card.tree)}"
            )
        unpacked.rename(target)
    return target


def unpack(path: Path, target: Path, tick: Tick) -> None:
    """Extracts an archive after looking at every member: no way out of the folder, no links, no
    bombs, room for all of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member
                for member in archive.infolist()
                if not member.is_dir() and not _clutter(member.filename)
            ]
            for member in members:
                _check(path, member)
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
                place = target / member.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, place.open("wb") as copy:
                    while piece := source.read(PIECE):
                        copy.write(piece)
                        done += len(piece)
                        if (
                            done > total
                        ):  # members that unpack to more than the directory of the archive says
                            raise UserError(
                                f"{path} unpacks to more than its directory says; this is no honest"
                                " archive"
                            )
                tick(done >> 20, max(total >> 20, 1), "")
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise UserError(
            f"{path} is not a readable zip archive ({error}); download it again"
        ) from error


def _check(path: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in name.parts[0]:
        raise UserError(
            f"{path} is hostile: the member {member.filename!r} points out of the archive"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(f"{path} is hostile: the member {member.filename!r} is a link")
    if member.flag_bits & 1:
        raise UserError(f"{path} is encrypted; unpack it by hand")


def _clutter(name: str) -> bool:
    return any(part.lower() in CLUTTER or part.startswith("._") for part in name.split("/"))
