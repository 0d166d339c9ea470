"""What the fields of cards are made of: text, numbers and paths as YAML has them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator


def _regular_expression(text: str) -> str:
    try:
        brackets = re.compile(text).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if not brackets:
        raise ValueError(f"{text!r} brackets nothing; put the part that names the group in (...)")
    return text


def number(text: object) -> object:
    return int(text) if isinstance(text, str) and text.isdecimal() else text


def nothing(text: object) -> object:
    """None for the ways YAML has to write it."""
    return None if isinstance(text, str) and text in ("", "~", "null", "Null", "NULL") else text


def once(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"a {what} is named twice: {max(names, key=names.count)!r}")
    return names


def _inside(text: str) -> str:
    """A folder below another one."""
    if text.startswith("/") or ".." in text.split("/") or "\\" in text:
        raise ValueError(f"{text!r} leads out of the data set's folder")
    return text


Inside = Annotated[str, AfterValidator(_inside)]
Regex = Annotated[str, AfterValidator(_regular_expression)]
Tag = Literal["PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
"""Elements of DICOM files that say which images belong together."""
