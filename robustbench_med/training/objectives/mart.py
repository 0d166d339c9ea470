"""MART (Wang et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.models.defenses.entry import Defense
from robustbench_med.training.objectives.pgd_at import PGDAT
from robustbench_med.training.objectives.standard import Passes, kl


@dataclass
class Mart(PGDAT):
    """MART (Wang et al., ICLR 2020, equation 11): boosted CE at x', and KL(f(x) || f(x')) weighted
    by 1 - p_y(x).
    """

    beta: float = 5.0

    @property
    def passes(self) -> Passes:  # type: ignore[override]
        return Passes(self.steps + 2, self.steps, 2)

    def loss(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        total = []
        for t, (clean, moved) in enumerate(zip(victim(*x), victim(*perturbed), strict=True)):
            known = y[:, t] >= 0
            label = y[:, t].clamp_min(0)[:, None]
            p, q = clean.softmax(1), moved.softmax(1)
            runner_up = q.scatter(1, label, 0.0).amax(1)
            boosted = F.cross_entropy(moved, label[:, 0], reduction="none") - torch.log1p(
                -runner_up.clamp_max(1 - 1e-6)
            )
            weighted = kl(p, moved) * (1 - p.gather(1, label)[:, 0])
            total.append(
                ((boosted + self.beta * weighted) * known).sum() / known.sum().clamp_min(1)
            )
        return torch.stack(total).mean()


ENTRY = Defense(name="mart", objective=Mart)
