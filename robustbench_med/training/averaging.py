"""An exponential moving average of a victim's weights over the steps of its training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average:
    """Averaged weights and buffers (running statistics) of a victim; `victim` computes with them.

    The first steps count more, by Polyak's mean until the decay is reached: weights of the
    initialisation would stay in the average for long.

    Args:
        of: the victim that is trained.
        decay: share of the average that a step leaves, in (0, 1).
    """

    def __init__(self, of: nn.Module, decay: float) -> None:
        self.of, self.decay = of, decay
        self.average = AveragedModel(of, use_buffers=True)

    @property
    def victim(self) -> nn.Module:
        """The victim with averaged weights."""
        module: nn.Module = self.average.module
        return module

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights of the step just done."""
        steps = int(self.average.n_averaged)
        self.average.multi_avg_fn = get_ema_multi_avg_fn(min(self.decay, steps / (steps + 10)))
        self.average.update_parameters(self.of)

    def tensors(self) -> dict[str, Tensor]:
        """What an interrupted training needs."""
        return dict(self.average.state_dict())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""
        self.average.load_state_dict(tensors)
