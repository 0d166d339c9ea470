"""What the headers of DICOM files say whose they are, read once as long as a file is the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from robustbench_med.data.cache import memory_of
from robustbench_med.errors import UserError
from robustbench_med.provenance.hashes import Read, last_change, remembered, signature

SAID = "="
"""Goes before what a header says in what is remembered: that it says nothing is remembered too."""


def tags_of(name: str, base: Path, paths: Sequence[Path], tag: str) -> list[str | None]:
    """What each file says in an element of its header; None where it says nothing, or is no DICOM.

    Args:
        name: the data set's id.
        base: the folder that it lies in.

    Raises:
        UserError: pydicom is missing.
    """

    def read(path: Path, settled: float) -> Read:
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                said = f"{SAID}{_said(file, tag) or ''}"
                return signature(stat), said, last_change(stat) < settled
        except OSError:
            return "", "", False

    found = remembered(paths, memory_of(name, base, tag), read)
    return [said.removeprefix(SAID) or None for said in found]


def tag_of(path: Path, tag: str) -> str | None:
    """The same of one file, not remembered."""
    try:
        with path.open("rb") as file:
            return _said(file, tag)
    except OSError:
        return None


def _said(file: BinaryIO, tag: str) -> str | None:
    try:
        import pydicom
    except ImportError as error:
        raise UserError("reading DICOM needs pydicom: pip install 'medrobust[clinical]'") from error
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[tag])
        return str(header.get(tag) or "").strip() or None
    except Exception:  # whatever a faulty file makes pydicom raise: its pixels will tell
        return None
