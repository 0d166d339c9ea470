"""PGD, projected gradient descent (Madry et al., arXiv 1706.06083, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import JointLoss, View, named

REVISION = 1


def pgd(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    step_size: float = 0.125,
    random_start: bool = True,
    restarts: int = 1,
    loss: str = "ce",
    eot: int = 1,
    keep: str = "best",
) -> Tensor:
    """x_{t+1} = project(x_t + step_size r steepest(grad)).

    Args:
        steps: gradient steps.
        step_size: length of a step as a share of each modality's radius; by `complete` 2.5 / steps,
            as in the paper's CIFAR-10 code.
        random_start: start from a uniform point of the ball.
        restarts: independent runs; each sample keeps the candidate with the lowest share standing
            over the view's draws.
        loss: "ce", "margin" or "dlr".
        eot: draws per gradient (arXiv 1802.00420).
        keep: "best" ascends, against a deterministic victim, the loss of the tasks still standing,
            keeps the iterate with the fewest of them and stops a sample once none is; "last"
            ascends the sum over all tasks and returns the last iterate whatever it does, as the
            first implementations did.
    """

    def one_run(rows: Tensor) -> Tensor:
        start = view.random_point(x[rows], threat, streams.take(rows)) if random_start else x[rows]
        return ascend(
            view,
            start,
            x[rows],
            y[rows],
            threat,
            steps=steps,
            step_size=step_size,
            loss=loss,
            eot=eot,
            keep=keep,
        )

    if restarts == 1:
        return one_run(torch.arange(len(x)))
    contest = Contest(view, x, y, threat)
    for _ in range(restarts):
        rows = contest.open()
        if len(rows) == 0:
            break
        with view.only(rows):
            candidate = one_run(rows)
        contest.enter(rows, candidate)
    return contest.best


class Contest:
    """Candidates of several attacks or restarts: each sample keeps the one with the lowest share
    standing over the view's draws.

    For a random victim that is a mean over fresh draws, never "wrong once, so done". Ties go to the
    earlier candidate.
    """

    def __init__(self, view: View, x: Tensor, y: Tensor, threat: Threat) -> None:
        self.view, self.y, self.threat = view, y, threat
        self.best, self.lowest = x.clone(), x.new_full((len(x),), torch.inf)

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
        better = share < self.lowest[rows]
        self.best[rows[better]], self.lowest[rows[better]] = candidate[better], share[better]


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
    momentum: float = 0.0,
) -> Tensor:
    """Projected steps from x. The batch shrinks as samples fall, unless the victim is random, whose
    noisy iterates are not compared.

    `momentum` mu replaces the gradient by g <- mu g + grad / |grad|_1 (arXiv 1710.06081, eq. 6).
    """
    compare = keep == "best" and view.draws == 1
    objective = named(loss, threat, standing_only=compare) if isinstance(loss, str) else loss
    best, fewest = x.clone(), x.new_full((len(x),), torch.inf)
    alive, gathered = torch.arange(len(x), device=x.device), torch.zeros_like(x)
    losses = x.new_full((steps, len(x)), torch.nan)
    view.trace(losses)

    def record(x: Tensor, share: Tensor) -> None:
        """Later iterates win ties: their loss is usually higher. A sample that fell keeps what
        felled it.
        """
        improved = (share <= fewest[alive]) & (fewest[alive] > 0)
        best[alive[improved]], fewest[alive[improved]] = x[improved], share[improved]

    for i in range(steps):
        gradient = view.gradient(x, y, threat, loss=objective, eot=eot)
        losses[i, alive] = gradient.loss
        direction = gradient.direction
        if momentum:
            direction = gathered = momentum * gathered + direction / direction.abs().mean(
                1, keepdim=True
            ).clamp_min(1e-30)
        if compare:
            record(x, gradient.standing)
            stands = gradient.standing > 0
            if not stands.any():
                return best
            if not stands.all() and not view.random:
                alive, x, x0, y, direction, gathered = (
                    kept[stands] for kept in (alive, x, x0, y, direction, gathered)
                )
        x = view.project(x + step_size * view.steepest(direction, threat), x0, threat)
    if not compare:
        return x
    record(x, view.standing(x, y, threat))
    return best


ENTRY = Attack(name="pgd", function=pgd)
