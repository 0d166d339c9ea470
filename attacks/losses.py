"""Losses an attacker ascends: (logits (B, C), labels (B,)) -> (B,), larger = more wrong, two
classes or more; their sum over several tasks, and whether the attacker has what it wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_med.attacks.threat import Threat
from robustbench_med.errors import UserError

REVISION = 1
Loss = Callable[[Tensor, Tensor], Tensor]
JointLoss = Callable[[Sequence[Tensor], Tensor], Tensor]
"""(logits of all tasks, y (B, T)) -> what to ascend, (B,)."""
SMALLEST_GAP = 1e-12  # between the logits that DLR divides by
DLR_TARGETED = "dlr-targeted"
FEWEST_CLASSES = {"dlr": 3, DLR_TARGETED: 4}
"""Classes from which on a loss exists; below, a task gets the margin."""


def ce(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y: positive exactly when the prediction is wrong (arXiv 1608.04644, f_6
    without its clipping).
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - own


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Margin over the gap between the largest and third largest logit (arXiv 2003.01690, eq. 6).

    It needs 3 classes: with 2 the gap does not exist, and this is the margin (see `effective`).
    """
    if effective("dlr", logits.shape[1]) == "margin":
        return margin(logits, y)
    top = logits.topk(3, 1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + SMALLEST_GAP)


def dlr_towards(logits: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """(z_other - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), the targeted DLR (arXiv 2003.01690, eq. 7);
    the margin for fewer than 4 classes.
    """
    if effective(DLR_TARGETED, logits.shape[1]) == "margin":
        return margin(logits, y)
    top = logits.topk(4, 1).values
    return margin_towards(logits, y, other) / (
        top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + SMALLEST_GAP
    )


def margin_towards(logits: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """z_other - z_y: positive when `other` beats the label."""
    return (logits.gather(1, other[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def pma(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} p_j - p_y of the probabilities p, the loss of PMA (arXiv 2411.15210): a margin
    that does not depend on a constant added to all logits, and is flat where the victim is sure.
    """
    return margin(logits.softmax(1), y)


LOSSES: dict[str, Loss] = {"ce": ce, "margin": margin, "dlr": dlr, "pma": pma}


def effective(loss: str, n_classes: int) -> str:
    """The loss that a task of `n_classes` really gets: DLR does not exist on two classes, targeted
    DLR not on three.
    """
    return "margin" if n_classes < FEWEST_CLASSES.get(loss, 0) else loss


def over_tasks(losses: Sequence[Tensor], y: Tensor | None, tasks: Sequence[int]) -> Tensor:
    """Sum of per-task losses (B,), one an attacked task; a task without a label (-1) adds nothing.
    `y` None: none is missing.
    """
    each = losses
    if y is not None:
        each = [torch.where(y[:, t] >= 0, loss, 0.0) for loss, t in zip(losses, tasks, strict=True)]
    return each[0] if len(each) == 1 else torch.stack(list(each)).sum(0)


def named(
    loss: str, threat: Threat, *, standing_only: bool = False, labels: Tensor | None = None
) -> JointLoss:
    """The sum over the attacked tasks of a loss in `LOSSES`, to ascend; towards the labels when the
    threat is targeted.

    `standing_only`: see `of_standing`. `labels`: all that it will be given, (B, T); where none is
    missing there, none is looked for in each step.
    """
    function = LOSSES[loss]
    known = labels is not None and all_labelled(labels, threat)

    def objective(logits: Sequence[Tensor], y: Tensor) -> Tensor:
        of = y if known else y.clamp_min(0)
        losses = [function(logits[t], of[:, t]) for t in threat.tasks]
        _check(loss, losses, y)
        if standing_only:
            losses = of_standing(losses, logits, y, threat)
        if threat.least is not None:
            chosen = easiest(logits, y, threat, threat.least)
            losses = [
                torch.where(mine, each, 0.0) for mine, each in zip(chosen, losses, strict=True)
            ]
        total = over_tasks(losses, None if known else y, threat.tasks)
        return -total if threat.targeted else total

    return objective


def all_labelled(y: Tensor, threat: Threat) -> bool:
    """Whether every sample has a label of every attacked task."""
    return bool((y[:, list(threat.tasks)] >= 0).all())


def _check(name: str, losses: Sequence[Any], y: Tensor) -> None:
    """Refuses (UserError) what a loss of the user's may return."""
    for loss in losses:
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        if got != (len(y),):
            raise UserError(f"loss {name!r} returned {got}, expected a tensor ({len(y)},)")


@torch.no_grad()
def easiest(logits: Sequence[Tensor], y: Tensor, threat: Threat, least: int) -> Tensor:
    """(attacked tasks, B): the `least` labelled tasks of each sample with the largest margins,
    those that are wrong already among them.
    """
    margins = torch.stack(
        [
            margin(logits[t], y[:, t].clamp_min(0)).masked_fill(y[:, t] < 0, -torch.inf)
            for t in threat.tasks
        ]
    )
    rank = margins.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    return (rank < least) & (margins > -torch.inf)


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
    hit = hits(logits, y)
    return hit if threat.targeted else ~hit


def hits(logits: Tensor, y: Tensor) -> Tensor:
    """Where y (B,) is the predicted class, (B,): never where it is -1, nor where logits (B, C) are
    not finite.
    """
    hit = logits.argmax(1) == y
    if logits.device.type == "cpu" and math.isfinite(float(logits.detach().sum())):
        return hit  # a sum is finite only where all of its terms are
    return hit & logits.isfinite().all(1)


@torch.no_grad()
def standing(logits: Sequence[Tensor], y: Tensor, threat: Threat) -> Tensor:
    """Share of the attacked, labelled tasks on which the attacker fails under these logits, (B,); 0
    where none is labelled. Where he wants some of them alone: the share of these that he lacks.
    """
    hit = [hits(logits[t], y[:, t]) for t in threat.tasks]
    if threat.targeted:
        fails = [(y[:, t] >= 0) & ~each for t, each in zip(threat.tasks, hit, strict=True)]
    else:
        fails = hit  # nobody predicts -1
    if len(fails) == 1:
        return fails[0].to(logits[0].dtype)
    failed = torch.stack(fails).sum(0)
    known = torch.stack([y[:, t] >= 0 for t in threat.tasks]).sum(0)
    if threat.least is not None:
        wanted = known.clamp_max(threat.least)
        failed, known = (wanted - (known - failed)).clamp_min(0), wanted
    return failed.to(logits[0].dtype) / known.clamp_min(1)
