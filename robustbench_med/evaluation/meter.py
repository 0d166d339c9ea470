"""Progress within a batch: a forward pass is a share of its samples' work, since what an attack
takes at most is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from robustbench_med.attacks import View
from robustbench_med.progress import Advance

FINEST = 0.01
"""Of a batch's work: less is told together with what follows."""


@contextlib.contextmanager
def metered(
    views: Sequence[View], samples: float, most: int | None, tick: Advance
) -> Iterator[None]:
    """Inside, `tick` is told of passes as shares of samples, at the end of what is left of them:
    those that leave early take fewer passes.

    Args:
        views: through which the passes are made.
        samples: of the batch.
        most: forward passes a sample at most; None: not known, and told at the end alone.
    """
    told = made = 0.0

    def passed(n: int) -> None:
        nonlocal told, made
        made = min(made + (n / most if most else 0.0), (1 - FINEST) * samples)
        if made - told >= FINEST * samples:
            tick(made - told)
            told = made

    for view in views:
        view.tick = passed
    try:
        yield
    finally:
        for view in views:
            view.tick = None
    tick(samples - told)
