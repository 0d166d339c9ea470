"""PGD, projected gradient descent (Madry et al., arXiv 1706.06083, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.view import Streams, Threat, View


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
        step_size: length of a step as a share of each modality's radius (2.5 / steps in the paper's CIFAR-10 code).
        random_start: start from a uniform point of the ball.
        restarts: independent runs; each sample keeps the candidate with the lowest fraction right over the view's draws.
        loss: "ce" or "margin".
        eot: draws per gradient (arXiv 1802.00420).
        keep: "best" keeps, for a deterministic victim, the iterate with the fewest tasks right and stops a sample once none
            is; "last" returns the last iterate whatever it does, as the first implementations did.
    """
    best, lowest = x.clone(), x.new_full((len(x),), torch.inf)
    for _ in range(restarts):
        start = view.random_point(x, threat, streams) if random_start else x
        alive = (lowest > 0).nonzero().squeeze(1)
        if len(alive) == 0:
            break
        candidate = _one_run(view, start[alive], x[alive], y[alive], threat, steps, step_size, loss, eot, keep)
        if restarts == 1:
            return candidate
        fraction = view.fraction_right(candidate, y[alive], threat.tasks)
        better = fraction < lowest[alive]
        best[alive[better]], lowest[alive[better]] = candidate[better], fraction[better]
    return best


def _one_run(
    view: View, x: Tensor, x0: Tensor, y: Tensor, threat: Threat, steps: int, step_size: float, loss: str, eot: int, keep: str
) -> Tensor:
    """One run from the start x. The batch shrinks as samples fall; a stochastic victim's noisy iterates are not compared."""
    if keep not in ("best", "last"):
        raise ValueError(f"keep must be 'best' or 'last', got {keep!r}")
    compare = keep == "best" and view.draws == 1
    best, fewest = x.clone(), x.new_full((len(x),), torch.inf)
    alive = torch.arange(len(x), device=x.device)

    def record(x: Tensor, fraction: Tensor) -> None:
        """Later iterates win ties: their loss is usually higher."""
        improved = fraction <= fewest[alive]
        best[alive[improved]], fewest[alive[improved]] = x[improved], fraction[improved]

    for _ in range(steps):
        gradient = view.gradient(x, y, threat, loss=loss, eot=eot)
        direction = gradient.direction
        if compare:
            record(x, gradient.right)
            standing = gradient.right > 0
            if not standing.all():
                alive, x, x0, y, direction = alive[standing], x[standing], x0[standing], y[standing], direction[standing]
                if len(alive) == 0:
                    return best
        x = view.project(x + step_size * view.steepest(direction, threat), x0, threat)
    if not compare:
        return x
    record(x, view.fraction_right(x, y, threat.tasks))
    return best
