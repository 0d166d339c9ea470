"""A victim as a search calls it, computed faster: by `torch.compile`, by captured CUDA graphs, with
channels last, in bfloat16. Predictions that judge an attack are computed as ever, in float32: what
only a faster pass sees broken stands, and the sign "success undone" counts it.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.attacks.view import RefusedError, gives
from robustbench_med.naming import Acceleration

REVISION = 2
SIZES, LEAST = 4, 8
"""Sizes of batches that are compiled or captured at most, each half the one before; none is smaller
than `LEAST`.
"""


class Accelerated:
    """Calls a victim, forward and backward, by some of these ways.

    - "compile": `torch.compile`, whose kernels add up in another order.
    - "graphs": CUDA graphs of the forward and the backward pass, replayed; the same kernels.
    - "channels-last": a copy of the victim whose weights and images lie channels last.
    - "bf16": matrix products and convolutions in bfloat16 (`torch.autocast`), logits in float32.

    A compiled or captured pass has one size of batch. Batches are filled up to one of `SIZES` by
    copies of their last sample, whose logits are dropped; those of a random victim keep their size.

    Args:
        victim: in evaluation mode, parameters without gradients.
        how: some of the ways.
        most: samples of the largest batch. Larger ones are compiled in parts of that size, and
            computed without graphs.
        random: the victim draws numbers, for its batch or for each sample of it.

    Raises:
        RefusedError: CUDA graphs without CUDA or of a random victim, a black box, or a victim that
            cannot be copied; when called, a victim that cannot be compiled or captured, and a
            gradient through a captured pass whose graph was replayed since.
    """

    def __init__(
        self, victim: nn.Module, how: Sequence[Acceleration], *, most: int, random: bool = False
    ) -> None:
        self.how, self.most, self.random = frozenset(how), most, random
        if gives(victim) is not None:
            raise RefusedError("a black box computes where nobody can make it faster")
        if "graphs" in self.how and random:
            raise RefusedError("graphs: a captured pass draws the same numbers at every replay")
        if "graphs" in self.how and not torch.cuda.is_available():
            raise RefusedError("graphs: this machine has no CUDA device")
        self.network = victim
        if "channels-last" in self.how:
            try:
                self.network = copy.deepcopy(victim)
            except (RuntimeError, TypeError) as error:
                raise RefusedError(f"channels-last: the victim cannot be copied: {error}") from None
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compiled: Any = self.network
        if "compile" in self.how:
            self.compiled = torch.compile(self.network, dynamic=False)
        self.sizes = [max(most >> k, min(LEAST, most)) for k in range(SIZES)]
        """Of filled batches, the largest first."""
        self.captured: dict[int, Any] = {}
        self.replays: Counter[int] = Counter()

    def __call__(self, *modalities: Tensor, **given: Any) -> tuple[Tensor, ...]:
        """The victim's logits, (B, classes) a task; `given` are its generators."""
        alone = self.random or not self.how & {"compile", "graphs"}
        if alone or ("graphs" in self.how and len(modalities[0]) > self.most):
            return self.passed(modalities, given)
        parts = [
            self.filled([images[start : start + self.most] for images in modalities])
            for start in range(0, len(modalities[0]), self.most)
        ]
        return tuple(torch.cat(task) for task in zip(*parts, strict=True))

    def filled(self, modalities: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A pass over a batch that is filled up to the next size."""
        n = len(modalities[0])
        size = min(size for size in self.sizes if size >= n)
        full = [torch.cat([m, m[-1:].expand(size - n, *m.shape[1:])]) for m in modalities]
        logits = self.replayed(full) if "graphs" in self.how else self.passed(full, {})
        return tuple(task[:n] for task in logits)

    def replayed(self, modalities: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A pass by the graphs of its size, captured the first time. What graphs give lies where
        the next replay writes, so it is copied, gradients too.
        """
        size = len(modalities[0])
        if size not in self.captured:
            self.captured[size] = self.capture(modalities)
        self.replays[size] += 1
        copied = (CopiedGradient.apply(images) for images in modalities)  # type: ignore[no-untyped-call]
        logits = self.captured[size](*copied)
        one = self.replays, size
        return tuple(OfOneReplay.apply(task.clone(), one) for task in logits)  # type: ignore[no-untyped-call]

    @torch.enable_grad()
    def capture(self, modalities: Sequence[Tensor]) -> Any:
        """The graphs of a pass, the backward one too, whoever asks first."""
        example = tuple(images.detach().clone().requires_grad_() for images in modalities)
        try:
            return torch.cuda.make_graphed_callables(
                lambda *images: self.passed(images, {}), example, allow_unused_input=True
            )
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise RefusedError(f"graphs: this victim cannot be captured: {first}") from None

    def passed(self, modalities: Sequence[Tensor], given: dict[str, Any]) -> tuple[Tensor, ...]:
        """One pass."""
        if "channels-last" in self.how:
            modalities = [m.contiguous(memory_format=torch.channels_last) for m in modalities]
        device = modalities[0].device.type
        fast = torch.autocast(
            device,
            torch.bfloat16,
            enabled="bf16" in self.how,
            cache_enabled="graphs" not in self.how,  # a cached cast would not be captured again
        )
        try:
            with fast, many_compilations() if "compile" in self.how else contextlib.nullcontext():
                logits = self.compiled(*modalities, **given)
        except torch._dynamo.exc.TorchDynamoException as error:
            first = str(error).strip().splitlines()[0]
            raise RefusedError(f"compile: torch.compile cannot take this victim: {first}") from None
        return tuple(task.float() for task in logits)


def many_compilations() -> contextlib.AbstractContextManager[None]:
    """Lifts limits which all victims of one class share, and past which torch.compile computes as
    ever and says nothing.
    """
    many: contextlib.AbstractContextManager[None] = torch._dynamo.config.patch(
        recompile_limit=1 << 10, accumulated_recompile_limit=1 << 12
    )
    return many


class CopiedGradient(torch.autograd.Function):
    """The identity, whose gradient is a copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """x."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """A copy."""
        return gradients[0].clone()


class OfOneReplay(torch.autograd.Function):
    """The identity, whose gradient is refused once another replay has overwritten what it needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, one: tuple[Counter[int], int]) -> Tensor:
        """x; `one`: how often graphs were replayed, and the size of these."""
        ctx.replays, ctx.size = one
        ctx.number = ctx.replays[ctx.size]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient, in time."""
        if ctx.replays[ctx.size] != ctx.number:
            raise RefusedError(
                "graphs: an attack needs the gradients of several passes at once; leave `graphs`"
                " out of --accelerate"
            )
        return gradients[0], None
