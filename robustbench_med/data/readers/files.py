"""Files below a data set's folder: where it lies, which files count, patterns over their paths."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.data.cards import Card
from robustbench_med.data.scans import is_dicom
from robustbench_med.errors import UserError
from robustbench_med.formats.files import checked
from robustbench_med.paths import home

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".webp",
    ".dcm",
    ".dicom",
    ".nii",
    ".nii.gz",
)
OTHERS = (
    ".csv",
    ".tsv",
    ".tab",
    ".txt",
    ".md",
    ".rst",
    ".json",
    ".xml",
    ".yaml",
    ".yml",
    ".html",
    ".htm",
    ".pdf",
    ".doc",
    ".docx",
    ".rtf",
    ".xls",
    ".xlsx",
    ".ods",
    ".log",
    ".ini",
    ".dat",
    ".mat",
    ".npy",
    ".npz",
    ".pkl",
    ".h5",
    ".db",
    ".bib",
    ".py",
    ".ipynb",
    ".m",
    ".r",
    ".zip",
    ".gz",
    ".tar",
    ".md5",
    ".sha256",
    ".lock",
    "readme",
    "license",
    "licence",
    "dicomdir",
)
"""Ends of names that no image bears: such files are passed over without a word."""
CLUTTER = (
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "lost+found",
    "system volume information",
    "$recycle.bin",
)


@dataclass(frozen=True)
class Found:
    """A file: its path relative to the data set's folder, with forward slashes."""

    name: str


def roots(data_root: Path | None) -> list[Path]:
    """Where data sets are looked for: the folder the user names, then medrobust's own."""
    if data_root is None:
        return [home() / "data"]
    if not data_root.is_dir():
        raise UserError(
            f"the data root {data_root} is not a folder; --data-root names the folder that holds"
            " the data sets"
        )
    return [data_root, home() / "data"]


def candidates(card: Card, nested: Sequence[str], data_root: Path | None) -> list[Path]:
    """Folders that may hold a data set, best first: <root>/<id> or the root itself, and the
    archive's own folders below either.
    """
    bases = [folder for root in roots(data_root) for folder in (root / card.id, root)]
    return [
        folder
        for base in bases
        if base.is_dir()
        for inner in ("", *nested)
        if (folder := _below(base, inner)) is not None
    ]


def _below(base: Path, inner: str) -> Path | None:
    """The folder of a path below another one, its accents written either way; None where there is
    none.
    """
    for part in inner.split("/") if inner and not (base / inner).is_dir() else ():
        folder = next((path for path in base.iterdir() if composed(path.name) == part), None)
        if folder is None:
            return None
        base, inner = folder, ""
    return base / inner if (base / inner).is_dir() else None


def composed(text: str) -> str:
    """Accents as one character each (NFC), as tables and cards have them; file names of macOS take
    them apart.
    """
    return unicodedata.normalize("NFC", text)


def walk(base: Path) -> list[Found]:
    """Every file below a folder that is no clutter of Windows or macOS, in an order that depends on
    names alone.

    Links are followed. A folder of several names is entered once: by its shortest path, its own
    before a link. A link that leads nowhere is listed as the file it should be.
    """
    files = []
    entered = set()
    level = [(False, base)]
    while level:
        below = []
        for linked, folder in sorted(
            level, key=lambda item: (item[0], natural(item[1].as_posix()))
        ):
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            for path, status in _entries(folder):
                if stat.S_ISDIR(status.st_mode):
                    below.append((linked or path.is_symlink(), path))
                else:
                    files.append(Found(path.relative_to(base).as_posix()))
        level = below
    return sorted(files, key=lambda file: natural(file.name))


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What lies in a folder with what it is; of a link that leads nowhere, or in a circle, the link
    itself.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _clutter(entry.name):
                    try:
                        yield Path(entry.path), entry.stat()
                    except OSError:
                        yield Path(entry.path), entry.stat(follow_symlinks=False)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def is_other(name: str) -> bool:
    """Whether a file can be no image, to judge by its name alone."""
    return not name.lower().endswith(SUFFIXES) and name.lower().endswith(OTHERS)


def is_image(path: Path) -> bool:
    """Whether a file is an image: by its suffix, in any letter case, or DICOM by its first bytes.

    A file of another name that cannot be opened counts as one, so that it is found to be
    unreadable.
    """
    if is_other(path.name) or path.name.lower().endswith(SUFFIXES):
        return not is_other(path.name)
    try:
        checked(path, "data_bytes")
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except (OSError, ValueError):
        return True


def pattern(text: str) -> str:
    """A regular expression for a path pattern: `*` and `?` stay within one name. Each star but the
    last takes as little as it can and is never tried again, so that many cost no more than one.
    """
    first, *others = re.escape(text).replace(r"\?", "[^/]").split(r"\*")
    if not others:
        return first
    *middle, last = others
    return first + "".join(f"(?>[^/]*?{part})" for part in middle) + "[^/]*" + last


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key with numbers by value: image(2) before image(10)."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)
    ]


def missing(card: Card, data_root: Path | None, expected: str) -> UserError:
    """The data set is not on disk: what was looked for, and what to do."""
    return UserError(
        f"{card.id} is not on disk: {roots(data_root)[0] / card.id} should hold {expected}; get it"
        f" from {card.url} ({card.access}), then `medrobust data import {card.id} FILE.zip`, or"
        f" name the parent of its folder with --data-root; `medrobust data show {card.id}` has the"
        " steps"
    )
