"""Victims that are random, a little or seldom: causes 3 and 8 of docs/trust.md's table."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from support.broken.networks import BRAIN_BREAST
from support.broken.victims import Broken, Repaired, each, on_grid


class LogitNoise(Broken):
    row = 3
    defect = (
        "no gradient reaches the second modality, and noise of 1e-6 on the logits makes it random"
    )
    noise = 1e-6
    stochastic = True

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        logits = self.beneath(first, second.detach())
        return each(lambda z: z + self.noise * torch.randn_like(z), logits)


class LogitNoiseBrain(LogitNoise):
    defect = "the same, on four classes"
    data = BRAIN_BREAST


class RoundedAndRandom(Broken):
    row = 3
    defect = "logits rounded to halves, then noise: random, and without a gradient"
    stochastic = True

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        logits = self.beneath(*modalities)
        # 0 * z keeps the graph: the gradient is there, and exactly zero
        return each(lambda z: (2 * z).round() / 2 + 0 * z + 0.2 * torch.randn_like(z), logits)


class Members(Broken):
    """Two trained networks."""

    bases: ClassVar = {"beneath": "plain", "other": "twin"}

    def average(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return each(lambda a, b: (a + b) / 2, self.beneath(*modalities), self.other(*modalities))

    def repaired(self) -> list[nn.Module]:
        return [Repaired(self, self.average), self.beneath, self.other]


class TwoMembers(Members):
    row = 8
    defect = "one of two networks answers a whole batch; it does not say that it is random"
    shares_noise = True

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return (self.beneath if torch.rand(()) < 0.5 else self.other)(*modalities)


class RandomOffGrid(Members):
    row = 8
    defect = "a random one of two networks, but always the first where all images are clean"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        clean = torch.stack([on_grid(x) for x in modalities]).all(0)
        first = (clean | (torch.rand(len(clean)) < 0.5))[:, None]
        one, two = self.beneath(*modalities), self.other(*modalities)
        return each(lambda a, b: torch.where(first, a, b), one, two)
