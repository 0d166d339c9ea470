"""Adversarials on their way from one record of a chain to the next: `carried/<hash>.npz` in a run's
folder, there until the next record is. Without it the record's attack runs once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustbench_med.errors import UserError
from robustbench_med.formats.arrays import load_npz
from robustbench_med.formats.files import UnreadableError
from robustbench_med.paths import write_atomically
from robustbench_med.store.belief import HASH_LENGTH

FOLDER = "carried"


def keep(out: Path, record: str, adversarials: Mapping[int, Tensor]) -> None:
    """Writes what a record hands on: flat adversarials (D,) by sample, bit by bit."""
    rows = np.array(list(adversarials), np.int64)
    stacked = torch.stack(list(adversarials.values())).numpy() if adversarials else np.zeros((0, 0))

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, rows=rows, adversarials=stacked)

    write_atomically(_path(out, record), write)


def kept(out: Path, record: str) -> dict[int, Tensor] | None:
    """What a record hands on; None where that is not there, or is damaged."""
    try:
        found = load_npz(_path(out, record), "the adversarials")
        rows, adversarials = found["rows"].tolist(), torch.from_numpy(found["adversarials"])
        return dict(zip(rows, adversarials, strict=True))
    except (UnreadableError, KeyError, ValueError, TypeError):
        return None


def forget(out: Path, record: str) -> None:
    """Takes away what a record handed on."""
    path = _path(out, record)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot remove {path}: {error.strerror or error}") from error


def _path(out: Path, record: str) -> Path:
    return out / FOLDER / f"{record[:HASH_LENGTH]}.npz"
