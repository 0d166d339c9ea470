"""FGSM, the fast gradient sign method (Goodfellow et al., arXiv 1412.6572, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.entry import LINF_L2, Attack
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1


@dataclass(frozen=True)
class Ray:
    """The gradients (B, D) that one step follows, however long it is: they serve every radius of a
    sweep.
    """

    gradient: Tensor

    def within(self, view: View, x0: Tensor, threat: Threat) -> Tensor:
        """(B, D): one step of the full radius."""
        return view.project(x0 + view.steepest(self.gradient, threat), x0, threat)

    def of(self, i: int) -> Ray:
        """Sample i alone, on the CPU."""
        return Ray(self.gradient[i : i + 1].cpu())

    @staticmethod
    def join(parts: Sequence[Ray], like: Tensor) -> Ray:
        """A batch of samples again, where `like` is."""
        return Ray(torch.cat([part.gradient for part in parts]).to(like))


def fgsm(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    loss: str = "ce",
    eot: int = 1,
) -> Tensor:
    """One step of the full radius: x + eps sign(grad) for Linf, x + eps grad / |grad| for L2.

    Args:
        loss: "ce", "margin", "dlr" or "pma".
        eot: draws per gradient (arXiv 1802.00420).
    """
    return fgsm_ray(view, x, y, threat, streams, loss=loss, eot=eot).within(view, x, threat)


def fgsm_ray(
    view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams, *, loss: str, eot: int
) -> Ray:
    """What `fgsm` steps along; it asks the threat model for its tasks alone."""
    return Ray(view.gradient(x, y, threat, loss=loss, eot=eot).direction)


ENTRY = Attack(name="fgsm", function=fgsm, norms=LINF_L2, ray=fgsm_ray, chooses=True)
