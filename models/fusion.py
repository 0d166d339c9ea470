"""Fusion baselines over MONAI encoders: `unimodal`, the control without fusion, and `late` fusion of features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn


def resnet18(channels: int, width: int, image_size: int) -> ResNet:
    """MONAI's ResNet-18 (arXiv 1512.03385), (B, channels, H, W) -> features (B, 8 * width).

    Images of 32 pixels and below get the 3x3 stem without pooling that is usual for them (as in MedMNIST's own baselines):
    the 7x7/2 stem with pooling would leave one position in the last stage.
    """
    small = image_size <= 32
    return ResNet(
        "basic",
        [2, 2, 2, 2],
        [width, 2 * width, 4 * width, 8 * width],
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_size=3 if small else 7,
        conv1_t_stride=1 if small else 2,
        no_max_pool=small,
        feed_forward=False,
    )


def standardise(x: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], inside the model, so that attacks work in pixel space."""
    return 2 * x - 1


class LateFusion(nn.Module):
    """One ResNet-18 a modality, features concatenated, one linear head per task (Baltrusaitis et al., arXiv 1705.09406, section 3.5).

    Args:
        channels: channels of each modality.
        class_counts: classes of each task.
        width: channels of the first stage (64: the usual ResNet-18).
        image_size: pixels of a side, chooses the stem.
    """

    stochastic = False

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int], *, width: int = 64, image_size: int = 64) -> None:
        super().__init__()
        self.n_modalities = len(channels)
        self.class_counts = tuple(class_counts)
        self.encoders = nn.ModuleList(resnet18(c, width, image_size) for c in channels)
        self.heads = nn.ModuleList(nn.Linear(8 * width * len(channels), n) for n in class_counts)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        h = torch.cat([encoder(standardise(x)) for encoder, x in zip(self.encoders, modalities, strict=True)], 1)
        return tuple(head(h) for head in self.heads)


class Unimodal(nn.Module):
    """One ResNet-18 a task and no fusion: task t sees modality t alone (the last modality where there are more tasks).

    The control of every fusion claim: an attack on one modality cannot reach another task here. Arguments as in `LateFusion`.
    """

    stochastic = False

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int], *, width: int = 64, image_size: int = 64) -> None:
        super().__init__()
        self.n_modalities = len(channels)
        self.class_counts = tuple(class_counts)
        self.inputs = [min(t, self.n_modalities - 1) for t in range(len(class_counts))]
        self.encoders = nn.ModuleList(resnet18(channels[m], width, image_size) for m in self.inputs)
        self.heads = nn.ModuleList(nn.Linear(8 * width, n) for n in class_counts)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        if len(modalities) != self.n_modalities:
            raise ValueError(f"expected {self.n_modalities} modalities, got {len(modalities)}")
        return tuple(
            head(encoder(standardise(modalities[m]))) for m, encoder, head in zip(self.inputs, self.encoders, self.heads, strict=True)
        )
