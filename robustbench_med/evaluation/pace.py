"""How fast a victim's passes are on a device, and what they need: a few of them, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robustbench_med.evaluation.cost import Shapes, inputs, synchronise

REPEATS, LONGEST = 5, 2.0
"""Timed passes of each kind; fewer where they take more seconds than that together."""


class Pace(BaseModel):
    """What passes of a victim cost, a sample.

    Attributes:
        forward, gradient: seconds of a forward pass, and of one with a backward pass to the input,
            in a batch of `batch` samples.
        forward_flops, gradient_flops: of the same, by PyTorch's counter.
        weights: bytes of its parameters and buffers.
        activations: bytes that a gradient keeps of a sample until its backward pass.
        batch: samples of the timed batches.
    """

    model_config = ConfigDict(frozen=True)

    forward: float
    gradient: float
    forward_flops: int
    gradient_flops: int
    weights: int
    activations: int
    batch: int

    def memory(self, n: int) -> int:
        """Bytes of one gradient of n samples, weights included."""
        return self.weights + n * self.activations


def measure(victim: nn.Module, shapes: Shapes, batch: int) -> Pace:
    """Times passes of a victim, in evaluation mode, where it is.

    Args:
        shapes: (C, H, W) of each modality.
        batch: samples of a timed batch.
    """
    x = inputs(victim, shapes, batch)
    one = inputs(victim, shapes, 1)
    tensors = [*victim.parameters(), *victim.buffers()]
    return Pace(
        forward=_seconds(lambda: _forward(victim, x), x[0].device) / batch,
        gradient=_seconds(lambda: _gradient(victim, x), x[0].device) / batch,
        forward_flops=_flops(lambda: _forward(victim, one)),
        gradient_flops=_flops(lambda: _gradient(victim, one)),
        weights=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        activations=_activations(victim, one),
        batch=batch,
    )


@torch.no_grad()
def _forward(victim: nn.Module, x: list[Tensor]) -> None:
    victim(*x)


def _gradient(victim: nn.Module, x: list[Tensor]) -> None:
    leaves = [each.detach().requires_grad_() for each in x]
    with torch.enable_grad():
        value = torch.stack([logits.sum() for logits in victim(*leaves)]).sum()
    if value.requires_grad:  # else the victim cuts its graph
        value.backward()


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Median seconds, after one that is not counted."""
    work()
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < LONGEST:
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _flops(work: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _activations(victim: nn.Module, x: list[Tensor]) -> int:
    """Bytes that a gradient keeps until its backward pass, weights not among them."""
    weights = {each.untyped_storage().data_ptr() for each in victim.state_dict().values()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _gradient(victim, x)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
