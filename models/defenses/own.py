"""Input transforms of the user's own, looked at in every pass: a wrong return is one line that
names the defence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from robustbench_med.errors import UserError


class OfFunction(nn.Module):
    """A function of images (B, C, H, W), or a module that stays untouched, as an input
    transform.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.stochastic = bool(getattr(function, "stochastic", False))

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@dataclass(frozen=True)
class Returned:
    """Forward hook: a transform must return images of the shape that it got."""

    name: str

    def __call__(self, transform: nn.Module, arguments: tuple[Tensor, ...], z: Any) -> None:
        (x,) = arguments
        if not isinstance(z, Tensor):
            raise UserError(
                f"defence {self.name!r} returned {type(z).__name__}, expected images"
                f" {tuple(x.shape)}"
            )
        if z.shape != x.shape:
            raise UserError(
                f"defence {self.name!r} returned images {tuple(z.shape)} for {tuple(x.shape)}; it"
                " must keep their shape"
            )


def looked_at(transform: object, name: str) -> nn.Module:
    """A fresh transform of the user's whose returns are looked at.

    Raises:
        UserError: it is no module.
    """
    if not isinstance(transform, nn.Module):
        raise UserError(
            f"defence {name!r} was built as {type(transform).__name__}, expected a torch.nn.Module"
        )
    hooks = transform._forward_hooks
    if not any(isinstance(hook, Returned) for hook in hooks.values()):
        transform.register_forward_hook(Returned(name))
    if not hasattr(transform, "stochastic"):
        cast(Any, transform).stochastic = False
    return transform
