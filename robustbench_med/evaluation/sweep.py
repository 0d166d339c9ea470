"""What the radii of a sweep share: attacks whose search knows no radius search once."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import Minimal, PassCount, Ray
from robustbench_med.evaluation.types import Method, Searched


def recall(method: Method, rows: NDArray[np.int64], x: Tensor) -> tuple[Any, NDArray[np.float64]]:
    """What an earlier radius of the sweep got for these samples, None if there was none, and the
    forward and backward passes it took.

    Args:
        rows: (B,) numbers of the samples.
        x: (B, D), where the result is put.
    """
    if method.sweep is None or not all(int(row) in method.sweep for row in rows):
        return None, np.zeros(2)
    parts, forward, backward = zip(*(method.sweep[int(row)] for row in rows), strict=True)
    return parts[0].join(parts, x), np.array([sum(forward), sum(backward)])


def remember(
    method: Method,
    rows: NDArray[np.int64],
    result: Minimal | Ray,
    after: PassCount,
    before: PassCount,
) -> None:
    """Keeps a result for the other radii of the sweep, on the CPU, with each sample's share of the
    passes between `before` and `after`.
    """
    if method.sweep is None:
        return
    forward, backward = (
        (b - a) / len(rows) for a, b in zip(astuple(before), astuple(after), strict=True)
    )
    for i, row in enumerate(rows.tolist()):
        method.sweep[row] = Searched(result.of(i), forward, backward)
