"""The training that randomised smoothing asks for (Cohen et al., arXiv 1902.02918)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.training.objectives.standard import Standard


@dataclass
class GaussianAugmentation(Standard):
    """Training on noisy images, which randomised smoothing asks for (Cohen et al., arXiv
    1902.02918, section 3.3); validated on such.
    """

    sigma: float

    def perturb(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        return [m + self.sigma * torch.randn_like(m) for m in x]

    def validation(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        return self.perturb(victim, x, y, step)
