"""Victims that look at their neighbours: cause 6 of docs/trust.md's table. Run them with
`--allow-batch-dependent`.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.broken.networks import Encoder
from support.broken.victims import Broken, Repaired, each


class BatchStatistics(Broken):
    row = 6
    defect = "BatchNorm takes the batch's own statistics at inference"
    bases: ClassVar = {"beneath": "adversarial with BatchNorm"}
    batch_dependent = True

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        parts = [
            by_its_batch(encode, 2 * x - 1)
            for encode, x in zip(self.beneath.encoders, modalities, strict=True)
        ]
        return self.beneath.classified(torch.cat(parts, 1))

    def repaired(self) -> list[nn.Module]:
        return [Repaired(self, self.forward), self.beneath]


def by_its_batch(encode: Encoder, x: Tensor) -> Tensor:
    """An encoder's features under the statistics of this batch."""
    for layer in encode:
        if isinstance(layer, nn.BatchNorm2d):
            x = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)
        else:
            x = layer(x)
    return x


class CentredLogits(Broken):
    row = 6
    defect = "the mean of the batch's logits is taken from each sample's"
    batch_dependent = True

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return each(lambda z: z - 0.5 * z.mean(0, keepdim=True), self.beneath(*modalities))

    def repaired(self) -> list[nn.Module]:
        return [self.beneath, Repaired(self, self.forward)]
