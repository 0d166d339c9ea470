"""Universal perturbations: one for all patients (Moosavi-Dezfooli et al., arXiv 1610.08401), made
by projected ascent of a clipped loss (UAP-PGD, arXiv 1811.11304).

A loss that is cut off where a sample has fallen keeps the few easiest samples from deciding: each
gives its gradient as long as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from robustbench_med.attacks.entry import LINF_L2, Attack
from robustbench_med.attacks.losses import named
from robustbench_med.attacks.pgd import decayed
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import Combine, RefusedError, View

REVISION = 1
Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""The samples that a perturbation is made on, before a step: x (B, D) and y (B, T) of one batch
after another.
"""


def make(
    view: View,
    batches: Batches,
    threat: Threat,
    *,
    steps: int,
    step_size: float,
    loss: str,
    eot: int,
    combine: Combine,
) -> Tensor:
    """A perturbation (D,) within the radii; the arguments behind `threat` are those of `universal`.

    Of a deterministic victim the iterate under which fewest of these samples stood.

    Raises:
        RefusedError: categorical columns are to flip, which no sum of images does.
    """
    if threat.flips:
        raise RefusedError("a universal perturbation is added; categorical columns cannot flip")
    compare = not view.random
    objective = named(loss, threat, standing_only=compare)
    best = delta = torch.zeros(view.dim)
    lowest = torch.inf
    for step in range(steps + 1):
        total, stands = torch.zeros(view.dim, dtype=torch.float64), 0.0
        for x, y in batches(step):
            delta = delta.to(x)
            moved = view.project(x + delta, x, threat)
            if step == steps:
                stands += float(view.standing(moved, y, threat).sum()) if compare else 0.0
                continue
            found = view.gradient(moved, y, threat, loss=objective, eot=eot, combine=combine)
            # double precision: a sum over all samples must not depend on how they are batched
            total += found.direction.double().sum(0).cpu()
            stands += float(found.standing.sum())
        if not compare or stands <= lowest:
            best, lowest = delta, stands
        if step < steps:
            length = step_size * decayed(step, steps)
            direction = total.to(delta)[None]
            delta = within(view, delta + length * view.steepest(direction, threat)[0], threat)
    return best


def within(view: View, delta: Tensor, threat: Threat) -> Tensor:
    """A perturbation (D,) brought back into the radii; [0, 1] is a matter of each image."""
    radius = view.radius(threat, delta)
    if threat.norm == "Linf":
        return torch.maximum(torch.minimum(delta, radius), -radius)
    parts = []
    for segment, r in zip(view.segments, threat.radii, strict=True):
        part = delta[segment.start : segment.stop]
        parts.append(part * min(1.0, r / max(float(part.norm()), torch.finfo(part.dtype).tiny)))
    return torch.cat(parts)


def universal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 60,
    step_size: float = 0.125,
    loss: str = "margin",
    eot: int = 1,
    combine: Combine = "mean",
) -> Tensor:
    """One perturbation for all samples of a part, made on the samples of the other: in this batch
    every second sample; a run parts all of its samples by patient.

    Args:
        steps: projected steps, each along the gradient of the mean loss of all samples.
        step_size: of the first, as a share of each modality's radius; the others shrink along half
            a cosine.
        loss: "ce", "margin", "dlr" or "pma".
        eot: draws of a random victim per gradient.
        combine: of the draws' gradients, see `View.gradient`.
    """
    moved, rows = x.clone(), torch.arange(len(x), device=x.device)
    for part in (0, 1):
        making, judged = rows[rows % 2 != part], rows[rows % 2 == part]

        def batches(step: int, making: Tensor = making) -> Iterator[tuple[Tensor, Tensor]]:
            with view.only(making):
                yield x[making], y[making]

        if len(making) and len(judged):
            delta = make(
                view,
                batches,
                threat,
                steps=steps,
                step_size=step_size,
                loss=loss,
                eot=eot,
                combine=combine,
            )
            moved[judged] = view.project(x[judged] + delta, x[judged], threat)
    return moved


ENTRY = Attack(
    name="universal",
    function=universal,
    targeted=False,
    norms=LINF_L2,
    radius_free=(),
    random={"combine": "normalised"},
)
