"""BIM, the basic iterative method (Kurakin et al., arXiv 1607.02533): PGD from the clean image."""

from __future__ import annotations

from torch import Tensor

from robustbench_med.attacks.entry import LINF_L2, Attack
from robustbench_med.attacks.pgd import ascend
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1


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
    return ascend(
        view, x, x, y, threat, steps=steps, step_size=step_size, loss=loss, eot=eot, keep=keep
    )


ENTRY = Attack(name="bim", function=bim, norms=LINF_L2, flips=True, chooses=True)
