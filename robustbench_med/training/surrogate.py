"""A small network that imitates a victim: what adversarials are made on that are carried over to it
(Papernot et al., arXiv 1602.02697).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.attacks import derive_seed

REVISION = 1
"""Of how a surrogate is made, here and in `runs.rivals`."""
SIDE, GRID = 64, 7
"""Pixels of a side that it looks at, at most (larger images are averaged); cells of a side of its
last feature maps.
"""
WIDTHS, FEATURES = (12, 24), 48
BATCH, STEPS, LR = 40, 300, 3e-3
NOISE = 8 / 255
"""How far its training moves every pixel, up or down."""


class Surrogate(nn.Module):
    """Two convolutions and a linear layer a modality, features concatenated, one linear head per
    task.

    `forward(*modalities)` as of any victim.
    """

    stochastic = False

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__()
        self.n_modalities, self.class_counts = len(channels), tuple(class_counts)
        self.encoders = nn.ModuleList(encoder(c) for c in channels)
        features = FEATURES * len(channels)
        self.heads = nn.ModuleList(nn.Linear(features, n) for n in class_counts)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        small = [
            F.adaptive_avg_pool2d(x, (min(x.shape[2], SIDE), min(x.shape[3], SIDE)))
            for x in modalities
        ]
        parts = [encode(2 * x - 1) for encode, x in zip(self.encoders, small, strict=True)]
        h = torch.cat(parts, 1)
        return tuple(head(h) for head in self.heads)


def encoder(channels: int) -> nn.Module:
    """(B, channels, H, W) -> (B, FEATURES)."""
    return nn.Sequential(
        nn.Conv2d(channels, WIDTHS[0], 5, 2, 2),
        nn.ReLU(),
        nn.Conv2d(*WIDTHS, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(GRID),
        nn.Flatten(),
        nn.Linear(WIDTHS[-1] * GRID**2, FEATURES),
        nn.ReLU(),
    )


def imitate(
    images: Sequence[Tensor], answers: Sequence[Tensor], *, seed: int, device: torch.device
) -> Surrogate:
    """Trains a surrogate on a victim's answers: it regresses the logits (Ba & Caruana, arXiv
    1312.6184), centred and divided by their spread, which tell more than confident probabilities.

    Args:
        images: M tensors (n, C_m, H_m, W_m) in [0, 1].
        answers: per task (n, classes), the victim's logits.
        seed: of weights and batches.
        device: where to train.

    Returns:
        The surrogate on the device, in evaluation mode, without parameter gradients.
    """
    n, batch = len(answers[0]), min(BATCH, len(answers[0]))
    generator = torch.Generator().manual_seed(derive_seed(seed, "surrogate"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "surrogate weights"))
        network = Surrogate([m.shape[1] for m in images], [z.shape[1] for z in answers])
    network = network.to(device).train()
    targets = [standardised(z.to(device)) for z in answers]
    optimizer = torch.optim.Adam(network.parameters(), LR)
    steps = min(STEPS, 24 * math.ceil(n / batch))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for _ in range(steps):
        rows = torch.randperm(n, generator=generator)[:batch]
        x = [noisy(m[rows], generator).to(device) for m in images]
        with torch.enable_grad():
            losses = [
                F.mse_loss(z - z.mean(1, keepdim=True), target[rows.to(device)])
                for z, target in zip(network(*x), targets, strict=True)
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def standardised(logits: Tensor) -> Tensor:
    """Logits (n, classes), each sample's centred, over their spread; what is not finite is 0."""
    finite = logits.nan_to_num(0, 0, 0)
    centred = finite - finite.mean(1, keepdim=True)
    return centred / centred.square().mean().sqrt().clamp_min(1e-12)


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), every pixel moved up or down."""
    sign = 2 * torch.randint(0, 2, x.shape, generator=generator) - 1
    return (x + NOISE * sign).clamp(0, 1)
