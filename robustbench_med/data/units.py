"""What a unit of a file is in the pixels that a model sees, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data.images import Images, Rows
from robustbench_med.data.preprocessing import Scale

Sizes = NDArray[np.float64]


class Scales(Protocol):
    """Of n images of one modality; indexing with (b,) rows yields float64 (b, 3), the fields of
    `preprocessing.Scale`.
    """

    def __getitem__(self, rows: Rows, /) -> Sizes: ...


@dataclass(frozen=True)
class OfDrawn:
    """Of drawn images of 8 bits, which are in no file."""

    images: Images

    def __getitem__(self, rows: Rows, /) -> Sizes:
        pixels = self.images[rows].reshape(len(rows), -1).astype(np.float64)
        return np.stack(
            [np.full(len(rows), 1 / 255), np.full(len(rows), np.nan), np.ptp(pixels, 1) / 255], 1
        )


FIELDS = {"grey": "grey", "HU": "hounsfield", "%": "range"}
"""Which field of a scale a unit of radii is."""


def sizes(scales: Scales, rows: Rows, unit: str) -> Sizes:
    """(b,): what one `unit` is in [0, 1]; NaN where an image has none, inf where it is more than
    all.
    """
    column = Scale._fields.index(FIELDS[unit])
    return scales[rows][:, column] * (0.01 if unit == "%" else 1.0)
