"""Hashes of code as tests ask for them."""

from pathlib import Path
from typing import Any

from robustbench_med.provenance import source_files
from robustbench_med.provenance.code import code_of


def hashed(thing: Any) -> str | None:
    return code_of(thing, "attack 'mine'")


def run(folder: Path, file: str = "mine.py") -> Any:
    """A user's file, run as `--include` runs it."""
    path = folder / file
    return source_files.run(
        path, source_files.imported(path.resolve()), f"medrobust_test_{folder.name}"
    )
