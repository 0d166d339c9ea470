"""One process at a time writes the tables of a folder: who reads its records, is slow, and writes
after another would lose the other's rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from robustbench_med.owners.lock import Lock
from robustbench_med.progress import Display

P = ParamSpec("P")
R = TypeVar("R")
LOCK = "tables.lock"


def alone(
    write: Callable[Concatenate[Path, P], R],
) -> Callable[Concatenate[Path, P], R]:
    """A function that reads records of a folder and writes tables there, called by one process at a
    time; who waits says for whom.
    """

    @functools.wraps(write)
    def one_by_one(out: Path, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not out.is_dir():  # it says what is missing
            return write(out, *args, **kwargs)
        with Lock(out / LOCK).waited(Display().say, f"the tables of {out}"):
            return write(out, *args, **kwargs)

    return one_by_one
