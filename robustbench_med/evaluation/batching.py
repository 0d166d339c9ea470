"""How samples are evaluated: in which batches, and the seeds of what is random in them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from robustbench_med.attacks import Draws, View, seeded
from robustbench_med.data import Samples
from robustbench_med.evaluation.types import Drawing, Setting
from robustbench_med.models.contract import takes_generators


def shapes_of(samples: Samples) -> list[tuple[int, int, int]]:
    """(C, H, W) of each modality."""
    return [(m.shape[1], m.shape[2], m.shape[3]) for m in samples.batch([0])]


def batches(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Consecutive chunks of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def together(
    targets: NDArray[np.int64], n: int, setting: Setting, *, whole: bool
) -> Iterator[NDArray[np.int64]]:
    """The samples in the batches they are computed in.

    Args:
        targets: rows to compute, ascending.
        n: number of samples.
        whole: chunks of `setting.chunk` in the order of the split, each with all its samples as
            long as one of them is a target.
    """
    if not whole:
        yield from batches(targets, setting.batch_size)
        return
    for chunk in batches(np.arange(n), setting.chunk):
        if np.isin(chunk, targets).any():
            yield chunk


@contextlib.contextmanager
def drawn(
    view: View,
    drawing: Drawing,
    setting: Setting,
    ids: Sequence[str],
    rows: NDArray[np.int64],
    *purpose: object,
    sources: Sequence[tuple[View, Drawing]] = (),
) -> Iterator[None]:
    """Inside, what is random in this batch is seeded: a victim's own draws by sample or by chunk,
    whatever else draws by its first sample.

    Args:
        drawing: what the victim's predictions depend on.
        ids: of all samples.
        rows: numbers of this batch's samples.
        purpose: what the numbers are drawn for; other purposes draw other numbers.
        sources: the victims that `transfer` asks in the same batch, and what their predictions
            depend on.
    """
    for victim, depends_on in ((view, drawing), *sources):
        if depends_on == "sample":
            victim.own = Draws(setting.seed, *purpose, ids=[ids[row] for row in rows])
        elif depends_on == "batch":
            victim.own = Draws(setting.seed, *purpose, "chunk", int(rows[0]) // setting.chunk)
    try:
        with seeded(setting.device, setting.seed, *purpose, ids[rows[0]]):
            yield
    finally:
        view.own = None


SHARED_DRAWS = 32
"""Draws that judge a random victim whose draws serve whole chunks, over all chunks together."""


def judged_draws(draws: int, n: int, chunk: int, drawing: Drawing) -> int:
    """Draws that a random victim is judged on: those asked for, and more where a draw serves a
    chunk and there are too few of them to tell how far draws lie apart.

    Four draws of an ensemble of two are the same member once in eight times: they look like those
    of a deterministic victim. `SHARED_DRAWS` suffice wherever docs/records.md looked. One draw was
    asked for as such, and stays one.

    Args:
        draws: asked for, K.
        n: number of samples.
        chunk: samples of a chunk.
        drawing: of the victim.
    """
    if drawing != "batch" or draws == 1:
        return draws
    return max(draws, math.ceil(SHARED_DRAWS / math.ceil(n / chunk)))


def drawing_of(victim: nn.Module, *, stochastic: bool) -> Drawing:
    """How a victim draws: for each sample where it takes generators, else for the batch."""
    if not stochastic:
        return "none"
    return "sample" if takes_generators(victim) else "batch"
