"""APGD in the L1 ball: sparse steps whose sparsity follows that of the best point, in balls that
shrink to the wanted one (Croce & Hein, arXiv 2103.01208, algorithm 1).

`apgd` and `apgd-t` run it under L1; the `REVISION` of `apgd` speaks for this file too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from robustbench_med.attacks.pgd import Contest, Quarters
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import Gradient, View

WIDER = ((3.0, 0.3), (2.0, 0.3))
"""Balls before the wanted one, in its radii, and the share of the steps in each."""
FIRST_SHARE = 0.2  # of the coordinates that the first steps move
FEWER = 1.5  # a step moves so many times fewer coordinates than the best point has moved
SPARSER = 0.95  # below this ratio of sparsities the step starts again from its largest size
SHRINK, SMALLEST = 1.5, 0.1  # of the step size; the largest is a radius
WINDOW = 0.04  # share of the steps between two checkpoints


def climb_l1(
    view: View,
    x: Tensor,
    x0: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int,
    how: dict[str, Any],
) -> Tensor:
    """One run from the start x; the last of its balls is the threat's.

    Against a deterministic victim a sample stops once no task stands inside that ball. `how`: loss,
    eot and combine of its gradients (`View.gradient`).
    """
    share = x.new_full((len(x), len(view.segments)), FIRST_SHARE)
    done = 0
    for radii, part in WIDER:
        if wanted := int(part * steps):
            ball = threat.scaled(radii)
            climbers = Climbers.at(view.project(x, x0, ball), x0, y, share)
            climbers.learn(view.gradient(climbers.x, y, ball, **how))
            for i in range(1, wanted + 1):
                climbers.step(view, ball)
                climbers.learn(view.gradient(climbers.x, y, ball, **how))
                climbers.checkpoint(view, i, wanted)
            x, done = climbers.x_max, done + wanted
            share = moved(view, x, x0) / FEWER
    x = view.project(x, x0, threat)
    return climb_within(view, Climbers.at(x, x0, y, share), threat, done=done, steps=steps, how=how)


def climb_within(
    view: View, climbers: Climbers, threat: Threat, *, done: int, steps: int, how: dict[str, Any]
) -> Tensor:
    """The steps behind those that are `done`, in the wanted ball: each sample's iterate with the
    fewest tasks standing, the highest loss among equals.
    """
    x, x0, y, deterministic = climbers.x, climbers.x0, climbers.y, view.draws == 1
    gradient = view.gradient(x, y, threat, **how)
    climbers.learn(gradient)
    losses = x.new_full((steps - done + 1, len(x)), torch.nan)
    losses[0] = gradient.loss
    view.trace(losses)
    stood = Quarters(x, steps, lowest=deterministic)
    stood.note(done, climbers.rows, gradient.standing)
    result, fewest = x.clone(), gradient.standing.clone()
    for i in range(1, steps - done + 1):
        stands = fewest[climbers.rows] > 0
        if deterministic and not stands.any():
            break
        if deterministic and not view.random and not stands.all():
            climbers = climbers.among(stands)
        rows = climbers.rows
        climbers.step(view, threat)
        gradient = view.gradient(climbers.x, climbers.y, threat, **how)
        higher = climbers.learn(gradient)
        losses[i, rows] = gradient.loss
        stood.note(done + i, rows, gradient.standing)
        better = (
            (gradient.standing < fewest[rows]) | ((gradient.standing == fewest[rows]) & higher)
        ) & (fewest[rows] > 0)
        result[rows[better]] = climbers.x[better]
        fewest[rows[better]] = gradient.standing[better]
        climbers.checkpoint(view, i, steps - done)
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
        x, x0, y: this iterate, clean images, labels.
        grad: gradient at x.
        x_max, grad_max, f_max: the point of the highest loss so far, its gradient and loss.
        share: of each modality's coordinates that a step moves, (B, M).
        changed: coordinates that the best point had changed at the last checkpoint.
        size: step size in radii, (B, 1).
    """

    rows: Tensor
    x: Tensor
    x0: Tensor
    y: Tensor
    grad: Tensor
    x_max: Tensor
    grad_max: Tensor
    f_max: Tensor
    share: Tensor
    changed: Tensor
    size: Tensor

    @classmethod
    def at(cls, x: Tensor, x0: Tensor, y: Tensor, share: Tensor) -> Climbers:
        """All samples at their start x, whose gradient is yet to `learn`."""
        return cls(
            rows=torch.arange(len(x), device=x.device),
            x=x,
            x0=x0,
            y=y,
            grad=torch.zeros_like(x),
            x_max=x.clone(),
            grad_max=torch.zeros_like(x),
            f_max=x.new_full((len(x),), -torch.inf),
            share=share,
            changed=(x != x0).sum(1).to(x),
            size=x.new_ones(len(x), 1),
        )

    def among(self, stands: Tensor) -> Climbers:
        """Those of them that stand, a mask (B,)."""
        return Climbers(**{each.name: getattr(self, each.name)[stands] for each in fields(self)})

    def step(self, view: View, threat: Threat) -> None:
        """A step of `size` radii along the signs of the largest gradients."""
        parts = []
        for m, (s, r) in enumerate(zip(view.segments, threat.radii, strict=True)):
            grad = self.grad[:, s.start : s.stop]
            n = grad.shape[1]
            few = (self.share[:, m : m + 1] * n).ceil().long().clamp(1, n)
            least = grad.abs().sort(1, descending=True).values.gather(1, few - 1)
            sparse = grad.sign() * (grad.abs() >= least)
            length = self.size * r / sparse.abs().sum(1, keepdim=True).clamp_min(1)
            parts.append(self.x[:, s.start : s.stop] + length * sparse)
        self.x = view.project(torch.cat(parts, 1), self.x0, threat)

    def learn(self, gradient: Gradient) -> Tensor:
        """Takes the gradient at x; returns where its loss is the highest so far, (B,)."""
        self.grad = gradient.direction
        higher = gradient.loss > self.f_max
        self.x_max[higher], self.grad_max[higher] = self.x[higher], self.grad[higher]
        self.f_max[higher] = gradient.loss[higher]
        return higher

    def checkpoint(self, view: View, step: int, steps: int) -> None:
        """Equations 9 and 10, every `WINDOW` of the steps: the next steps are as sparse as the best
        point; where it became sparser they start again there at full size, else they shrink.
        """
        if step % max(int(WINDOW * steps), 1):
            return
        self.share = moved(view, self.x_max, self.x0) / FEWER
        changed = (self.x_max != self.x0).sum(1).to(self.x)
        sparser = changed < SPARSER * self.changed
        shrunk = (self.size / SHRINK).clamp_min(SMALLEST)
        self.size = torch.where(sparser[:, None], torch.ones_like(shrunk), shrunk)
        self.changed = changed
        self.x[sparser], self.grad[sparser] = self.x_max[sparser], self.grad_max[sparser]


def moved(view: View, x: Tensor, x0: Tensor) -> Tensor:
    """The share of each modality's coordinates that differ, (B, M)."""
    differs = (x != x0).to(x)
    return torch.stack([differs[:, s.start : s.stop].mean(1) for s in view.segments], 1)
