"""BatchNorm in the last part of a training: it normalises as inference does, so that the network
learns under what it will be used with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.attacks import seeded

SETTLING_PASSES, SETTLING_MOMENTUM, FOLLOWING_MOMENTUM = 100, 0.05, 0.01


def freeze(victim: nn.Module) -> None:
    """BatchNorm layers use and keep their running statistics, as in inference."""
    for layer in layers(victim):
        layer.eval()


def layers(victim: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in victim.modules() if isinstance(module, nn.BatchNorm2d)]


class Settled:
    """Running statistics of a victim's frozen BatchNorm layers, as inference sees them; they follow
    the training.

    A random victim draws its filters once a batch, so that the mean of a channel moves from draw to
    draw. A batch's own variance, all that BatchNorm's running variance is made of, knows nothing of
    it. These are moments over draws (mean, and mean square less its square), taken behind layers
    that already normalise as in inference.
    """

    def __init__(self, victim: nn.Module) -> None:
        self.victim, self.momentum = victim, FOLLOWING_MOMENTUM
        for layer in layers(victim):
            layer.register_forward_pre_hook(self._take)

    def settle(self, batch: Callable[[int], list[Tensor]], device: torch.device, seed: int) -> None:
        """Takes the statistics anew over `SETTLING_PASSES` batches (their number -> modalities),
        without training.
        """
        freeze(self.victim.train())
        self.momentum = SETTLING_MOMENTUM
        with torch.no_grad():
            for number in range(SETTLING_PASSES):
                x = batch(number)
                with seeded(device, seed, "settle", number):
                    self.victim(*x)
        self.momentum = FOLLOWING_MOMENTUM

    @torch.no_grad()
    def _take(self, layer: Any, inputs: tuple[Tensor, ...]) -> None:
        """Before a layer normalises (B, C, H, W): its statistics move towards these inputs; only in
        training, once frozen, if not held.
        """
        if layer.training or not self.victim.training or layer.momentum == 0:
            return
        (x,) = inputs
        square = (layer.running_var + layer.running_mean.square()).lerp(
            x.square().mean((0, 2, 3)), self.momentum
        )
        layer.running_mean.lerp_(x.mean((0, 2, 3)), self.momentum)
        layer.running_var.copy_((square - layer.running_mean.square()).clamp_min(0))
