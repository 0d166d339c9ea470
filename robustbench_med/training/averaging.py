"""An exponential moving average of a victim's weights over the steps of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averaged weights and running statistics of a victim, which computes with them inside `worn`.

    The first steps count more, by Polyak's mean until the decay is reached: weights of the
    initialisation would stay in the average for long. Whole numbers, and what did not change, are
    taken as they are: tables of positions, masks, counts.

    Args:
        of: the victim that is trained.
        decay: share of the average that a step leaves, in (0, 1).
    """

    def __init__(self, of: nn.Module, decay: float) -> None:
        self.of, self.decay, self.steps = of, decay, 0
        self.average = self._copy()

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights of the step just done."""
        taken = 1 - min(self.decay, self.steps / (self.steps + 10))
        self.steps += 1
        for name, now in self.of.state_dict().items():
            mean = self.average[name]
            if now.is_floating_point() and not torch.equal(mean, now):
                mean.lerp_(now, taken)
            else:
                mean.copy_(now)

    @contextmanager
    def worn(self) -> Iterator[None]:
        """The victim has the averaged weights."""
        own = self._copy()
        self.of.load_state_dict(self.average)
        try:
            yield
        finally:
            self.of.load_state_dict(own)

    def tensors(self) -> dict[str, Tensor]:
        """What an interrupted training needs."""
        return {"steps": torch.tensor(self.steps)} | {
            f"of/{name}": tensor for name, tensor in self.average.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""
        self.steps = int(tensors["steps"])
        for name, mean in self.average.items():
            mean.copy_(tensors[f"of/{name}"])

    def _copy(self) -> dict[str, Tensor]:
        """The victim's weights and buffers as they are."""
        return {name: tensor.detach().clone() for name, tensor in self.of.state_dict().items()}
