"""Files below a data set's folder: where it lies, which files count, patterns over their paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.data.registry import Card
from robustbench_med.errors import UserError
from robustbench_med.paths import home

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".dcm", ".dicom", ".nii", ".nii.gz")
CLUTTER = ("__macosx", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Found:
    """A file: path relative to the data set's folder with forward slashes, size in bytes, time of change in nanoseconds."""

    name: str
    size: int
    changed: int


def roots(data_root: Path | None) -> list[Path]:
    """Where data sets are looked for: the folder the user names, then medrobust's own."""
    if data_root is None:
        return [home() / "data"]
    if not data_root.is_dir():
        raise UserError(f"the data root {data_root} is not a folder; --data-root names the folder that holds the data sets")
    return [data_root, home() / "data"]


def candidates(card: Card, nested: Sequence[str], data_root: Path | None) -> list[Path]:
    """Folders that may hold a data set, best first: <root>/<id> or the root itself, and the archive's own folders below either."""
    bases = [folder for root in roots(data_root) for folder in (root / card.id, root)]
    return [base / inner if inner else base for base in bases for inner in ("", *nested) if (base / inner).is_dir()]


def walk(base: Path) -> list[Found]:
    """Every file below a folder that is no clutter of Windows or macOS, in an order that depends on names alone."""
    found = []
    for folder, folders, names in os.walk(base, followlinks=True):
        folders[:] = [name for name in folders if not _clutter(name)]
        for name in names:
            if not _clutter(name):
                path = Path(folder, name)
                stat = path.stat()
                found.append(Found(path.relative_to(base).as_posix(), stat.st_size, stat.st_mtime_ns))
    return sorted(found, key=lambda file: natural(file.name))


def _clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def is_image(name: str) -> bool:
    """Whether the suffix, in any letter case, is an image's."""
    return name.lower().endswith(SUFFIXES)


def pattern(text: str) -> str:
    """A regular expression for a path pattern: `*` and `?` stay within one name."""
    return re.escape(text).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key with numbers by value: image(2) before image(10)."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def missing(card: Card, data_root: Path | None, expected: str) -> UserError:
    """The data set is not on disk: what was looked for, and what to do."""
    return UserError(
        f"{card.id} is not on disk: {roots(data_root)[0] / card.id} should hold {expected}; get it from {card.url} ({card.access}), then "
        f"`medrobust data import {card.id} FILE.zip`, or name the parent of its folder with --data-root; `medrobust data show {card.id}` "
        "has the steps"
    )
