"""APGD, auto-PGD without a step size to tune, and its targeted version (Croce & Hein, arXiv
2003.01690, algorithm 1; in L1 arXiv 2103.01208).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from robustbench_med.attacks.apgd_l1 import climb_l1
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.losses import (
    DLR_TARGETED,
    JointLoss,
    dlr_towards,
    named,
    of_standing,
    over_tasks,
)
from robustbench_med.attacks.pgd import Contest, Quarters
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Norm, Threat
from robustbench_med.attacks.view import Combine, Gradient, RefusedError, View

REVISION = 2
NORMS: tuple[Norm, ...] = ("Linf", "L2", "L1")
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
    combine: Combine = "mean",
) -> Tensor:
    """Momentum steps whose size, first twice the radius, halves where progress stalls; then on from
    the best point so far.

    Args:
        steps: gradient steps.
        restarts: runs from fresh random points on the samples still standing, every second one
            with soft gradients where the victim has them.
        loss: "ce", "margin", "dlr" or "pma".
        rho: share of steps that must raise the loss for the step size to stay.
        eot: draws per gradient (arXiv 1802.00420).
        combine: "mean" or "normalised", of the draws' gradients (`View.gradient`).
    """
    contest = Contest(view, x, y, threat)
    for run in range(restarts):
        rows = contest.open()
        if len(rows) == 0:
            break
        start = view.random_point(x[rows], threat, streams.take(rows))
        soft = run % 2 == 1 and view.has_soft
        with view.only(rows), view.softened(wanted=soft):
            candidate = climb(
                view,
                start,
                x[rows],
                y[rows],
                threat,
                steps=steps,
                loss=loss,
                rho=rho,
                eot=eot,
                combine=combine,
            )
        contest.enter(rows, candidate)
    return contest.result()


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
    combine: Combine = "mean",
) -> Tensor:
    """One APGD run a wrong class, likeliest first, on the targeted DLR; a task of fewer than 4
    classes gets the margin instead.

    Args:
        targets: wrong classes tried at most.
        steps, rho, eot, combine: as in `apgd`.
    """
    if threat.targeted:
        raise RefusedError(
            "apgd-t chooses its own targets; attack towards a class of yours with apgd"
        )
    others = view.runners_up(x, y, threat, targets)
    return towards_each(
        view, x, y, threat, streams, others, steps=steps, rho=rho, eot=eot, combine=combine
    )


def towards_each(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    others: Sequence[Tensor],
    *,
    steps: int,
    rho: float,
    eot: int,
    combine: Combine,
) -> Tensor:
    """One run towards each of the `others`, wrong classes (B, T), on what still stands."""

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
    for other in others:
        rows = contest.open()
        if len(rows) == 0:
            break
        start = view.random_point(x[rows], threat, streams.take(rows))
        towards = torch.cat((y, other), 1)[rows]
        with view.only(rows):
            candidate = climb(
                view,
                start,
                x[rows],
                towards,
                threat,
                steps=steps,
                loss=objective,
                rho=rho,
                eot=eot,
                combine=combine,
            )
        contest.enter(rows, candidate)
    return contest.result()


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
    combine: Combine = "mean",
) -> Tensor:
    """One run of algorithm 1 from the start x; under L1 `climb_l1`, without `rho`. Against a
    deterministic victim losses are ascended on the tasks still standing, and a sample stops once
    none is.
    """
    deterministic = view.draws == 1
    objective = loss
    if isinstance(loss, str):
        objective = named(loss, threat, standing_only=deterministic, labels=y)
    how: dict[str, Any] = {"loss": objective, "eot": eot, "combine": combine}
    if threat.norm == "L1":
        return climb_l1(view, x, x0, y, threat, steps=steps, how=how)
    window, shrink, shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    gradient = view.gradient(x, y, threat, **how)
    losses = x.new_full((steps + 1, len(x)), torch.nan)
    losses[0] = gradient.loss
    view.trace(losses)
    result, fewest = x.clone(), gradient.standing.clone()
    stood = Quarters(x, steps, lowest=deterministic)
    stood.note(0, torch.arange(len(x)), fewest)
    climbers, since = Climbers.at(x, x0, y, gradient), 0
    for i in range(steps):
        rows, before = climbers.rows, fewest[climbers.rows]
        stands = before > 0
        if deterministic and not (standing := int(stands.sum())):
            break
        if deterministic and standing < len(rows) and not view.random:
            left = stands.nonzero().squeeze(1)
            climbers, rows, before = climbers.among(left), rows[left], before[left]
        climbers.step(view, threat, MOMENTUM if i else 1.0)
        gradient = view.gradient(climbers.x, climbers.y, threat, **how)
        higher = climbers.learn(gradient)
        losses[i + 1, rows], share = gradient.loss, gradient.standing
        stood.note(i + 1, rows, share)
        better = ((share < before) | ((share == before) & higher)) & (before > 0)
        chosen = better.nonzero().squeeze(1)
        result[rows[chosen]], fewest[rows[chosen]] = climbers.x[chosen], share[chosen]
        since += 1
        if since == window:
            climbers.checkpoint(rho * window)
            since, window = 0, max(window - shrink, shortest)
    if not deterministic:
        contest = Contest(view, x0, y, threat)  # nothing left the batch: rows are all samples
        for candidate in (climbers.x_max, climbers.x):
            contest.enter(torch.arange(len(x)), candidate)
        result = contest.best
    view.quarters = stood.both()
    return result


@dataclass
class Climbers:
    """The samples still climbing, a row each: the symbols of algorithm 1.

    Attributes:
        rows: their rows in the batch.
        x, x_prev, x0, y: this iterate and the one before, clean images, labels.
        grad, value: gradient and loss at x.
        x_max, grad_max, f_max: the point of the highest loss so far, its gradient and loss.
        f_check: f_max at the last checkpoint.
        size: step size in radii, (B, 1).
        rises: steps since the last checkpoint that raised the loss.
        halved: whether the last checkpoint halved the step size.
    """

    rows: Tensor
    x: Tensor
    x_prev: Tensor
    x0: Tensor
    y: Tensor
    grad: Tensor
    value: Tensor
    x_max: Tensor
    grad_max: Tensor
    f_max: Tensor
    f_check: Tensor
    size: Tensor
    rises: Tensor
    halved: Tensor

    @classmethod
    def at(cls, x: Tensor, x0: Tensor, y: Tensor, gradient: Gradient) -> Climbers:
        """All samples at their start x."""
        return cls(
            rows=torch.arange(len(x), device=x.device),
            x=x,
            x_prev=x,
            x0=x0,
            y=y,
            grad=gradient.direction,
            value=gradient.loss,
            x_max=x.clone(),
            grad_max=gradient.direction.clone(),
            f_max=gradient.loss.clone(),
            f_check=gradient.loss.clone(),
            size=x.new_full((len(x), 1), 2.0),
            rises=torch.zeros_like(gradient.loss),
            halved=torch.ones_like(gradient.loss, dtype=torch.bool),
        )

    def among(self, places: Tensor) -> Climbers:
        """Those of them at some places."""
        return Climbers(**{each.name: getattr(self, each.name)[places] for each in fields(self)})

    def step(self, view: View, threat: Threat, a: float) -> None:
        """Equation 3, with momentum 1 - a."""
        x, x0 = self.x, self.x0
        z = view.project(view.steepest(self.grad, threat).mul_(self.size).add_(x), x0, threat)
        moved = (z - x).mul_(a).add_(x).add_((x - self.x_prev).mul_(1 - a))
        self.x = view.project(moved, x0, threat)
        self.x_prev = x

    def learn(self, gradient: Gradient) -> Tensor:
        """Takes the gradient at x; returns where its loss is the highest so far, (B,)."""
        self.rises += gradient.loss > self.value
        self.grad, self.value = gradient.direction, gradient.loss
        higher = self.value > self.f_max
        rows = higher.nonzero().squeeze(1)
        self.x_max[rows], self.grad_max[rows] = self.x[rows], self.grad[rows]
        self.f_max[rows] = self.value[rows]
        return higher

    def checkpoint(self, enough: float) -> None:
        """Conditions 1 and 2 of section 3.2: where progress stalls, half the step from the best
        point; `enough` steps must have raised the loss.
        """
        stalls = (self.rises < enough) | (~self.halved & (self.f_check >= self.f_max))
        self.halved, self.f_check = stalls, self.f_max.clone()
        self.size[stalls] /= 2
        self.x[stalls], self.grad[stalls] = self.x_max[stalls], self.grad_max[stalls]
        self.rises.zero_()


ENTRY = Attack(name="apgd", function=apgd, norms=NORMS, escalates="quick", chooses=True)
TARGETED_ENTRY = Attack(
    name="apgd-t", function=apgd_t, norms=NORMS, targeted=False, only_loss=DLR_TARGETED
)
