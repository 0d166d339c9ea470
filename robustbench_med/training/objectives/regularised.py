"""The plain training with soft labels: label smoothing, and mixup of pairs of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.training.objectives.standard import (
    Standard,
    multitask_loss,
    with_penalty,
)


@dataclass
class Regularised(Standard):
    """Cross-entropy with label smoothing (Szegedy et al., arXiv 1512.00567, section 7) on images
    mixed in pairs (mixup, Zhang et al., arXiv 1710.09412, equation 1).

    Args:
        label_smoothing: share of a label that is spread over all classes, in [0, 1).
        mixup: both parameters of the Beta distribution that the share of the first image of a pair
            is drawn from, one draw a batch; 0 mixes nothing.
        seed: of the pairs and shares.
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0
    seed: int = 0

    def backward(self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int) -> Tensor:
        """Leaves the gradient in the parameters and returns the loss."""
        share, partner = self.pairs(len(y), step)
        mixed = [share * m + (1 - share) * m[partner] for m in x] if self.mixup else x
        logits = victim(*mixed)
        loss = share * multitask_loss(logits, y, self.label_smoothing)
        if self.mixup:
            loss = loss + (1 - share) * multitask_loss(logits, y[partner], self.label_smoothing)
        loss = with_penalty(victim, loss)
        loss.backward()
        return loss.detach()

    def pairs(self, n: int, step: int) -> tuple[float, Tensor]:
        """Share of the first image of every pair, and the partner (n,) of each sample."""
        if not self.mixup:
            return 1.0, torch.arange(n)
        rng = np.random.default_rng([self.seed, step, 3])
        return float(rng.beta(self.mixup, self.mixup)), torch.from_numpy(rng.permutation(n))
