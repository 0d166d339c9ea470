"""Decoded images as training and evaluation see them: rows of a uint8 array that need not be in
memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robustbench_med.formats.arrays import load_npy

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float32]
Rows = NDArray[np.int64]


class Images(Protocol):
    """n images of one modality; indexing with (b,) rows yields uint8 (b, C, S, S). Of a table
    float32 (b, D, 1, 1) in [0, 1].
    """

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows, /) -> Pixels | Numbers: ...


@dataclass(frozen=True)
class Tabled:
    """The rows (n, D) of a clinical table, in [0, 1]."""

    values: Numbers

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Rows, /) -> Numbers:
        return self.values[rows][:, :, None, None]


@dataclass(frozen=True)
class Selected:
    """Some rows of other images, in an order of their own; nothing is copied."""

    images: Images
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows, /) -> Pixels | Numbers:
        return self.images[self.rows[rows]]


@dataclass(frozen=True)
class Mapped:
    """An `.npy` file (n, C, S, S), mapped anew for every batch: the pages of earlier batches do not
    stay resident.
    """

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Rows, /) -> Pixels:
        array: Pixels = load_npy(self.path, "the decoded images", mapped=True)
        return array[rows]  # a copy: the map is closed on return

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the whole array."""
        return load_npy(self.path, "the decoded images", mapped=True).shape
