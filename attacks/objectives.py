"""What an attacker ascends over several tasks, and whether it has what it wants.

What changes here changes every attack: raise `REVISION` in view.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustbench_med.attacks.losses import LOSSES, over_tasks
from robustbench_med.attacks.threat import Threat

JointLoss = Callable[[Sequence[Tensor], Tensor], Tensor]
"""(logits of all tasks, y (B, T)) -> what to ascend, (B,)."""


def named(loss: str, threat: Threat, *, standing_only: bool = False) -> JointLoss:
    """The sum over the attacked tasks of a loss in `LOSSES`, to ascend; towards the labels when the
    threat is targeted.

    `standing_only`: see `of_standing`.
    """
    function, sign = LOSSES[loss], -1 if threat.targeted else 1

    def objective(logits: Sequence[Tensor], y: Tensor) -> Tensor:
        losses = [function(logits[t], y[:, t].clamp_min(0)) for t in threat.tasks]
        return sign * over_tasks(
            of_standing(losses, logits, y, threat) if standing_only else losses, y, threat.tasks
        )

    return objective


def of_standing(
    losses: Sequence[Tensor], logits: Sequence[Tensor], y: Tensor, threat: Threat
) -> list[Tensor]:
    """The losses (B,), one an attacked task, without the gradient of those that the attacker has
    won; their values stay.

    Cross-entropy's gradient on a task that is wrong already drowns that on a confident one: the sum
    is ascended on the wrong task alone.
    """
    return [
        torch.where(won(logits[t], y[:, t], threat), loss.detach(), loss)
        for t, loss in zip(threat.tasks, losses, strict=True)
    ]


def won(logits: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Whether the attacker has what it wants of one task: logits (B, C), y (B,) -> (B,). Logits
    that are not finite predict no class.
    """
    return ((logits.argmax(1) == y) & logits.isfinite().all(1)) == threat.targeted


@torch.no_grad()
def standing(logits: Sequence[Tensor], y: Tensor, threat: Threat) -> Tensor:
    """Share of the attacked, labelled tasks on which the attacker fails under these logits, (B,); 0
    where none is labelled.
    """
    labelled = y[:, list(threat.tasks)] >= 0
    fails = ~torch.stack([won(logits[t], y[:, t], threat) for t in threat.tasks], 1)
    return (fails & labelled).sum(1).to(logits[0].dtype) / labelled.sum(1).clamp_min(1)
