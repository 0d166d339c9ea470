"""CW, the attack of Carlini & Wagner (arXiv 1608.04644, sections V and VI): the smallest
perturbation that changes the prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.entry import LINF_L2, Attack
from robustbench_med.attacks.losses import JointLoss, margin, over_tasks
from robustbench_med.attacks.minimal import Minimal, Smallest, box, proportions
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 2
B1, B2 = 0.9, 0.999  # Adam
# of lr, at the last step: one step of 0.01 in every pixel of a large image is longer than many a
# perturbation
FINAL_PACE = 0.01
EXCESS = 4.0  # over the weight that holds a perturbation at the boundary


def cw(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    search: int = 6,
    lr: float = 0.01,
    c: float = 1.0,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    Adam descends |u|^2 - c hinge for L2, where u is the perturbation over the proportion of its
    modality's radius, searching c by orders of magnitude: tenths and tenfolds, then geometric
    means. (A small perturbation needs a c near 0.01, and large logits less; the paper's halving is
    slow to get there, and where c is too large Adam's memory of the hinge keeps u from shrinking.)
    A c that broke the sample is followed by less than a tenth where four times the c that holds u
    at the boundary, 2 |u| / |gradient of the hinge|, is less. Steps are projected
    into [0, 1] in place of the paper's tanh, which gives exactly black and white pixels no
    gradient. For Linf the hinge alone is descended inside |u| <= tau, with a binary search over tau
    from the radius (the paper's penalty on what exceeds tau, in the limit of large weight).

    Args:
        steps: Adam steps for each c or tau.
        search: values of c or tau.
        lr: Adam's first step, for pixels in [0, 1]; it falls exponentially to a hundredth, in L2
            from the first iterate that breaks the sample, so that a far boundary is reached.
        c: first weight of the hinge (L2).
        eot: draws per gradient (arXiv 1802.00420).
    """
    return cw_minimal(
        view, x, y, threat, streams, steps=steps, search=search, lr=lr, c=c, eot=eot
    ).within(view, x, threat)


def cw_minimal(
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
    eot: int,
) -> Minimal:
    """`cw`, whatever the size of what it finds."""
    smallest = Smallest(view, x, y, threat)
    if max(threat.radii) == 0:
        return smallest.found()
    linf = threat.norm == "Linf"
    lower, upper = x.new_zeros(len(x)), x.new_full((len(x),), 1.0 if linf else torch.inf)
    value = x.new_full((len(x),), max(threat.radii) if linf else c)  # tau, or c
    rows = smallest.open()
    for tried in range(search):
        if len(rows) == 0:
            break
        with view.only(rows):
            success, held = descend(
                view,
                x,
                y,
                threat,
                rows,
                value[rows],
                smallest,
                steps=steps,
                lr=lr,
                eot=eot,
                late=tried >= search - search // 4,
            )
        now = value[rows]
        if linf:  # success: a smaller box
            upper[rows] = torch.where(
                success, torch.minimum(now, smallest.size[-1, rows]), upper[rows]
            )
            lower[rows] = torch.where(success, lower[rows], now)
            following = torch.where(
                upper[rows] < 1, (lower[rows] + upper[rows]) / 2, (2 * now).clamp(max=1)
            )
        else:  # success: less weight on the hinge
            upper[rows] = torch.where(success, now, upper[rows])
            lower[rows] = torch.where(success, lower[rows], now)
            less = torch.minimum(now / 10, EXCESS * held)
            between = torch.where(lower[rows] > 0, (lower[rows] * upper[rows]).sqrt(), less)
            following = torch.where(upper[rows].isinf(), 10 * now, between)
        value[rows] = following
    return smallest.found()


def descend(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    rows: Tensor,
    weight: Tensor,
    smallest: Smallest,
    *,
    steps: int,
    lr: float,
    eot: int,
    late: bool,
) -> tuple[Tensor, Tensor]:
    """Adam from the clean images of `rows`; offers every iterate, as `late` ones or not.

    Returns which samples some iterate broke altogether, and for L2 the weight that would hold each
    at its last iterate with a gradient, where that of |u|^2 is as long as the weighted hinge's
    (inf where there was none).
    """
    x0, y, p, linf = x[rows], y[rows], proportions(view, threat, x), threat.norm == "Linf"
    low, high = box(x0, p)
    if linf:
        low, high = torch.maximum(low, -weight[:, None]), torch.minimum(high, weight[:, None])
    objective = hinge(threat)
    u = torch.zeros_like(x0)
    first, second = torch.zeros_like(u), torch.zeros_like(u)
    broken = torch.zeros(len(rows), dtype=torch.bool, device=x.device)
    since, held = x.new_ones(len(rows)), x.new_full((len(rows),), torch.inf)
    for i in range(1, steps + 1):
        if not linf:  # the first step that finds the sample broken, or this one
            since = torch.where(broken, since, i)
        at = (x0 + p * u).clamp(0, 1)
        gradient = view.gradient(at, y, threat, loss=objective, eot=eot)
        broken |= smallest.offer(rows, at, gradient.standing, late=late)
        if linf and not view.random and bool(broken.all()):
            return broken, held
        pull, slope = 2 * u, p * gradient.direction
        if not linf:
            length, steep = pull.norm(dim=1), slope.norm(dim=1)
            held = torch.where((length > 0) & (steep > 0), length / steep, held)
        down = -slope if linf else pull - weight[:, None] * slope
        first, second = B1 * first + (1 - B1) * down, B2 * second + (1 - B2) * down**2
        pace = lr * FINAL_PACE ** ((i - since) / (steps + 1 - since))
        u = u - pace[:, None] * (first / (1 - B1**i)) / ((second / (1 - B2**i)).sqrt() + 1e-8)
        u = torch.minimum(torch.maximum(u, low), high)
    at = (x0 + p * u).clamp(0, 1)
    broken |= smallest.offer(rows, at, view.standing(at, y, threat), late=late)
    smallest.last(rows, at)
    return broken, held


def hinge(threat: Threat) -> JointLoss:
    """Sum over tasks of min(margin, 0), or of the target's lead: a task that is wrong asks for
    nothing more (f_6 with confidence 0).
    """
    sign = -1 if threat.targeted else 1
    return lambda logits, y: over_tasks(
        [(sign * margin(logits[t], y[:, t].clamp_min(0))).clamp(max=0) for t in threat.tasks],
        y,
        threat.tasks,
    )


ENTRY = Attack(name="cw", function=cw, norms=LINF_L2, minimal=cw_minimal, radius_free=("L2",))
"""For Linf its boxes start at the radius."""
