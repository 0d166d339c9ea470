"""The door of JSON."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from robustbench_med.formats.files import door, text_of


def load_object(path: Path, what: str, most: str = "text_bytes") -> dict[str, Any]:
    """The object that a JSON file holds, of at most the limit of that name; UnreadableError."""
    with door(what, path):
        return object_of(text_of(path, most))


def object_of(text: str) -> dict[str, Any]:
    """The object that JSON text holds; ValueError, RecursionError."""
    loaded = value_of(text)
    if not isinstance(loaded, dict):
        raise ValueError("it is no JSON object")
    return loaded


def value_of(text: str) -> Any:
    """The content of JSON text, only what JSON has: no NaN, no half of a character, none of which
    can be written again; ValueError, RecursionError.
    """
    loaded = json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)
    if "\\ud" in text or "\\uD" in text:  # names of files that are no UTF-8 may hold some
        json.dumps(loaded, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return loaded


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"it has the key {twice!r} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
