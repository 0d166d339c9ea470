"""What every broken victim is made of: trained networks beneath it, and what an attacker who knows
the defect attacks in its place.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from support.broken.networks import BASES, BREAST_CHEST, Net


class Broken(nn.Module):
    """A victim around trained networks; the names of its own files tell its defect.

    Attributes:
        row: of the table of causes that it stands for; 0: none of them, a victim of our own that
            signs may miss.
        defect: in words.
        data: the pairing that it classifies.
        bases: the trained network (of `BASES`) that each attribute holds.
        batch_dependent: predictions depend on the neighbours.
    """

    row: ClassVar[int] = 0
    defect: ClassVar[str]
    data: ClassVar[str] = BREAST_CHEST
    bases: ClassVar[Mapping[str, str]] = {"beneath": "plain"}
    batch_dependent: ClassVar[bool] = False
    stochastic = False

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__()
        self.n_modalities, self.class_counts = len(channels), tuple(class_counts)
        for name, base in self.bases.items():
            setattr(self, name, BASES[base].build(channels, class_counts))

    beneath: Net

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*modalities)

    def repaired(self) -> list[nn.Module]:
        """Victims without the defect, whose gradients an attacker who knows it follows."""
        return [self.beneath]

    def forget(self) -> None:
        """Back to the state of a fresh victim, where there is one."""


class Repaired(nn.Module):
    """A victim made of a function of the modalities, for an attacker."""

    def __init__(
        self, of: Broken, forward: Callable[..., tuple[Tensor, ...]], *, stochastic: bool = False
    ) -> None:
        super().__init__()
        self.n_modalities, self.class_counts = of.n_modalities, of.class_counts
        self.function, self.stochastic = forward, stochastic

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.function(*modalities)


def rewired(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """x, whose gradient is changed on its way back."""
    y = x.view_as(x)
    if y.requires_grad:
        y.register_hook(change)
    return y


def shown(value: Tensor, gradient_of: Tensor) -> Tensor:
    """`value` with the gradient of `gradient_of`, which has its shape."""
    return gradient_of + (value - gradient_of).detach()


def each(function: Callable[..., Tensor], *tasks: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """A function of every task's logits."""
    return tuple(function(*logits) for logits in zip(*tasks, strict=True))


def levels(x: Tensor, steps: int) -> Tensor:
    """x in [0, 1] rounded to multiples of 1 / steps."""
    return (x * steps).round() / steps


def on_grid(x: Tensor) -> Tensor:
    """Whether each image (B, C, H, W) holds whole grey levels alone, as clean ones do, (B,)."""
    return ((255 * x - (255 * x).round()).abs() < 1e-3).flatten(1).all(1)


def untrained(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    """A network with random weights, the same ones always, whose logits are as large as those of a
    trained one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(100)
        net: Any = Net(channels, class_counts, scale=10.0)
    return net.requires_grad_(False)
