"""Victims whose predictions are those of the network beneath and whose gradients are not: causes 1,
2 and 4 of docs/trust.md's table.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from support.broken.networks import BRAIN_BREAST
from support.broken.victims import Broken, each, on_grid, rewired, shown, untrained


class WrongStraightThrough(Broken):
    row = 1
    defect = "the backward pass is that of an untrained network"

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__(channels, class_counts)
        self.wrong = untrained(channels, class_counts)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return each(shown, self.beneath(*modalities), self.wrong(*modalities))


class WrongStraightThroughBrain(WrongStraightThrough):
    defect = "the same, on four classes"
    data = BRAIN_BREAST


class ShuffledGradient(Broken):
    row = 1
    defect = "the pixels of every gradient are shuffled"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*(rewired(x, shuffled) for x in modalities))


def shuffled(gradient: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(gradient[0].numel(), generator=generator)
    return gradient.flatten(1)[:, order].view_as(gradient)


class DeadModality(Broken):
    row = 2
    defect = "no gradient reaches the second modality"

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(first, second.detach())


class DeadModalityBrain(DeadModality):
    defect = "the same, on four classes"
    data = BRAIN_BREAST


class RoundedHead(Broken):
    row = 2
    defect = "the logits of the second task are rounded"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        first, second = self.beneath(*modalities)
        return first, (4 * second).round() / 4


class NotFinite(Broken):
    row = 4
    defect = "gradients are NaN wherever an image holds anything but whole grey levels"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*(off_grid(x, torch.nan) for x in modalities))


class VanishesOffGrid(Broken):
    row = 4
    defect = "gradients are 0 wherever an image holds anything but whole grey levels"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*(off_grid(x, 0.0) for x in modalities))


def off_grid(x: Tensor, factor: float) -> Tensor:
    """x, whose gradient is multiplied by a factor for images off the grid of grey levels."""
    factors = torch.where(on_grid(x), 1.0, factor)[:, None, None, None]
    return rewired(x, lambda gradient: factors * gradient)
