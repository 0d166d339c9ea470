"""FAB, the fast adaptive boundary attack, targeted version (Croce & Hein, arXiv 1907.02044,
algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.losses import JointLoss, margin, margin_towards, standing
from robustbench_med.attacks.minimal import Minimal, Smallest, box, proportions
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Norm, Threat
from robustbench_med.attacks.view import View

REVISION = 1
ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9
ORDER: Mapping[Norm, float] = {"Linf": torch.inf, "L2": 2, "L1": 1}


def fab(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    targets: int = 9,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    Every step goes to the linearised boundary, pulled towards the clean image; beyond the boundary
    it backs off. Several tasks are attacked together (the boundary of the task that stands
    firmest), then each alone.

    Args:
        steps: steps for each wrong class.
        targets: wrong classes tried at most, likeliest first.
        eot: draws per gradient (arXiv 1802.00420).
    """
    return fab_minimal(view, x, y, threat, streams, steps=steps, targets=targets, eot=eot).within(
        view, x, threat
    )


def fab_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    targets: int,
    eot: int,
) -> Minimal:
    """`fab`, whatever the size of what it finds."""
    smallest = Smallest(view, x, y, threat)
    rows = smallest.open()
    if max(threat.radii) == 0 or len(rows) == 0:
        return smallest.found()
    goals = [threat.tasks] + ([(t,) for t in threat.tasks] if len(threat.tasks) > 1 else [])
    aims = [y] if threat.targeted else view.runners_up(x, y, threat, targets)
    for tasks in goals:
        for aim in aims:
            towards = torch.cat((y, aim), 1)
            with view.only(rows):
                search(
                    view,
                    x,
                    towards,
                    threat,
                    replace(threat, tasks=tasks),
                    rows,
                    smallest,
                    steps=steps,
                    eot=eot,
                )
    return smallest.found()


def boundary(goal: Threat) -> JointLoss:
    """The function that is positive exactly beyond the boundary: the least over tasks of z_aim -
    z_y (or the target's lead).
    """

    def lead(
        logits: Sequence[Tensor], y: Tensor
    ) -> Tensor:  # y carries the aimed-at classes in its right half
        half = y.shape[1] // 2
        leads = []
        for t in goal.tasks:
            label = y[:, t].clamp_min(0)
            value = (
                -margin(logits[t], label)
                if goal.targeted
                else margin_towards(logits[t], label, y[:, half + t])
            )
            leads.append(
                torch.where(y[:, t] >= 0, value, torch.inf)
            )  # an unlabelled task stands nowhere in the way
        least = torch.stack(leads).amin(0)
        return torch.where(least.isinf(), torch.zeros_like(least), least)

    return lead


def search(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    goal: Threat,
    rows: Tensor,
    smallest: Smallest,
    *,
    steps: int,
    eot: int,
) -> None:
    """Algorithm 1 towards the goal's tasks, in u: the perturbation over the proportion of its
    modality's radius, under one norm.
    """
    lead = boundary(goal)
    x0, y, p = x[rows], y[rows], proportions(view, threat, x)
    low, high = box(x0, p)
    u = torch.zeros_like(x0)
    for step in range(steps):
        gradient = view.gradient((x0 + p * u).clamp(0, 1), y, threat, loss=lead, eot=eot)
        w = p * gradient.direction
        offset = gradient.loss - (w * u).sum(1)  # the plane offset + w . v = 0
        from_here = project_onto_plane(u, w, offset, low, high, threat.norm)
        from_clean = project_onto_plane(torch.zeros_like(u), w, offset, low, high, threat.norm)
        near, far = (length(step, threat.norm)[:, None] for step in (from_here, from_clean))
        alpha = (near / (near + far).clamp_min(1e-12)).clamp(max=ALPHA_MAX)
        u = (1 - alpha) * (u + ETA * from_here) + alpha * (ETA * from_clean)
        u = torch.minimum(torch.maximum(u, low), high)
        at = (x0 + p * u).clamp(0, 1)
        share, of_goal = (
            torch.stack(drawn).mean(0)
            for drawn in zip(*stands(view, at, y, threat, goal), strict=True)
        )
        smallest.offer(rows, at, share, late=step >= steps - steps // 4)
        u = torch.where(
            of_goal[:, None] < 0.5 / len(goal.tasks), BETA * u, u
        )  # beyond the boundary: back towards the clean image
    smallest.last(rows, at)


def stands(
    view: View, x: Tensor, y: Tensor, threat: Threat, goal: Threat
) -> list[tuple[Tensor, Tensor]]:
    """For each fresh draw the share still standing of all attacked tasks, and of the goal's."""
    return [
        (standing(logits, y, threat), standing(logits, y, goal))
        for logits in view.predictions(x, y)
    ]


def project_onto_plane(
    u: Tensor, w: Tensor, offset: Tensor, low: Tensor, high: Tensor, norm: Norm
) -> Tensor:
    """The smallest step d with offset + w . (u + d) = 0 and low <= u + d <= high, (B, D); as far as
    the box goes where there is none.

    Every coordinate can add at most |w| cap to w . d. Linf moves all by t until they meet their
    caps; L2 by t |w|: both are sum of a min(t, s) = b, a concave, piecewise linear function of t
    whose kinks s are sorted. L1 moves one coordinate after another to its cap, the steepest first.
    """
    b = -(offset + (w * u).sum(1))
    direction = torch.sign(w) * torch.sign(b)[:, None]
    cap = torch.where(direction > 0, high - u, u - low).clamp_min(0)
    size = w.abs()
    if norm == "L1":
        return direction * steepest_first(size, cap, b.abs())
    pace = torch.ones_like(size) if norm == "Linf" else size
    kink = torch.where(size > 0, cap / pace.clamp_min(1e-30), 0.0)
    kink, order = kink.sort(1)
    slope = (size * pace).gather(1, order)
    reached = (slope * kink).cumsum(1)
    left = slope.sum(1, keepdim=True) - slope.cumsum(1)  # slope beyond each kink
    amount = reached + kink * left
    k = (amount < b.abs()[:, None]).sum(1, keepdim=True)  # kinks passed
    before = (k - 1).clamp_min(0)
    passed = torch.where(k > 0, reached.gather(1, before), 0.0)
    remaining = torch.where(k > 0, left.gather(1, before), slope.sum(1, keepdim=True))
    t = (b.abs()[:, None] - passed) / remaining.clamp_min(1e-30)
    t = torch.where((k < size.shape[1]) & (remaining > 0), t, torch.inf)
    moved = torch.minimum(
        t * torch.where(size > 0, pace, 0.0), cap
    ).nan_to_num()  # inf x 0: where the function is flat
    return direction * moved


def steepest_first(size: Tensor, cap: Tensor, wanted: Tensor) -> Tensor:
    """How far each coordinate moves, (B, D), so that the sum of moves is least and that of size *
    move is `wanted` (B,): each to its cap in the order of size, the last one as far as is missing.
    """
    steep, order = size.sort(1, descending=True)
    reach = steep * cap.gather(1, order)
    before = reach.cumsum(1) - reach
    amount = torch.minimum((wanted[:, None] - before).clamp_min(0), reach)
    moved = torch.where(steep > 0, amount / steep.clamp_min(1e-30), 0.0)
    return torch.zeros_like(size).scatter(1, order, moved)


def length(step: Tensor, norm: Norm) -> Tensor:
    """Norm of each row, (B,)."""
    return step.norm(ORDER[norm], dim=1)


ENTRY = Attack(
    name="fab", function=fab, norms=tuple(ORDER), minimal=fab_minimal, radius_free=tuple(ORDER)
)
