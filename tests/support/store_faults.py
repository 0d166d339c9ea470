"""Stores and what spoils them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustbench_med.store.store import Store


def first(out: Path) -> Path:
    return Store(out).paths()[0]


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes the record by hand."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path) -> None:
    npz = path.with_suffix(".npz")
    npz.write_bytes(npz.read_bytes()[:-40])


def flipped(path: Path) -> None:
    npz = path.with_suffix(".npz")
    content = bytearray(npz.read_bytes())
    content[len(content) // 2] ^= 4
    npz.write_bytes(content)
