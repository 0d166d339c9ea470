"""One hostile input: how it is made, the command that meets it, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

CATEGORIES = (
    "archives",
    "cards",
    "command line",
    "radii",
    "images",
    "scans",
    "keras",
    "own models",
    "npz",
    "records",
    "safetensors",
    "yaml",
    "environment",
)
"""Each a module of this folder with a function `cases()`."""
REFUSED, LEFT_OUT, DONE = 2, 1, 0


@dataclass(frozen=True)
class Case:
    """A hostile input.

    Attributes:
        name: tells it from others of its category.
        command: arguments of `medrobust`, run in a folder of its own.
        make: writes the input into that folder.
        code: the exit code that the documents promise for it.
        says: what the output must hold: the file's name, or the value that was expected.
        never: what the output must not hold.
        right: whether what was made is nevertheless what an honest input gives, so that exit code 0
            is right too.
        variables: of the environment.
        limits: soft limits of the process by name (`RLIMIT_NOFILE`).
        fresh: needs an interpreter of its own.
    """

    name: str
    command: tuple[str, ...]
    make: Callable[[Path], object] = lambda folder: None
    code: int = REFUSED
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    right: Callable[[Path], bool] | None = None
    variables: dict[str, str | None] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    fresh: bool = False


def cases(category: str) -> list[Case]:
    """All hostile inputs of a category, each with a name of its own."""
    module = import_module(f"support.hostile.{category.replace(' ', '_')}")
    found = list[Case](module.cases())
    names = [case.name for case in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"{category}: {twice}"
    return found


def writes(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Makes one file."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def cuts(data: bytes, pieces: int) -> Iterator[tuple[str, bytes]]:
    """A file cut off at that many places, its end excluded."""
    for i in range(pieces):
        end = len(data) * i // pieces
        yield f"cut at {end} of {len(data)}", data[:end]
