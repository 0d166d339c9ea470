"""TRADES (Zhang et al., arXiv 1901.08573)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.attacks import Threat, View
from robustbench_med.attacks.pgd import ascend
from robustbench_med.models.defenses.entry import Defense
from robustbench_med.training.objectives.pgd_at import PGDAT
from robustbench_med.training.objectives.standard import Passes, kl, multitask_loss


@dataclass
class Trades(PGDAT):
    """TRADES (Zhang et al., arXiv 1901.08573, equation 5): CE(f(x), y) + beta max KL(f(x) ||
    f(x')), per task, mean over tasks.
    """

    beta: float = 6.0

    @property
    def passes(self) -> Passes:  # type: ignore[override]
        return Passes(self.steps + 3, self.steps, 2)

    def adversarial(self, view: View, x: Tensor, y: Tensor, threat: Threat, step: int) -> Tensor:
        with torch.no_grad():
            clean = [z.softmax(1) for z in view.logits(x)]
        noise = self.streams(len(x), step, x.device).normal(view.dim).to(x)
        start = view.project(x + 0.001 * noise, x, threat)

        def divergence(logits: Sequence[Tensor], y: Tensor) -> Tensor:
            return torch.stack([kl(p, z) for p, z in zip(clean, logits, strict=True)]).sum(0)

        return ascend(
            view,
            start,
            x,
            y,
            threat,
            steps=self.steps,
            step_size=self.step_size,
            loss=divergence,
            eot=1,
            keep="last",
        )

    def loss(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        clean, moved = victim(*x), victim(*perturbed)
        divergence = torch.stack(
            [kl(a.softmax(1), b).mean() for a, b in zip(clean, moved, strict=True)]
        ).mean()
        return multitask_loss(clean, y) + self.beta * divergence


ENTRY = Defense(name="trades", objective=Trades)
