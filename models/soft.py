"""Gradients through clips, gates and roundings, for attackers.

Where a defence's forward pass cuts the gradient, an adaptive attacker replaces the backward pass by
that of something smooth (BPDA, Athalye et al., arXiv 1802.00420, section 4.1). The forward values
stay: what is attacked is the victim.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_SOFT: ContextVar[bool] = ContextVar("soft gradients", default=False)
SHARPNESS = 8.0
"""Of the sigmoid that stands in for a clip."""


@contextlib.contextmanager
def soft_gradients() -> Iterator[None]:
    """Inside, `clip` passes a gradient everywhere; every `soft()` of a victim of ours is this."""
    token = _SOFT.set(True)
    try:
        yield
    finally:
        _SOFT.reset(token)


def clip(x: Tensor) -> Tensor:
    """x clipped to [0, 1], any shape.

    Its gradient is 0 where x lies outside; under `soft_gradients` it is that of
    sigmoid(8 (x - 1/2)), over its slope in the middle.
    """
    kind = _SoftClip if _SOFT.get() else _Clip
    clipped: Tensor = kind.apply(x)  # type: ignore[no-untyped-call]
    return clipped


class _OfClip(torch.autograd.Function):
    """A clip forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1)


class _Clip(_OfClip):
    """A clip whose backward pass takes a tenth of the time of `clamp`'s, and gives the same: that
    of hardtanh, whose bounds, which it leaves out, are moved to the next numbers.
    """

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if gradient.stride() != x.stride():  # sums after it add in the order of the layout
            gradient = torch.empty_like(x).copy_(gradient)
        about = torch.finfo(x.dtype)
        inside: Tensor = torch.ops.aten.hardtanh_backward(
            gradient, x, -about.smallest_normal, 1 + about.eps
        )
        return inside


class _SoftClip(_OfClip):
    """A clip whose backward pass is that of a sigmoid."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(SHARPNESS * (x - 0.5))
        return 4 * gate * (1 - gate) * gradient
