"""Small networks on real images of one modality, quickly trained: what native attacks and Foolbox's
are compared on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustbench_med import load_data
from robustbench_med.attacks import Threat, View

SIZE = 28


class SmallNet(nn.Module):
    """Three convolutions and a head; the logits times `scale`."""

    n_modalities, stochastic = 1, False

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.class_counts = (classes,)
        self.scale = 1.0
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, classes),
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.scale * self.body(2 * x - 1),)


class FlatLogits(nn.Module):
    """The view as Foolbox wants a model: x (B, D) -> logits."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        return self.view.logits(x)[0]


@dataclass(frozen=True)
class Case:
    """A network: what it is trained on and how; `far` is the L2 radius of its adversarial
    training.
    """

    data: str
    width: int
    far: float = 0.0
    scale: float = 1.0


CASES = {
    "near": Case("sartaj-mri", 8),
    "far, logits x 10": Case("pneumoniamnist", 16, far=1.0, scale=10.0),
    "logits x 0.01": Case("breastmnist", 8, scale=0.01),
}


def batch(part, n: int) -> tuple[Tensor, Tensor]:
    """An even choice of n of its images (of the first modality), and their labels (of the first
    task).
    """
    chosen = torch.linspace(0, len(part.labels) - 1, min(n, len(part.labels))).long()
    return part.batch(chosen.numpy())[0], part.labels[chosen, :1]


def moved(net: SmallNet, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Five normalised steps of L2 PGD, inside the radius."""
    delta = torch.zeros_like(x)
    for _ in range(5):
        leaf = (x + delta).requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(net(leaf)[0], y), leaf)
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        delta = delta + radius / 3 * gradient / length[:, None, None, None]
        over = (delta.flatten(1).norm(dim=1) / radius).clamp_min(1)
        delta = (x + delta / over[:, None, None, None]).clamp(0, 1) - x
    return x + delta


def trained(case: Case, x: Tensor, y: Tensor, classes: int, steps: int = 300) -> SmallNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SmallNet(x.shape[1], classes, case.width)
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for step in range(1, steps + 1):
            rows = torch.randint(len(x), (64,))
            images, labels = x[rows], y[rows]
            if case.far:
                images = moved(net, images, labels, case.far * min(1, 2 * step / steps))
            optimizer.zero_grad()
            cross_entropy(net(images)[0], labels).backward()
            optimizer.step()
    net.scale = case.scale
    return net.eval().requires_grad_(False)


def victim(case: Case, n: int, data_root: Path | None) -> tuple[View, Tensor, Tensor]:
    """A trained network and n test images that it is right on: x (n, D), y (n, 1)."""
    data = load_data(case.data, size=SIZE, data_root=data_root, accept_unverified=True)
    images, labels = batch(data.splits["train"], 2000)
    x, y = batch(data.splits["test"], 2 * n + 100)
    classes = data.class_counts[0]
    view = View(trained(case, images, labels[:, 0], classes), [tuple(x.shape[1:])])
    x = view.pack([x])
    right = (view.standing(x, y, Threat("L2", (1.0,), (0,))) > 0).nonzero()[:n, 0]
    assert len(right) == n
    return view, x[right], y[right]
