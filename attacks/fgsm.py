"""FGSM, the fast gradient sign method (Goodfellow et al., arXiv 1412.6572, section 4)."""

from __future__ import annotations

from torch import Tensor

from robustbench_med.attacks.view import Streams, Threat, View


def fgsm(view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams, *, loss: str = "ce", eot: int = 1) -> Tensor:
    """One step of the full radius: x + eps sign(grad) for Linf, x + eps grad / |grad| for L2.

    Args:
        loss: "ce", "margin" or "dlr".
        eot: draws per gradient (arXiv 1802.00420).
    """
    gradient = view.gradient(x, y, threat, loss=loss, eot=eot).direction
    return view.project(x + view.steepest(gradient, threat), x, threat)
