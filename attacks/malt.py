"""MALT, targeted APGD towards the classes whose boundaries are nearest if the victim is almost
linear (Melamed et al., arXiv 2407.02240).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_med.attacks.apgd import NORMS, towards_each
from robustbench_med.attacks.entry import POSITIVE, Attack
from robustbench_med.attacks.losses import DLR_TARGETED, JointLoss, margin_towards
from robustbench_med.attacks.minimal import steepness
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import Combine, RefusedError, View

REVISION = 1


def malt(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    targets: int = 9,
    candidates: int = 100,
    rho: float = 0.75,
    eot: int = 1,
    combine: Combine = "mean",
) -> Tensor:
    """`apgd-t` towards other classes first: not the likeliest, but the nearest to first order.

    The distance of a class is z_y - z_class over the norm of its gradient at the clean image, the
    one dual to the threat's. With two classes nothing is left to order.

    Args:
        targets: wrong classes tried at most.
        candidates: the likeliest wrong classes, among which they are; a gradient each.
        steps, rho, eot, combine: as in `apgd`.
    """
    if threat.targeted:
        raise RefusedError("malt chooses its own targets; attack towards a class with apgd")
    others = nearest(view, x, y, threat, candidates, eot)[:targets]
    return towards_each(
        view, x, y, threat, streams, others, steps=steps, rho=rho, eot=eot, combine=combine
    )


def nearest(
    view: View, x: Tensor, y: Tensor, threat: Threat, candidates: int, eot: int
) -> list[Tensor]:
    """The likeliest wrong classes in the order of their distance, one (B, T) a rank; a task with
    fewer classes than ranks starts again from its first.
    """
    likeliest = torch.stack(view.runners_up(x, y, threat, candidates))
    if len(likeliest) == 1 or max(threat.radii) == 0:
        return list(likeliest)
    ordered = likeliest.clone()
    for t in threat.tasks:
        classes = likeliest[: view.class_counts[t] - 1, :, t]
        distances = torch.stack([distance(view, x, y, threat, t, each, eot) for each in classes])
        by_distance = classes.gather(0, distances.argsort(dim=0, stable=True))
        for rank in range(len(ordered)):
            ordered[rank, :, t] = by_distance[rank % len(classes)]
    return list(ordered)


def distance(
    view: View, x: Tensor, y: Tensor, threat: Threat, task: int, other: Tensor, eot: int
) -> Tensor:
    """(B,): how far, to first order, the boundary between a task's labels and the classes `other`
    (B,) is, in units of the largest radius; infinite where there is no gradient.
    """
    gradient = view.gradient(x, torch.cat((y, other[:, None]), 1), threat, loss=lead(task), eot=eot)
    slope = steepness(view, gradient.direction, threat)
    return torch.where(slope > 0, -gradient.loss / slope, torch.inf)


def lead(task: int) -> JointLoss:
    """z_other - z_y of one task; y carries the other classes in its last column."""

    def objective(logits: Sequence[Tensor], y: Tensor) -> Tensor:
        return margin_towards(logits[task], y[:, task].clamp_min(0), y[:, -1])

    return objective


ENTRY = Attack(
    name="malt",
    function=malt,
    targeted=False,
    norms=NORMS,
    positive=(*POSITIVE, "candidates"),
    only_loss=DLR_TARGETED,
)
