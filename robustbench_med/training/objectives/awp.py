"""Adversarial weight perturbation (Wu et al., arXiv 2004.05884)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.models.defenses.entry import Defense
from robustbench_med.training.objectives.pgd_at import PGDAT, statistics_held
from robustbench_med.training.objectives.standard import Passes


@dataclass
class AWP:
    """Adversarial weight perturbation (Wu et al., arXiv 2004.05884, equation 8) around another
    objective.

    The gradient is taken at weights moved against the objective by `gamma` times their norm, layer
    by layer.
    """

    base: PGDAT
    gamma: float = 0.005

    def __post_init__(self) -> None:
        self.replay, self.validation = self.base.replay, self.base.validation
        self.tensors, self.restore = self.base.tensors, self.base.restore

    @property
    def passes(self) -> Passes:
        forward, inner, backward = self.base.passes
        return Passes(forward + backward, inner, 2 * backward)  # the loss once more

    def backward(self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int) -> Tensor:
        perturbed = self.base.perturb(victim, x, y, step)
        weights = [p for p in victim.parameters() if p.dim() > 1]
        with statistics_held(victim):
            gradients = torch.autograd.grad(
                self.base.penalised(victim, x, perturbed, y), weights, allow_unused=True
            )
        kept = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                if g is not None:
                    w.add_(self.gamma * w.norm() / (g.norm() + 1e-12) * g)
        loss = self.base.penalised(victim, x, perturbed, y)
        loss.backward()
        with torch.no_grad():
            for w, old in zip(weights, kept, strict=True):
                w.copy_(old)
        return loss.detach()


ENTRY = Defense(name="awp", objective=AWP, role="around", fixed=("base",))
