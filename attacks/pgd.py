"""PGD, projected gradient descent (Madry et al., arXiv 1706.06083, section 2.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.losses import JointLoss, named
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import Combine, View

REVISION = 1

PATH = 10.0  # radii that steps of the first one's size would go in all, against a random victim
STEPS = 20
RANDOM = {
    "loss": "margin",
    "combine": "normalised",
    "momentum": 0.9,
    "schedule": "cosine",
    "step_size": PATH / STEPS,
}
"""Defaults against a random victim: one draw's gradient says little about the next, so that what is
followed is what draws and steps agree on.
"""


def pgd(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = STEPS,
    step_size: float = 2.5 / STEPS,
    random_start: bool = True,
    restarts: int = 1,
    loss: str = "ce",
    eot: int = 1,
    combine: Combine = "mean",
    momentum: float = 0.0,
    schedule: str = "constant",
    soft: bool = False,
    keep: str = "best",
) -> Tensor:
    """x_{t+1} = project(x_t + step_size r steepest(grad)); `RANDOM`: defaults for random victims.

    Args:
        steps: gradient steps.
        step_size: length of a step (of a decaying one: the first) as a share of each modality's
            radius; by `complete` 2.5 / steps, as in the paper's CIFAR-10 code, or 10 / steps.
        random_start: start from a uniform point of the ball.
        restarts: independent runs, every second one with soft gradients where the victim has them;
            each sample keeps the candidate with the lowest share standing over the view's draws.
        loss: "ce", "margin", "dlr" or "pma".
        eot: draws per gradient (arXiv 1802.00420).
        combine: "mean" or "normalised", of the draws' gradients (`View.gradient`).
        momentum: share of the direction so far that stays in it (arXiv 1710.06081, eq. 6).
        schedule: "constant", or "cosine": steps shrink to nothing along half a cosine.
        soft: takes the victim's soft gradients, in every restart.
        keep: "best" ascends, against a deterministic victim, the loss of the tasks still standing,
            keeps the iterate with the fewest of them and stops a sample once none is; "last"
            ascends the sum over all tasks and returns the last iterate, as first implementations.
    """
    how = {"steps": steps, "step_size": step_size, "loss": loss, "eot": eot, "combine": combine}
    how |= {"momentum": momentum, "schedule": schedule, "keep": keep}

    def one_run(rows: Tensor, *, soft: bool) -> Tensor:
        start = view.random_point(x[rows], threat, streams.take(rows)) if random_start else x[rows]
        with view.softened(wanted=soft):
            return ascend(view, start, x[rows], y[rows], threat, **how)  # type: ignore[arg-type]

    if restarts == 1:
        return one_run(torch.arange(len(x)), soft=soft)
    contest = Contest(view, x, y, threat)
    for run in range(restarts):
        rows = contest.open()
        if len(rows) == 0:
            break
        with view.only(rows):
            candidate = one_run(rows, soft=soft or (run % 2 == 1 and view.has_soft))
        contest.enter(rows, candidate)
    return contest.result()


class Contest:
    """Candidates of several attacks or restarts: each sample keeps the one with the lowest share
    standing over the view's draws.

    For a random victim that is a mean over fresh draws, never "wrong once, so done". Ties go to the
    earlier candidate.
    """

    def __init__(self, view: View, x: Tensor, y: Tensor, threat: Threat) -> None:
        self.view, self.y, self.threat = view, y, threat
        self.best, self.lowest = x.clone(), x.new_full((len(x),), torch.inf)
        self.early, self.late = self.lowest.clone(), self.lowest.clone()
        """The lowest shares had every run ended after three quarters, and at its end, as the runs
        saw it.
        """

    def open(self) -> Tensor:
        """Rows of the samples on which something still stands; all of them where the batch must
        stay together.
        """
        stands = self.lowest > 0
        return (stands | stands.any() if self.view.whole else stands).nonzero().squeeze(1).cpu()

    def enter(self, rows: Tensor, candidate: Tensor) -> None:
        """Measures candidates (len(rows), D) on fresh draws and keeps the better ones."""
        rows = rows.to(self.best.device)
        with self.view.only(rows):
            share = self.view.standing(candidate, self.y[rows], self.threat)
        better = (share < self.lowest[rows]).nonzero().squeeze(1)
        self.best[rows[better]], self.lowest[rows[better]] = candidate[better], share[better]
        early, late = self.view.quarters or (share, share)
        self.view.quarters = None
        self.early[rows] = torch.minimum(self.early[rows], early)
        self.late[rows] = torch.minimum(self.late[rows], late)

    def result(self) -> Tensor:
        """The best candidates (B, D); notes what the last quarters of the runs took."""
        self.view.quarters = (self.early, self.late)
        return self.best


def ascend(
    view: View,
    x: Tensor,
    x0: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int,
    step_size: float,
    loss: str | JointLoss,
    eot: int,
    keep: str,
    combine: Combine = "mean",
    momentum: float = 0.0,
    schedule: str = "constant",
) -> Tensor:
    """Projected steps from x. The batch shrinks as samples fall or go round in a circle, unless the
    victim is random, whose noisy iterates are not compared.

    `momentum` mu replaces the gradient by g <- mu g + grad / |grad|_1 (arXiv 1710.06081, eq. 6).
    The other arguments are those of `pgd`.
    """
    compare = keep == "best" and view.draws == 1
    objective = (
        named(loss, threat, standing_only=compare, labels=y) if isinstance(loss, str) else loss
    )
    everyone = slice(None)  # quicker than all numbers
    alive: Tensor | slice = everyone
    gathered = torch.zeros_like(x) if momentum else x
    losses = x.new_full((steps, len(x)), torch.nan)
    view.trace(losses)
    plain = compare and not view.random and not momentum and schedule == "constant"
    cycles = Cycles(x, steps) if plain else None
    stood, found = Quarters(x, steps, lowest=compare), Lowest(x)
    for i in range(steps):
        gradient = view.gradient(x, y, threat, loss=objective, eot=eot, combine=combine)
        losses[i, alive] = gradient.loss
        if stood.asks(i):
            stood.note(i, alive, gradient.standing)
        direction = gradient.direction
        if momentum:
            direction = gathered = momentum * gathered + of_unit_mean(direction)
        if compare:
            found.note(alive, x, gradient.standing)
            stays = gradient.standing > 0
            if cycles:
                stays &= cycles.goes_on(i, x, alive)
            staying = int(stays.sum())
            if not staying:
                break
            if staying < len(x) and not view.random:
                left = stays.nonzero().squeeze(1)
                alive = left if isinstance(alive, slice) else alive[left]
                x, x0, y, direction = (kept[left] for kept in (x, x0, y, direction))
                gathered = direction
        length = step_size * (decayed(i, steps) if schedule == "cosine" else 1)
        x = view.project(view.step(x, direction, length, threat), x0, threat)
    else:
        if compare:
            share = view.standing(x, y, threat)
            found.note(alive, x, share)
            stood.note(steps, alive, share)
    if cycles:
        cycles.complete(losses)
    view.quarters = stood.both()
    return found.best if compare else x


class Lowest:
    """Of each run the iterate (B, D) with the lowest share standing. Later iterates win ties: their
    loss is usually higher. A sample that fell keeps what felled it.
    """

    def __init__(self, x: Tensor) -> None:
        self.best, self.share = x.clone(), x.new_full((len(x),), torch.inf)

    def note(self, alive: Tensor | slice, x: Tensor, share: Tensor) -> None:
        """The iterates of the runs `alive`, and what stands there."""
        before = self.share[alive]
        better = (share <= before) & (before > 0)
        if isinstance(alive, slice):
            torch.where(better[:, None], x, self.best, out=self.best)
            torch.where(better, share, before, out=self.share)
            return
        chosen = better.nonzero().squeeze(1)
        rows = alive[chosen]
        self.best[rows], self.share[rows] = x[chosen], share[chosen]


def of_unit_mean(direction: Tensor) -> Tensor:
    """(B, D), the absolute entries of each row of mean 1."""
    return direction / direction.abs().mean(1, keepdim=True).clamp_min(1e-30)


class Quarters:
    """What stands after three quarters of a run, and at its end.

    Args:
        x: (B, D), of as many samples.
        steps: of the run.
        lowest: the lowest share so far counts, as for runs that keep their best iterate; else the
            means over the third and the last quarter of the steps.
    """

    def __init__(self, x: Tensor, steps: int, *, lowest: bool) -> None:
        self.lowest, self.half, self.mark = lowest, steps // 2, steps - steps // 4
        self.early = x.new_full((len(x),), torch.inf) if lowest else x.new_zeros(len(x))
        self.late = self.early.clone()
        self.counts = [0, 0]

    def asks(self, step: int) -> bool:
        """Whether what stands before a step is noted at all."""
        return self.lowest or step >= self.half

    def note(self, step: int, rows: Tensor | slice, share: Tensor) -> None:
        """The share standing of some samples before a step."""
        if self.lowest:
            self.late[rows] = torch.minimum(self.late[rows], share)
            if step <= self.mark:
                self.early[rows] = torch.minimum(self.early[rows], share)
        elif step >= self.half:
            total = self.early if step < self.mark else self.late
            total[rows] += share
            self.counts[step >= self.mark] += 1

    def both(self) -> tuple[Tensor, Tensor] | None:
        """(B,) each; None of a run without a quarter."""
        if self.lowest:
            return self.early, self.late
        if not all(self.counts):
            return None
        return self.early / self.counts[0], self.late / self.counts[1]


class Cycles:
    """Ends runs of plain steps whose iterate repeats (arXiv 2503.19347): they would go round the
    same circle to the end, so one that leaves where the last step would have left it has the same
    result.

    Found by comparing each iterate with one kept from the last power of two (Brent 1980), bit for
    bit.

    Args:
        x: (B, D), where the runs start.
        steps: of the whole run.
    """

    def __init__(self, x: Tensor, steps: int) -> None:
        self.steps = steps
        self.kept, self.kept_at = x.clone(), 0
        self.last = torch.full((len(x),), steps, device=x.device)
        self.period = torch.zeros_like(self.last)

    def goes_on(self, step: int, x: Tensor, alive: Tensor | slice) -> Tensor:
        """Whether the runs `alive`, at x before a step, have steps left to make."""
        if step:
            again = (x == self.kept[alive]).all(1) & (self.period[alive] == 0)
            if again.any():
                here = again.nonzero().squeeze(1)
                rows, period = (
                    here if isinstance(alive, slice) else alive[here],
                    step - self.kept_at,
                )
                self.period[rows] = period
                self.last[rows] = step + (self.steps - step) % period
        if step & (step - 1) == 0:
            self.kept[alive], self.kept_at = x, step
        return self.last[alive] > step

    def complete(self, losses: Tensor) -> None:
        """Writes the losses (steps, B) of the steps that were left out."""
        for step in range(int(self.last.min()) + 1, self.steps):
            over = ((self.last < step) & (self.period > 0)).nonzero().squeeze(1)
            losses[step, over] = losses[step - self.period[over], over]


def decayed(step: int, steps: int) -> float:
    """Half a cosine from 1 at the first step towards 0 behind the last."""
    return (1 + math.cos(math.pi * step / steps)) / 2


ENTRY = Attack(name="pgd", function=pgd, random=RANDOM, escalates="quick", flips=True, chooses=True)
