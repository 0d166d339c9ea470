"""What a victim costs: parameters, FLOPs, latency, peak memory."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import nn
from torch.autograd.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

Shapes = Sequence[tuple[int, int, int]]


def parameters(victim: nn.Module) -> int:
    """Trainable parameters (weights that a training would change)."""
    return sum(p.numel() for p in victim.parameters())


def flops(victim: nn.Module, shapes: Shapes) -> int:
    """FLOPs of one forward pass on one sample by PyTorch's counter: 2 per multiply-accumulate of
    convolutions and matrix products.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        victim(*inputs(victim, shapes, 1))
    return int(counter.get_total_flops())


def latency(victim: nn.Module, shapes: Shapes, *, batch_size: int = 1, repeats: int = 20) -> float:
    """Median seconds of a forward pass of one batch, after three unmeasured ones."""
    x = inputs(victim, shapes, batch_size)
    seconds = []
    with torch.no_grad():
        for i in range(repeats + 3):
            synchronise(x[0].device)
            start = time.perf_counter()
            victim(*x)
            synchronise(x[0].device)
            if i >= 3:
                seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak_memory(victim: nn.Module, shapes: Shapes, *, batch_size: int = 1) -> int:
    """Largest number of bytes that tensors hold at once during a forward pass without gradients,
    weights included; on a processor by PyTorch's profiler of memory.
    """
    x = inputs(victim, shapes, batch_size)
    device = x[0].device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        with torch.no_grad():
            victim(*x)
        return int(torch.cuda.max_memory_allocated(device))
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says that it starts and stops
    with profile(profile_memory=True) as profiled, torch.no_grad():
        victim(*x)
    events = profiled.kineto_results.events()
    changes = (event.nbytes() for event in events if event.name() == "[memory]")
    held = {*victim.parameters(), *victim.buffers(), *x}
    return sum(each.nbytes for each in held) + max(0, *itertools.accumulate(changes))


class VictimCost(TypedDict):
    """What one forward pass of a victim costs, on one sample."""

    parameters: int
    gflops: float
    gmacs: float
    latency_ms: float
    peak_memory_mib: float
    device: str


UNKNOWN: VictimCost = {
    "parameters": 0,
    "gflops": 0.0,
    "gmacs": 0.0,
    "latency_ms": 0.0,
    "peak_memory_mib": 0.0,
    "device": "black box",
}
"""Of a black box, which nobody can look into."""


def measure(victim: nn.Module, shapes: Shapes) -> VictimCost:
    """Everything above.

    Args:
        victim: in evaluation mode, where it is to be measured.
        shapes: (C, H, W) of each modality.

    Example:
        measure(victim, dataset.shapes)["gflops"]
    """
    operations = flops(victim, shapes)
    return {
        "parameters": parameters(victim),
        "gflops": operations / 1e9,
        "gmacs": operations / 2e9,
        "latency_ms": 1e3 * latency(victim, shapes),
        "peak_memory_mib": peak_memory(victim, shapes) / 2**20,
        "device": device_name(next(victim.parameters()).device),
    }


def inputs(victim: nn.Module, shapes: Shapes, batch_size: int) -> list[torch.Tensor]:
    """Random inputs on the victim's device; cost does not depend on their values."""
    device = next(victim.parameters()).device
    return [
        torch.rand(batch_size, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        for shape in shapes
    ]


def device_name(device: torch.device) -> str:
    """What the device is, for a record."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return device.type


def synchronise(device: torch.device) -> None:
    """Waits for what a GPU has been given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
