"""What attacks that seek the smallest perturbation share: coordinates scaled by the threat model,
and a record of the smallest found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.attacks import balls
from robustbench_med.attacks.losses import JointLoss, Loss, margin
from robustbench_med.attacks.threat import Norm, Threat
from robustbench_med.attacks.view import View

REVISION = 1
ROUNDING = 1e-4  # of a number of places


@dataclass(frozen=True)
class Minimal:
    """The smallest perturbations found: row k - 1 breaks at least k of the attacked tasks.

    `x` (T, B, D), `size` (T, B): the perturbation's size by `scaled_size`, inf where none was found
    (x is then the last try). `early` (T, B): the size that three quarters of the budget found, of
    attacks that note it.
    """

    x: Tensor
    size: Tensor
    early: Tensor | None = None

    def within(self, view: View, x0: Tensor, threat: Threat) -> Tensor:
        """(B, D) inside the ball: the candidate that breaks most tasks in it, else the one for a
        single task, projected.
        """
        radius = max(threat.radii)
        chosen = self.x[0].clone()
        for x, size in zip(self.x, self.size, strict=True):
            inside = size <= radius
            chosen[inside] = x[inside]
        if self.early is not None:
            early, late = ((size > radius).to(x0).mean(0) for size in (self.early, self.size))
            view.quarters = (early, late)
        return view.project(chosen, x0, threat)

    def confirmed(self, view: View, y: Tensor, threat: Threat) -> Minimal:
        """The same, infinite where only a faster pass than the victim's own is wrong."""
        size = self.size.clone()
        with view.by_itself():
            for k, x in enumerate(self.x, start=1):
                size[k - 1][~breaks(view.standing(x, y, threat), k, len(self.x))] = torch.inf
        return replace(self, size=size)

    def of(self, i: int) -> Minimal:
        """Sample i alone, on the CPU."""
        early = None if self.early is None else self.early[:, i : i + 1].cpu()
        return Minimal(self.x[:, i : i + 1].cpu(), self.size[:, i : i + 1].cpu(), early)

    @staticmethod
    def join(parts: Sequence[Minimal], like: Tensor) -> Minimal:
        """A batch of samples again, where `like` is."""
        early = [part.early for part in parts if part.early is not None]
        return Minimal(
            torch.cat([part.x for part in parts], 1).to(like),
            torch.cat([part.size for part in parts], 1).to(like),
            torch.cat(early, 1).to(like) if len(early) == len(parts) else None,
        )


def breaks(share: Tensor, k: int, n_tasks: int) -> Tensor:
    """Whether at least k of the tasks are wrong in more than half of the draws, of the `share` (B,)
    that stands.
    """
    return share * n_tasks < n_tasks - k + 0.5


def proportions(view: View, threat: Threat, like: Tensor) -> Tensor:
    """(D,): each coordinate's radius over the largest radius, so that one number says how large a
    perturbation is; in L0, whose radii are numbers of places, 1 where something may change.
    """
    radius = view.radius(threat, like)
    if threat.norm == "L0":
        return (radius > 0).to(like)
    return radius / max(max(threat.radii), torch.finfo(like.dtype).tiny)


