"""DDN, the decoupled direction and norm attack (Rony et al., arXiv 1811.09600, algorithm 1): the
smallest L2 perturbation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.entry import POSITIVE, SHARES, Attack
from robustbench_med.attacks.losses import ce
from robustbench_med.attacks.minimal import (
    Minimal,
    Smallest,
    annealed,
    farthest,
    of_standing,
    proportions,
)
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1
LAST = 0.01  # alpha of the last step


def ddn(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    alpha: float = 1.0,
    gamma: float = 0.05,
    first: float = 1.0,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    Every step follows the gradient of the cross-entropy, then the perturbation gets the length that
    is due: gamma shorter than before where the sample is broken, gamma longer where it stands. Of
    several tasks those that stand are attacked together; every modality has a sphere of its own,
    in the proportion of its radius. A sample without any gradient steps in a random direction.

    Args:
        steps: gradient steps.
        alpha: length of the first step; it falls along half a cosine to a hundredth.
        gamma: share by which the length changes at every step.
        first: length of the first perturbation, for pixels in [0, 1].
        eot: draws per gradient (arXiv 1802.00420).
    """
    return ddn_minimal(
        view, x, y, threat, streams, steps=steps, alpha=alpha, gamma=gamma, first=first, eot=eot
    ).within(view, x, threat)


def ddn_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    alpha: float,
    gamma: float,
    first: float,
    eot: int,
) -> Minimal:
    """`ddn`, whatever the size of what it finds."""
    smallest = Smallest(view, x, y, threat)
    rows = smallest.open()
    if max(threat.radii) == 0 or len(rows) == 0:
        return smallest.found()
    x0, y, loss = x[rows], y[rows], of_standing(ce, threat)
    streams, p = streams.take(rows), proportions(view, threat, x)
    x, length, longest = x0, x0.new_full((len(x0),), first), farthest(view, x0, threat)
    with view.only(rows):
        for k in range(steps):
            gradient = view.gradient(x, y, threat, loss=loss, eot=eot)
            broken = smallest.offer(rows, x, gradient.standing, late=k >= steps - steps // 4)
            g = p * view.normalised(p * somewhere(gradient.direction, streams))
            delta = x - x0 + annealed(alpha, LAST * alpha, k, steps) * g
            length = torch.where(broken, (1 - gamma) * length, (1 + gamma) * length)
            length = length.minimum(longest)
            x = (x0 + length[:, None] * p * view.normalised(delta / p.clamp_min(1e-30))).clamp(0, 1)
        smallest.offer(rows, x, view.standing(x, y, threat), late=True)
    smallest.last(rows, x)
    return smallest.found()


def somewhere(gradient: Tensor, streams: Streams) -> Tensor:
    """The gradient (B, D), a normal random vector where it is zero altogether."""
    flat = (gradient == 0).all(1)
    if not flat.any():
        return gradient
    gradient, rows = gradient.clone(), flat.nonzero().squeeze(1)
    gradient[rows] = streams.take(rows).normal(gradient.shape[1]).to(gradient)
    return gradient


ENTRY = Attack(
    name="ddn",
    function=ddn,
    minimal=ddn_minimal,
    norms=("L2",),
    radius_free=("L2",),
    positive=(*POSITIVE, "alpha", "first"),
    shares=(*SHARES, "gamma"),
    only_loss="ce",
)
