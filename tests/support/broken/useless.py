"""Victims whose gradients are neither zero nor of use: cause 5 of docs/trust.md's table."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.broken.victims import Broken, Repaired, each, levels, rewired, shown, untrained

STEPS = 15
"""Between the grey levels that rounding victims know."""


class NoisyBackward(Broken):
    row = 5
    defect = "noise of 30 times the gradient's size is added in the backward pass"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*(rewired(x, drowned) for x in modalities))


def drowned(gradient: Tensor) -> Tensor:
    size = gradient.flatten(1).std(1)[:, None, None, None]
    return gradient + 30 * size * torch.randn_like(gradient)


class WrongRounding(Broken):
    row = 5
    defect = "rounds its input to 16 grey levels; backward, every second level has the wrong sign"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        wrong = [shown(levels(x, STEPS), wave(x)) for x in modalities]
        return self.beneath(*wrong)

    def repaired(self) -> list[nn.Module]:
        return [Repaired(self, lambda *m: self.beneath(*(shown(levels(x, STEPS), x) for x in m)))]


def wave(x: Tensor) -> Tensor:
    """Rises and falls with every other level."""
    return (torch.pi * STEPS * x).sin() / (torch.pi * STEPS)


class BlendedGradient(Broken):
    row = 5
    defect = "a true gradient blended with ten times an untrained network's"

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__(channels, class_counts)
        self.wrong = untrained(channels, class_counts)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        right, wrong = self.beneath(*modalities), self.wrong(*modalities)
        return each(lambda z, w: shown(z, z + 10 * w), right, wrong)


class DetachedDenoiser(Broken):
    row = 5
    defect = "a denoiser without a gradient, and a weak skip connection past it that has one"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*(0.9 * denoised(x).detach() + 0.1 * x for x in modalities))

    def repaired(self) -> list[nn.Module]:
        return [Repaired(self, lambda *m: self.beneath(*(0.9 * denoised(x) + 0.1 * x for x in m)))]


def denoised(x: Tensor) -> Tensor:
    """The mean of every 5 x 5 pixels."""
    return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)


class SteepInput(Broken):
    row = 5
    defect = "its 16 grey levels are joined by sigmoids of slope 1000"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*(staircase(x) for x in modalities))

    def repaired(self) -> list[nn.Module]:
        return [Repaired(self, lambda *m: self.beneath(*(shown(staircase(x), x) for x in m)))]


def staircase(x: Tensor) -> Tensor:
    """`levels`, steep in place of broken."""
    below = (x * STEPS).floor().detach()
    return (below + torch.sigmoid(1000 * (x * STEPS - below - 0.5))) / STEPS


class DroppedActivations(Broken):
    row = 5
    defect = "drops nine features of ten at every pass: few draws say little"
    bases: ClassVar = {"beneath": "dropout"}
    stochastic = True
    kept = 0.1

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        features = self.beneath.features(*modalities)
        return self.beneath.classified(F.dropout(features, 1 - self.kept))

    def repaired(self) -> list[nn.Module]:
        whole = Repaired(self, lambda *m: self.beneath.classified(self.beneath.features(*m)))
        return [whole, Repaired(self, self.forward, stochastic=True)]
