"""APGD, auto-PGD without a step size to tune, and its targeted version (Croce & Hein, arXiv
2003.01690, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_med.attacks.losses import dlr_towards, over_tasks
from robustbench_med.attacks.pgd import Contest
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import JointLoss, RefusedError, View, named, of_standing

REVISION = 1
MOMENTUM = 0.75  # alpha of eq. 3


def apgd(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
    rho: float = 0.75,
    eot: int = 1,
) -> Tensor:
    """Momentum steps whose size, first twice the radius, halves where progress stalls; then on from
    the best point so far.

    Args:
        steps: gradient steps.
        restarts: runs from fresh random points on the samples still standing.
        loss: "ce", "margin" or "dlr".
        rho: share of steps that must raise the loss for the step size to stay.
        eot: draws per gradient (arXiv 1802.00420).
    """
    contest = Contest(view, x, y, threat)
    for _ in range(restarts):
        rows = contest.open()
        if len(rows) == 0:
            break
        start = view.random_point(x[rows], threat, streams.take(rows))
        with view.only(rows):
            candidate = climb(
                view, start, x[rows], y[rows], threat, steps=steps, loss=loss, rho=rho, eot=eot
            )
        contest.enter(rows, candidate)
    return contest.best


def apgd_t(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    targets: int = 9,
    rho: float = 0.75,
    eot: int = 1,
) -> Tensor:
    """One APGD run a wrong class, likeliest first, on the targeted DLR; a task of fewer than 4
    classes gets the margin instead.

    Args:
        targets: wrong classes tried at most.
        steps, rho, eot: as in `apgd`.
    """
    if threat.targeted:
        raise RefusedError(
            "apgd-t chooses its own targets; attack towards a class of yours with apgd"
        )

    def objective(
        logits: Sequence[Tensor], y: Tensor
    ) -> Tensor:  # y carries the targets in its right half
        half = y.shape[1] // 2
        losses = [
            dlr_towards(logits[t], y[:, t].clamp_min(0), y[:, half + t]) for t in threat.tasks
        ]
        return over_tasks(
            of_standing(losses, logits, y, threat) if view.draws == 1 else losses, y, threat.tasks
        )

    contest = Contest(view, x, y, threat)
    for other in view.runners_up(x, y, threat, targets):
        rows = contest.open()
        if len(rows) == 0:
            break
        start = view.random_point(x[rows], threat, streams.take(rows))
        towards = torch.cat((y, other), 1)[rows]
        with view.only(rows):
            candidate = climb(
                view, start, x[rows], towards, threat, steps=steps, loss=objective, rho=rho, eot=eot
            )
        contest.enter(rows, candidate)
    return contest.best


def climb(
    view: View,
    x: Tensor,
    x0: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int,
    loss: str | JointLoss,
    rho: float,
    eot: int,
) -> Tensor:
    """One run of algorithm 1 from the start x.

    Against a deterministic victim losses are ascended on the tasks still standing, and a sample
    stops once none is.
    """
    deterministic = view.draws == 1
    objective = named(loss, threat, standing_only=deterministic) if isinstance(loss, str) else loss
    window, shrink, shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    gradient = view.gradient(x, y, threat, loss=objective, eot=eot)
    grad, value = gradient.direction, gradient.loss
    losses = x.new_full((steps + 1, len(x)), torch.nan)
    losses[0] = value
    view.trace(losses)
    result, fewest = x.clone(), gradient.standing.clone()
    rows = torch.arange(len(x), device=x.device)
    x_prev, x_max, grad_max, f_max, f_check = (
        x,
        x.clone(),
        grad.clone(),
        value.clone(),
        value.clone(),
    )
    size, rises, halved, since = (
        x.new_full((len(x), 1), 2.0),
        torch.zeros_like(value),
        torch.ones_like(value, dtype=torch.bool),
        0,
    )
    for i in range(steps):
        stands = fewest[rows] > 0
        if deterministic and not stands.any():
            break
        if deterministic and not view.random and not stands.all():
            state = (
                rows,
                x,
                x_prev,
                x0,
                y,
                grad,
                value,
                x_max,
                grad_max,
                f_max,
                f_check,
                size,
                rises,
                halved,
            )
            (
                rows,
                x,
                x_prev,
                x0,
                y,
                grad,
                value,
                x_max,
                grad_max,
                f_max,
                f_check,
                size,
                rises,
                halved,
            ) = (kept[stands] for kept in state)
        a = MOMENTUM if i else 1.0
        z = view.project(x + size * view.steepest(grad, threat), x0, threat)
        x, x_prev = view.project(x + a * (z - x) + (1 - a) * (x - x_prev), x0, threat), x
        gradient = view.gradient(x, y, threat, loss=objective, eot=eot)
        rises += gradient.loss > value
        grad, value = gradient.direction, gradient.loss
        losses[i + 1, rows] = value
        higher = value > f_max
        x_max[higher], grad_max[higher], f_max[higher] = x[higher], grad[higher], value[higher]
        better = (
            (gradient.standing < fewest[rows]) | ((gradient.standing == fewest[rows]) & higher)
        ) & (fewest[rows] > 0)
        result[rows[better]], fewest[rows[better]] = x[better], gradient.standing[better]
        since += 1
        if since == window:  # a checkpoint of the paper: conditions 1 and 2 of section 3.2
            stalls = (rises < rho * window) | (~halved & (f_check >= f_max))
            halved, f_check = stalls, f_max.clone()
            size[stalls] /= 2
            x[stalls], grad[stalls] = x_max[stalls], grad_max[stalls]
            rises.zero_()
            since, window = 0, max(window - shrink, shortest)
    if deterministic:
        return result
    contest = Contest(view, x0, y, threat)  # nothing left the batch: rows are all samples
    for candidate in (x_max, x):
        contest.enter(torch.arange(len(x)), candidate)
    return contest.best
