"""The small late-fusion networks beneath all victims, and how each is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.models.contract import Generators

SIDE = 28
HIDDEN = 32
BREAST_CHEST = "breastmnist+pneumoniamnist"
BRAIN_BREAST = "sartaj-mri+breastmnist"


class Encoder(nn.Sequential):
    """(B, C, 28, 28) in [0, 1] -> (B, HIDDEN)."""

    def __init__(self, channels: int, width: int, *, batch_norm: bool, max_pool: bool) -> None:
        layers: list[nn.Module] = []
        for inside, outside, kernel in ((channels, width, 5), (width, 2 * width, 3)):
            stride = 1 if max_pool else 2
            layers.append(nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2))
            layers += [nn.BatchNorm2d(outside)] if batch_norm else []
            layers.append(nn.ReLU())
            layers += [nn.MaxPool2d(2)] if max_pool else []
        layers += [nn.Flatten(), nn.Linear(2 * width * (SIDE // 4) ** 2, HIDDEN), nn.ReLU()]
        super().__init__(*layers)


class Cosine(nn.Linear):
    """Logits are 20 times the cosine between features and a class's direction."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class Net(nn.Module):
    """One encoder a modality, their features side by side, one head a task.

    Args:
        dropout: share of the features that is dropped, at inference too.
        scale: factor on the logits.
        cosine: heads of `Cosine`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        class_counts: Sequence[int],
        *,
        width: int = 8,
        batch_norm: bool = False,
        max_pool: bool = False,
        dropout: float = 0.0,
        scale: float = 1.0,
        cosine: bool = False,
    ) -> None:
        super().__init__()
        self.n_modalities, self.class_counts = len(channels), tuple(class_counts)
        self.stochastic = dropout > 0
        self.dropout, self.scale = dropout, scale
        self.encoders = nn.ModuleList(
            Encoder(c, width, batch_norm=batch_norm, max_pool=max_pool) for c in channels
        )
        head = Cosine if cosine else nn.Linear
        self.heads = nn.ModuleList(head(HIDDEN * len(channels), n) for n in class_counts)

    def features(self, *modalities: Tensor) -> Tensor:
        """(B, HIDDEN x modalities)."""
        parts = [encode(2 * x - 1) for encode, x in zip(self.encoders, modalities, strict=True)]
        return torch.cat(parts, 1)

    def classified(self, features: Tensor) -> tuple[Tensor, ...]:
        """Logits of features, one (B, classes) a task."""
        return tuple(self.scale * head(features) for head in self.heads)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        features = self.features(*modalities)
        if self.dropout:
            features = F.dropout(features, self.dropout)
        return self.classified(features)


class Noisy(Net):
    """Gaussian noise on the pixels, at inference too, drawn for each sample."""

    noise = 0.1

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__(channels, class_counts)
        self.stochastic = True

    def forward(
        self, *modalities: Tensor, generators: Generators | None = None
    ) -> tuple[Tensor, ...]:
        return super().forward(*(x + self.noise * drawn(x, generators) for x in modalities))


def drawn(x: Tensor, generators: Generators | None) -> Tensor:
    """N(0, 1) of the shape of x (B, ...), each sample's own where there are generators."""
    if generators is None:
        return torch.randn_like(x)
    return generators.normal(x[0].numel()).view_as(x)


@dataclass(frozen=True)
class Base:
    """A network that is trained once: its class, that one's parameters, and how."""

    kind: type[Net] = Net
    parameters: dict[str, Any] = field(default_factory=dict)
    adversarial: bool = False
    seed: int = 0

    def build(self, channels: Sequence[int], class_counts: Sequence[int]) -> Net:
        """The network, untrained."""
        return self.kind(channels, class_counts, **self.parameters)


BASES = {
    "plain": Base(),
    "twin": Base(seed=1),
    "triplet": Base(seed=2),
    "adversarial": Base(adversarial=True),
    "adversarial with BatchNorm": Base(parameters={"batch_norm": True}, adversarial=True),
    "dropout": Base(parameters={"dropout": 0.3}),
    "Gaussian noise": Base(Noisy),
    "max-pooling": Base(parameters={"max_pool": True}),
    "cosine": Base(parameters={"cosine": True}),
}
"""Trained on either pairing, as far as its victims ask for."""
