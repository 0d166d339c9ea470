"""BIM, the basic iterative method (Kurakin et al., arXiv 1607.02533): PGD from the clean image."""

from __future__ import annotations

from torch import Tensor

from robustbench_med.attacks.pgd import pgd
from robustbench_med.attacks.view import Streams, Threat, View


def bim(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    step_size: float = 0.125,
    loss: str = "ce",
    eot: int = 1,
    keep: str = "best",
) -> Tensor:
    """Iterated steps from the clean image; arguments as in `pgd`."""
    return pgd(view, x, y, threat, streams, steps=steps, step_size=step_size, random_start=False, restarts=1, loss=loss, eot=eot, keep=keep)