def box(x0: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of u, the perturbation over the proportions p, that keep x0 + p u in [0, 1]; 0 where
    nothing may move.
    """
    scale = p.clamp_min(1e-30)
    return torch.where(p > 0, -x0 / scale, 0.0), torch.where(p > 0, (1 - x0) / scale, 0.0)


def scaled_size(view: View, x: Tensor, x0: Tensor, threat: Threat) -> Tensor:
    """(B,): the largest radius at which x is inside the threat model's ball, the radii keeping
    their proportions.
    """
    largest = max(threat.radii)
    parts = [
        distance.to(x) * (largest / r)
        for distance, r in zip(view.sizes(x, x0, threat), threat.radii, strict=True)
        if r > 0
    ]
    return torch.stack(parts).amax(0) if parts else x.new_zeros(len(x))


def farthest(view: View, x0: Tensor, threat: Threat) -> Tensor:
    """(B,): the size of the largest perturbation that [0, 1] has room for."""
    return scaled_size(view, (x0 < 0.5).to(x0), x0, threat)


DUAL: Mapping[Norm, float] = {"Linf": 1, "L2": 2, "L1": torch.inf}


def steepness(view: View, gradient: Tensor, threat: Threat) -> Tensor:
    """(B,): how fast a function of this gradient (B, D) can change per unit of `scaled_size`: the
    sum over modalities of its dual norm, in the proportion of their radii. L0 has none.
    """
    if threat.columns:  # radii of their own in one modality, under Linf
        return (proportions(view, threat, gradient) * gradient).abs().sum(1)
    largest = max(threat.radii)
    parts = [
        (r / largest) * gradient[:, s.start : s.stop].norm(DUAL[threat.norm], dim=1)
        for s, r in zip(view.segments, threat.radii, strict=True)
    ]
    return torch.stack(parts).sum(0)


def onto(view: View, x: Tensor, x0: Tensor, threat: Threat, size: Tensor) -> Tensor:
    """The nearest point to x in the ball of a size of its own (B,) around each x0, then in [0, 1]
    (L1 and L0: in both); see `scaled_size`. But for L0 up to rounding.
    """
    if threat.columns:  # radii of their own in one modality, under Linf
        radius = proportions(view, threat, x) * size[:, None]
        return (x0 + torch.minimum(torch.maximum(x - x0, -radius), radius)).clamp(0, 1)
    parts, largest = [], max(threat.radii)
    for s, r in zip(view.segments, threat.radii, strict=True):
        clean, point = x0[:, s.start : s.stop], x[:, s.start : s.stop]
        radius = (r / largest) * size[:, None]
        if threat.norm == "Linf":
            moved = clean + torch.minimum(torch.maximum(point - clean, -radius), radius)
        elif threat.norm == "L2":
            length = (point - clean).norm(dim=1, keepdim=True)
            shrink = radius / torch.maximum(length, radius).clamp_min(1e-30)
            moved = clean + (point - clean) * shrink
        elif threat.norm == "L1":
            moved = balls.nearest_l1(point, clean, radius)
        else:
            channels = s.shape[0] if threat.counts == "pixels" else 1
            moved = balls.nearest_l0(point, clean, (radius + ROUNDING).floor(), channels)
        parts.append(moved.clamp(0, 1))
    return torch.cat(parts, 1)


def of_standing(loss: Loss, threat: Threat) -> JointLoss:
    """The losses of the attacked tasks that stand, together, to ascend (towards the target to
    descend): a perturbation has to break them all, and one that is broken asks for nothing more.
    Where none stands, the loss of the one nearest to it; 0 where no task has a label.
    """
    sign = -1 if threat.targeted else 1

    def objective(logits: Sequence[Tensor], y: Tensor) -> Tensor:
        leads, losses = [], []
        for t in threat.tasks:
            label = y[:, t].clamp_min(0)
            lead = sign * margin(logits[t], label).detach()
            leads.append(torch.where(y[:, t] >= 0, lead, torch.inf))
            losses.append(sign * loss(logits[t], label))
        lead, each = torch.stack(leads), torch.stack(losses)
        nearest = each.gather(0, lead.argmin(0)[None])[0]
        together = torch.where(lead <= 0, each, 0.0).sum(0)
        least = lead.amin(0)
        return torch.where(least.isinf(), 0.0, torch.where(least <= 0, together, nearest))

    return objective


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """From the first value towards the last along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


class Smallest:
    """Keeps, for k = 1 ... T, the smallest perturbation offered that breaks at least k tasks.

    See `breaks`; the draws are those of the offer.
    """

    def __init__(self, view: View, x0: Tensor, y: Tensor, threat: Threat) -> None:
        self.view, self.x0, self.threat = view, x0, threat
        self.n_tasks = len(threat.tasks)
        self.x = x0.repeat(self.n_tasks, 1, 1)
        self.size = x0.new_full((self.n_tasks, len(x0)), torch.inf)
        self.early = self.size.clone()
        self.offer(torch.arange(len(x0), device=x0.device), x0, view.standing(x0, y, threat))

    def open(self) -> Tensor:
        """Rows of the samples that are not wrong already; all of them where the batch must stay
        together.
        """
        left = self.size[-1] > 0
        return (left | left.any() if self.view.whole else left).nonzero().squeeze(1)

    def offer(self, rows: Tensor, x: Tensor, share: Tensor, *, late: bool = False) -> Tensor:
        """Offers x (len(rows), D) with the `share` still standing; returns which of them break
        every task. `late`: in the last quarter of the budget.
        """
        size = scaled_size(self.view, x, self.x0[rows], self.threat)
        for k in range(1, self.n_tasks + 1):
            broken = breaks(share, k, self.n_tasks)
            hit = broken & (size < self.size[k - 1, rows])
            self.x[k - 1, rows[hit]], self.size[k - 1, rows[hit]] = x[hit], size[hit]
            if not late:
                sooner = broken & (size < self.early[k - 1, rows])
                self.early[k - 1, rows[sooner]] = size[sooner]
        return share * self.n_tasks < 0.5

    def last(self, rows: Tensor, x: Tensor) -> None:
        """Notes the last try of samples for which nothing has been found: projected, it may still
        break them.
        """
        unfound = self.size[0, rows].isinf()
        self.x[0, rows[unfound]] = x[unfound]

    def found(self, *, noted: bool = True) -> Minimal:
        """All of it; not `noted`: of an attack that does not say which of its offers are late."""
        return Minimal(self.x, self.size, self.early if noted else None)
