"""What makes tests short: few samples and passes of what follows an attack, and no waiting for the
disk.
"""

import os
from collections.abc import Callable
from typing import Any

from robustbench_med.evaluation import batching, gradients
from robustbench_med.runs import challenge

SHORT = (
    (batching, "SHARED_DRAWS", 4),
    (gradients, "SAMPLES", 2),
    (gradients, "STEPS", (1 / 8, 1 / 8)),
    (challenge, "SAMPLES", 2),
    (challenge, "LEAST", 100),
)
"""Signs and challengers of an attack, and the draws that judge victims which share them."""


def shorten(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Makes what follows an attack short in this process, for good or by what `put` does."""
    for module, name, value in SHORT:
        put(module, name, value)


def unsynced() -> None:
    """Files of this process are not forced onto the disk, which takes 20 ms a file and is for power
    cuts: what a system call has written outlives a kill.
    """
    os.fsync = lambda _: None
