"""Networks, arrays, attacks and defences as a notebook has them: nothing of medrobust's contract."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from robustbench_med import make_data

N, SIDE, CLASSES = 6, 6, 3
FAST = {"eps": "16/255", "quiet": True}
CELL = {**FAST, "challenge": False, "control": False}


class Plain(nn.Module):
    """One input, one head."""

    def __init__(self, channels: int = 1, scale: float = 8.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(
            torch.randn(CLASSES, channels * SIDE * SIDE, generator=generator)
        )
        self.register_buffer("shift", torch.full((1,), 0.5), persistent=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Any:
        return self.scale * ((x - self.shift).flatten(1) @ self.weight.T)


class Tuple(Plain):
    def forward(self, x: Tensor) -> Any:
        return (super().forward(x),)


class HuggingFace(Plain):
    def forward(self, pixel_values: Tensor) -> Any:
        return SimpleNamespace(loss=None, logits=super().forward(pixel_values))


class Two(nn.Module):
    """Two inputs, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = Plain(), Plain(3)

    def forward(self, xray: Tensor, photo: Tensor) -> Any:
        return self.left(xray), self.right(photo)


def images(channels: int = 1) -> Tensor:
    return torch.rand(N, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def labels() -> Tensor:
    return torch.arange(N) % CLASSES


def eight_bits() -> Tensor:
    return (images() * 255).round().to(torch.uint8)


MODELS = {"tensor": Plain, "tuple": Tuple, "hugging face": HuggingFace}
"""What networks return."""


def data_of_each_kind() -> dict[str, Any]:
    """The same images and labels in every form."""
    levels, y = eight_bits(), labels()
    x = levels.float() / 255
    return {
        "tensors": (x, y),
        "numpy": (levels[:, 0].numpy(), y.numpy()),
        "channels last": (np.moveaxis(levels.numpy(), 1, -1), y.tolist()),
        "pil": ([Image.fromarray(image.numpy()[0]) for image in levels], y),
        "torch dataset": TensorDataset(x, y),
        "loader": DataLoader(TensorDataset(x, y), batch_size=4),
        "dataset": make_data(x, y),
        "parts": {"test": (x, y)},
    }


def half_step(view, x, y, threat, streams, *, share: float = 0.5):  # type: ignore[no-untyped-def]
    """Half of FGSM."""
    direction = view.gradient(x, y, threat).direction
    return view.project(x + share * view.steepest(direction, threat), x, threat)


def own_loss(logits: Tensor, y: Tensor) -> Tensor:
    return -logits.gather(1, y[:, None])[:, 0]


def darker(x: Tensor) -> Tensor:
    return 0.9 * x


class Brighter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (1.1 * x).clamp(0, 1)
