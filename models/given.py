"""Networks that are handed over as objects, as victims: tried, read as logits, and left as they
were.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustbench_med.errors import UserError
from robustbench_med.models import trial

REVISION = 1
"""Raised whenever what a network hands out may be read as other logits."""


class Network(nn.Module):
    """A network of the user's as a victim: it returns one float32 tensor of logits a task, whatever
    the network's precision and the shape of what it returns.

    Args:
        network: `forward(*modalities)`, or by keyword; returns logits (B, classes), a tuple, list
            or mapping of them, or an object with `logits`.
        x: some images that it takes, one tensor (B, C, H, W) a modality.
        names: of the modalities.
        by_name: whether it gets them by keyword.

    Raises:
        UserError: a network that does not take them, or returns something else.
    """

    def __init__(
        self, network: nn.Module, x: Sequence[Tensor], names: Sequence[str], *, by_name: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names) if by_name else ()
        self.dtypes = [m.dtype for m in x]
        self.n_modalities = len(names)
        self.stochastic = bool(getattr(network, "stochastic", False))
        self.shares_noise = bool(getattr(network, "shares_noise", False))
        if callable(getattr(network, "soft", None)):
            self.soft = network.soft
        if callable(getattr(network, "reject", None)):
            self.reject = self._rejected
        self.register_forward_pre_hook(trial.Inputs())
        few = [m[:2].detach().float() for m in x]
        self.class_counts = self._tried(few)
        kinds = trial.found_kinds(self, few, len(self.class_counts))
        try:
            kinds = trial.declared_kinds(network, kinds) or kinds
        except ValueError as error:
            raise UserError(f"the model: {error}") from error
        self.register_forward_hook(trial.Outputs(kinds, kinds))
        self.training = network.training

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        """Logits of each task."""
        return tuple(z.float() for z in tasks_of(self._asked(self.network, modalities)))

    def _asked(self, function: Callable[..., Any], modalities: Sequence[Tensor]) -> Any:
        given = [m.to(dtype) for m, dtype in zip(modalities, self.dtypes, strict=True)]
        if self.names:
            return function(**dict(zip(self.names, given, strict=True)))
        return function(*given)

    def _rejected(self, *modalities: Tensor) -> Any:
        """What the network's `reject` returns."""
        return self._asked(cast(Any, self.network).reject, modalities)

    @torch.no_grad()
    def _tried(self, few: Sequence[Tensor]) -> tuple[int, ...]:
        """Classes of each task, by a pass."""
        if self.names:
            try:
                inspect.signature(self.network.forward).bind(**dict.fromkeys(self.names))
            except TypeError as error:
                raise UserError(
                    f"x is a mapping, but the model's forward does not take {', '.join(self.names)}"
                    f" by name ({error}); give a list in the order that it takes"
                ) from error
        try:
            logits = self(*few)
        except UserError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(m.shape)) for m in few)
            raise UserError(
                f"the model's forward raised {trial.in_one_line(error, Path())} on images {shapes}"
                f" ({few[0].device})"
            ) from error
        for t, z in enumerate(logits):
            if z.dim() != 2 or len(z) != len(few[0]) or z.shape[1] < 2:
                raise UserError(
                    f"the model must return logits ({len(few[0])}, classes) of two classes or more"
                    f" on {len(few[0])} samples; those of task {t} are of shape {tuple(z.shape)}"
                )
        return tuple(z.shape[1] for z in logits)


def tasks_of(outputs: Any) -> tuple[Tensor, ...]:
    """The logits of each task in what a network returns.

    Raises:
        UserError: it holds anything but tensors.
    """
    if isinstance(outputs, Mapping):
        outputs = outputs["logits"] if "logits" in outputs else tuple(outputs.values())
    elif isinstance(getattr(outputs, "logits", None), Tensor | tuple | list):
        outputs = outputs.logits
    parts = (outputs,) if isinstance(outputs, Tensor) else outputs
    if (
        not isinstance(parts, tuple | list)
        or not parts
        or not all(isinstance(z, Tensor) for z in parts)
    ):
        raise UserError(
            "the model must return logits (B, classes), or a tuple, list or mapping of them, one a"
            f" task; got {type(outputs).__name__}"
        )
    return tuple(parts)


def victim_of(
    network: nn.Module, x: Sequence[Tensor], names: Sequence[str], *, by_name: bool
) -> nn.Module:
    """The network itself where it keeps the contract of victims, as those of `load_model` do; else
    one around it.

    Args:
        x: some images that it takes, one tensor (B, C, H, W) a modality.
        names: of the modalities.
        by_name: whether it gets them by keyword.
    """
    if by_name or not hasattr(network, "class_counts"):
        return Network(network, x, names, by_name=by_name)
    if getattr(network, "n_modalities", len(names)) != len(names):
        raise UserError(f"the model takes {network.n_modalities} modalities, x has {len(names)}")
    return network


def takes_by_name(network: nn.Module, names: Sequence[str]) -> bool:
    """Whether several modalities are arguments of the network's forward under these names."""
    if len(names) < 2:
        return False
    try:
        known = inspect.signature(network.forward).parameters
    except (TypeError, ValueError):  # of a compiled network
        return False
    return all(name in known for name in names)


def precision_of(network: nn.Module) -> torch.dtype:
    """What the network computes in: the type of its first parameter of floating-point numbers."""
    kinds = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(kinds, torch.float32)


def device_of(network: nn.Module) -> torch.device:
    """Where the network's first parameter or buffer lies."""
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextlib.contextmanager
def left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Inside, a network is in evaluation mode and its parameters ask for no gradient; afterwards
    both are as before, and so is the device. What was set to training inside a network in
    evaluation mode stays so: somebody wants its dropout.

    Raises:
        UserError: it is no network.
    """
    if not isinstance(network, nn.Module):
        raise UserError(f"the model must be a torch.nn.Module, got {type(network).__name__}")
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    device = device_of(network)
    if network.training:
        network.eval()
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        if device_of(network) != device:
            network.to(device)
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in wanted:
            parameter.requires_grad_(gradient)
