"""EAD, the elastic-net attack (Chen et al., arXiv 1709.04114, algorithm 1): the smallest L1
perturbation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.cw import hinge
from robustbench_med.attacks.entry import POSITIVE, Attack
from robustbench_med.attacks.minimal import Minimal, Smallest, box, proportions
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1


def ead(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    search: int = 9,
    lr: float = 0.01,
    c: float = 0.001,
    beta: float = 0.01,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    FISTA descends |u|_2^2 + beta |u|_1 - c hinge (CW's), where u is the perturbation over the
    proportion of its modality's radius: steps along the smooth part, each followed by a shrinkage
    of every coordinate by beta and a clip to [0, 1]. c is ten times as large until it breaks the
    sample, then halved towards the smallest that does. An iterate takes two passes: the gradient is
    not taken where predictions are looked at.

    Args:
        steps: steps for each c.
        search: values of c.
        lr: first step size, for pixels in [0, 1]; it falls as the root of the steps left.
        c: first weight of the hinge.
        beta: weight of the L1 norm, and what every coordinate shrinks by in a step.
        eot: draws per gradient (arXiv 1802.00420).
    """
    return ead_minimal(
        view, x, y, threat, streams, steps=steps, search=search, lr=lr, c=c, beta=beta, eot=eot
    ).within(view, x, threat)


def ead_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    search: int,
    lr: float,
    c: float,
    beta: float,
    eot: int,
) -> Minimal:
    """`ead`, whatever the size of what it finds."""
    smallest = Smallest(view, x, y, threat)
    rows = smallest.open()
    if max(threat.radii) == 0 or len(rows) == 0:
        return smallest.found()
    weight = x.new_full((len(rows),), c)
    lower, upper = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    for tried in range(search):
        late = tried >= search - search // 4
        with view.only(rows):
            broken = descend(
                view, x, y, threat, rows, weight, smallest, steps, lr, beta, eot, late=late
            )
        upper = torch.where(broken, weight, upper)
        lower = torch.where(broken, lower, weight)
        weight = torch.where(upper.isinf(), 10 * weight, (lower + upper) / 2)
    return smallest.found()


def descend(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    rows: Tensor,
    weight: Tensor,
    smallest: Smallest,
    steps: int,
    lr: float,
    beta: float,
    eot: int,
    *,
    late: bool,
) -> Tensor:
    """FISTA from the clean images of `rows`; offers every iterate and returns which samples one of
    them broke.
    """
    x0, y, p, objective = x[rows], y[rows], proportions(view, threat, x), hinge(threat)
    low, high = box(x0, p)
    broken = torch.zeros(len(rows), dtype=torch.bool, device=x.device)
    u = ahead = torch.zeros_like(x0)  # x^(k) and y^(k) of the paper, from the clean image
    for k in range(steps):
        at = (x0 + p * ahead).clamp(0, 1)
        slope = p * view.gradient(at, y, threat, loss=objective, eot=eot).direction
        down = 2 * ahead - weight[:, None] * slope
        before, z = u, ahead - lr * (1 - k / steps) ** 0.5 * down
        u = torch.where(z.abs() > beta, z - beta * z.sign(), 0.0)
        u = torch.minimum(torch.maximum(u, low), high)
        ahead = u + k / (k + 3) * (u - before)
        at = (x0 + p * u).clamp(0, 1)
        broken |= smallest.offer(rows, at, view.standing(at, y, threat), late=late)
    smallest.last(rows, at)
    return broken


ENTRY = Attack(
    name="ead",
    function=ead,
    minimal=ead_minimal,
    norms=("L1",),
    radius_free=("L1",),
    positive=(*POSITIVE, "beta"),
)
