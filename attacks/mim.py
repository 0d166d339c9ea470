"""MIM, the momentum iterative method (Dong et al., arXiv 1710.06081, algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from robustbench_med.attacks.entry import LINF_L2, Attack
from robustbench_med.attacks.pgd import ascend
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import Combine, View

REVISION = 1


def mim(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    step_size: float = 0.125,
    decay: float = 1.0,
    loss: str = "ce",
    eot: int = 1,
    combine: Combine = "mean",
    keep: str = "best",
) -> Tensor:
    """BIM along g <- decay g + grad / |grad|_1, the norm over all modalities; `decay` is the
    paper's mu, the rest as in `pgd`.
    """
    return ascend(
        view,
        x,
        x,
        y,
        threat,
        steps=steps,
        step_size=step_size,
        loss=loss,
        eot=eot,
        combine=combine,
        keep=keep,
        momentum=decay,
    )


ENTRY = Attack(name="mim", function=mim, norms=LINF_L2, flips=True, chooses=True)
