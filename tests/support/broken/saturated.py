"""Victims whose outputs saturate, all of them or for some images: cause 9 of docs/trust.md's
table.
"""

import torch.nn.functional as F
from torch import Tensor

from support.broken.networks import BRAIN_BREAST
from support.broken.victims import Broken, each, rewired


class SoftmaxOutputs(Broken):
    row = 9
    defect = "hands out probabilities that are 0 and 1"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return each(lambda z: (100 * z).softmax(1), self.beneath(*modalities))


class HiddenSoftmax(Broken):
    row = 9
    defect = "its logits are ten times a softmax that is one-hot: no scale shows it"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return each(lambda z: 10 * (50 * z).softmax(1), self.beneath(*modalities))


class HiddenSoftmaxBrain(HiddenSoftmax):
    defect = "the same, on four classes"
    data = BRAIN_BREAST


class HalfDead(Broken):
    row = 9
    defect = "no gradient for the images of some samples, always the same ones"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        alive = (~chosen(modalities[0])).float()[:, None, None, None]
        return self.beneath(*(rewired(x, lambda gradient: gradient * alive) for x in modalities))


def chosen(x: Tensor) -> Tensor:
    """Some samples, by a coarse look at their image that no small change alters much, (B,)."""
    rough = F.adaptive_avg_pool2d(x.detach().mean(1, keepdim=True), (2, 1)).flatten(1)
    return rough[:, 0] - rough[:, 1] > 0.25
