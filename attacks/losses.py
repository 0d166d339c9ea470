"""Losses an attacker ascends: (logits (B, C), labels (B,)) -> (B,), larger = more wrong, two classes or more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ce(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y: positive exactly when the prediction is wrong (arXiv 1608.04644, f_6 without its clipping)."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - own


LOSSES = {"ce": ce, "margin": margin}
