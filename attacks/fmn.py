"""FMN, the fast minimum-norm attack (Pintor et al., arXiv 2102.12827, algorithm 1): the smallest
perturbation under any norm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.entry import POSITIVE, SHARES, Attack
from robustbench_med.attacks.losses import margin
from robustbench_med.attacks.minimal import (
    Minimal,
    Smallest,
    annealed,
    farthest,
    firmest,
    onto,
    proportions,
    scaled_size,
    steepness,
)
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1
LAST_ALPHA, LAST_GAMMA = 0.01, 0.001  # at the last step; of alpha the share
BEYOND = 1.001  # of the way to the boundary: on it a sample stands as often as not


def fmn(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    alpha: float = 1.0,
    gamma: float = 0.05,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    Every step follows the gradient of the margin and ends in a ball whose size follows the
    boundary. Until the sample is broken once it reaches to where the margin vanishes to first
    order; from then on it is gamma larger where the sample stands, and gamma smaller, at most the
    smallest size found, where it is broken. Two things are not the paper's: the ball reaches a
    thousandth beyond the boundary, on which nothing is broken, and where the boundary does not
    move on (black and white pixels take no part in a step) the ball is gamma larger as well. Of
    several tasks the one that stands firmest is attacked;
    every modality has a ball of its own, in the proportion of its radius.

    Args:
        steps: gradient steps.
        alpha: L2 length of the first step; it falls along half a cosine to a hundredth.
        gamma: share by which the size changes at first; it falls along half a cosine to 0.001.
        eot: draws per gradient (arXiv 1802.00420).
    """
    return fmn_minimal(
        view, x, y, threat, streams, steps=steps, alpha=alpha, gamma=gamma, eot=eot
    ).within(view, x, threat)


def fmn_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    alpha: float,
    gamma: float,
    eot: int,
) -> Minimal:
    """`fmn`, whatever the size of what it finds."""
    smallest = Smallest(view, x, y, threat)
    rows = smallest.open()
    if max(threat.radii) == 0 or len(rows) == 0:
        return smallest.found()
    x0, y, loss, p = x[rows], y[rows], firmest(margin, threat), proportions(view, threat, x)
    x, largest = x0, farthest(view, x0, threat)
    size = torch.full_like(largest, torch.inf)
    with view.only(rows):
        for k in range(steps):
            a = annealed(alpha, LAST_ALPHA * alpha, k, steps)
            c = annealed(gamma, LAST_GAMMA, k, steps)
            gradient = view.gradient(x, y, threat, loss=loss, eot=eot)
            broken = smallest.offer(rows, x, gradient.standing, late=k >= steps - steps // 4)
            best = smallest.size[-1, rows]
            slope = steepness(view, gradient.direction, threat).clamp_min(1e-12)
            boundary = scaled_size(view, x, x0, threat) + gradient.loss.abs() / slope
            behind = best.isfinite() | (boundary <= size) & size.isfinite()
            larger = torch.where(behind, size * (1 + c), BEYOND * boundary)
            size = torch.where(broken, torch.minimum(size * (1 - c), best), larger)
            size = size.minimum(largest)
            step = a * p * view.normalised(p * gradient.direction)
            x = onto(view, x + step, x0, threat, size)
        smallest.offer(rows, x, view.standing(x, y, threat), late=True)
    smallest.last(rows, x)
    return smallest.found()


ENTRY = Attack(
    name="fmn",
    function=fmn,
    minimal=fmn_minimal,
    positive=(*POSITIVE, "alpha"),
    shares=(*SHARES, "gamma"),
)
