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
    of_standing,
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
FIRST_PLACES = 1.0  # of L0
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
    order (L0: one place, then more); from then on it is gamma larger where the sample stands, and
    gamma smaller, at most the smallest size found, where it is broken. Of several tasks those
    that stand are attacked together; every modality has a ball of its own, in the proportion of its
    radius. Three things are not the paper's: the ball reaches a thousandth beyond the boundary, on
    which nothing is broken; where the boundary does not move on (black and white pixels take no
    part in a step) the ball is gamma larger as well; in L1 and L0 a point is the nearest in the
    ball and in [0, 1], in place of the nearest in the ball, clipped.

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
    x0, y, loss, p = x[rows], y[rows], of_standing(margin, threat), proportions(view, threat, x)
    x, largest = x0, farthest(view, x0, threat)
    size = torch.full_like(largest, FIRST_PLACES if threat.norm == "L0" else torch.inf)
    with view.only(rows):
        for k in range(steps):
            a = annealed(alpha, LAST_ALPHA * alpha, k, steps)
            c = annealed(gamma, LAST_GAMMA, k, steps)
            gradient = view.gradient(x, y, threat, loss=loss, eot=eot)
            broken = smallest.offer(rows, x, gradient.standing, late=k >= steps - steps // 4)
            best = smallest.size[-1, rows]
            if threat.norm == "L0":
                size = next_places(size, broken, best, c)
            else:
                slope = steepness(view, gradient.direction, threat).clamp_min(1e-12)
                boundary = scaled_size(view, x, x0, threat) + gradient.loss.abs() / slope
                size = next_size(size, broken, best, boundary, c)
            size = size.minimum(largest)
            step = a * p * view.normalised(p * gradient.direction)
            x = onto(view, x + step, x0, threat, size)
        smallest.offer(rows, x, view.standing(x, y, threat), late=True)
    smallest.last(rows, x)
    return smallest.found()


def next_size(size: Tensor, broken: Tensor, best: Tensor, boundary: Tensor, gamma: float) -> Tensor:
    """The size (B,) of the next ball, where the boundary is this far to first order."""
    behind = best.isfinite() | (boundary <= size) & size.isfinite()
    larger = torch.where(behind, size * (1 + gamma), BEYOND * boundary)
    return torch.where(broken, torch.minimum(size * (1 - gamma), best), larger)


def next_places(places: Tensor, broken: Tensor, best: Tensor, gamma: float) -> Tensor:
    """The same of L0, which has no distance to first order: at least one place more or less."""
    fewer = torch.minimum(places - 1, (places * (1 - gamma)).floor()).minimum(best).clamp_min(1)
    return torch.where(broken, fewer, torch.maximum(places + 1, (places * (1 + gamma)).floor()))


ENTRY = Attack(
    name="fmn",
    function=fmn,
    minimal=fmn_minimal,
    radius_free=("Linf", "L2", "L1", "L0"),
    positive=(*POSITIVE, "alpha"),
    shares=(*SHARES, "gamma"),
)
