"""Sigma-zero (Cina et al., arXiv 2402.01879, algorithm 1): the smallest number of pixels to change,
along the gradient of a smooth count.

The `REVISION` of `minimal` speaks for this file too.
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
    of_standing,
    proportions,
)
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

B1, B2 = 0.9, 0.999  # Adam
LAST_LR = 0.1  # of lr, at the last step
PACE = 0.01  # of tau, as a share of the learning rate


def sigma_zero(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    lr: float = 1.0,
    sigma: float = 0.001,
    tau: float = 0.3,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    Adam descends the hinge of the margin plus the share of places that have changed, smoothed to
    d^2 / (d^2 + sigma); d^2 is the sum over the channels of a place, which count together. Places
    that have changed by less than tau in every channel go back; tau rises where the sample is
    broken and falls where it stands. Of several tasks those that stand are attacked together; the
    places of a modality count for as much as its radius is smaller than the largest.

    Args:
        steps: gradient steps.
        lr: Adam's first step, for pixels in [0, 1]; it falls along half a cosine to a tenth.
        sigma: how smooth the count is; a change of sqrt(sigma) counts half.
        tau: first change below which a place goes back.
        eot: draws per gradient (arXiv 1802.00420).
    """
    return sigma_zero_minimal(
        view, x, y, threat, streams, steps=steps, lr=lr, sigma=sigma, tau=tau, eot=eot
    ).within(view, x, threat)


def sigma_zero_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    lr: float,
    sigma: float,
    tau: float,
    eot: int,
) -> Minimal:
    """`sigma_zero`, whatever the size of what it finds."""
    smallest = Smallest(view, x, y, threat)
    rows = smallest.open()
    if max(threat.radii) == 0 or len(rows) == 0:
        return smallest.found()
    x0, y, loose = x[rows], y[rows], proportions(view, threat, x)
    stands = of_standing(margin, threat)
    delta, threshold = torch.zeros_like(x0), x0.new_full((len(x0), 1), tau)
    first, second = torch.zeros_like(delta), torch.zeros_like(delta)
    with view.only(rows):
        for k in range(steps):
            x, eta = x0 + delta, annealed(lr, LAST_LR * lr, k, steps)
            gradient = view.gradient(
                x, y, threat, loss=lambda z, y: stands(z, y).clamp(max=0), eot=eot
            )
            broken = smallest.offer(rows, x, gradient.standing, late=k >= steps - steps // 4)
            g = loose * (slope_of_count(view, delta, threat, sigma) - gradient.direction)
            g = g / g.abs().amax(1, keepdim=True).clamp_min(1e-12)
            first, second = B1 * first + (1 - B1) * g, B2 * second + (1 - B2) * g**2
            step = (first / (1 - B1 ** (k + 1))) / ((second / (1 - B2 ** (k + 1))).sqrt() + 1e-8)
            moved = (x0 + delta - eta * step).clamp(0, 1) - x0
            threshold = threshold + PACE * eta * torch.where(broken, 1.0, -1.0)[:, None]
            threshold = threshold.clamp(0, 1)
            delta = torch.where(squares(view, moved, threat, "max") < threshold**2, 0.0, moved)
        x = x0 + delta
        smallest.offer(rows, x, view.standing(x, y, threat), late=True)
    smallest.last(rows, x)
    return smallest.found()


def slope_of_count(view: View, delta: Tensor, threat: Threat, sigma: float) -> Tensor:
    """(B, D): the gradient of the share of places that have changed, d^2 / (d^2 + sigma) each."""
    square, weight = squares(view, delta, threat, "sum"), weights(view, delta, threat)
    return weight * 2 * sigma * delta / (square + sigma) ** 2


def weights(view: View, like: Tensor, threat: Threat) -> Tensor:
    """(D,): the share of all places that a place of each modality counts for."""
    largest, places, each = max(threat.radii), 0, []
    for s, r in zip(view.segments, threat.radii, strict=True):
        places += (s.stop - s.start) // channels_of(s.shape, threat) * (r > 0)
        each.append(like.new_full((s.stop - s.start,), largest / r if r > 0 else 0.0))
    return torch.cat(each) / places


def squares(view: View, delta: Tensor, threat: Threat, how: str) -> Tensor:
    """(B, D): for each coordinate the "sum" over the channels of its place of the squared change,
    or their "max".
    """
    parts = []
    for s in view.segments:
        channels = channels_of(s.shape, threat)
        square = delta[:, s.start : s.stop].square().unflatten(1, (channels, -1))
        parts.append((square.sum(1) if how == "sum" else square.amax(1)).repeat(1, channels))
    return torch.cat(parts, 1)


def channels_of(shape: tuple[int, int, int], threat: Threat) -> int:
    """How many coordinates count together."""
    return shape[0] if threat.counts == "pixels" else 1


ENTRY = Attack(
    name="sigma-zero",
    function=sigma_zero,
    minimal=sigma_zero_minimal,
    norms=("L0",),
    radius_free=("L0",),
    positive=(*POSITIVE, "sigma"),
    shares=(*SHARES, "tau"),
)
