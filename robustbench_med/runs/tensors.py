"""Tensors and a network of the user's, from Python, as evaluations see them: checked, named, and
left as they were.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.data import Component, Samples
from robustbench_med.errors import UserError
from robustbench_med.models import trial

Images = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""(B, C, H, W) in [0, 1], or one such tensor a modality."""


@dataclass(frozen=True)
class Modalities:
    """Images of the user's, checked.

    Attributes:
        names: keys of a mapping, "0", "1", ... of a list, "image" of a single tensor.
        tensors: (B, C_m, H_m, W_m) each, as they were given.
        by_name: whether they came as a mapping: the network then gets them by keyword.
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    by_name: bool

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of each modality."""
        return [(m.shape[1], m.shape[2], m.shape[3]) for m in self.tensors]

    def __len__(self) -> int:
        return len(self.tensors[0])


@dataclass(frozen=True)
class TensorSamples(Samples):
    """Samples whose images are `tensors`, float32 on the CPU, in place of those of a component."""

    tensors: tuple[Tensor, ...] = ()

    @property
    def ids(self) -> list[str]:
        """As they were given."""
        return [self.components[0].ids[row] for row in self.index[:, 0]]

    def gather(self, index: NDArray[np.int64]) -> list[Tensor]:
        """As `batch`, for explicit rows (b, 1)."""
        rows = torch.from_numpy(index[:, 0])
        return [tensor[rows] for tensor in self.tensors]


def modalities_of(x: Images) -> Modalities:
    """Checks images.

    Raises:
        UserError: no tensors of floating-point numbers (B, C, H, W) in [0, 1], of one batch and
            device.
    """
    by_name = isinstance(x, Mapping)
    named = (
        {str(key): value for key, value in x.items()}
        if isinstance(x, Mapping)
        else dict(zip(map(str, range(len(x))), x, strict=True))
        if isinstance(x, list | tuple)
        else {"image": x}
    )
    if not named:
        raise UserError("x holds no images; expected a tensor (B, C, H, W), or one a modality")
    several = isinstance(x, list | tuple | Mapping)
    for name, images in named.items():
        _check_images(f"x[{name if not by_name else repr(name)}]" if several else "x", images)
    tensors = tuple(named.values())
    if len({(len(images), images.device) for images in tensors}) > 1:
        said = ", ".join(f"{len(images)} on {images.device}" for images in tensors)
        raise UserError(f"the modalities of x must be of one batch on one device, got {said}")
    return Modalities(tuple(named), tensors, by_name)


def _check_images(what: str, images: object) -> None:
    if not isinstance(images, Tensor):
        raise UserError(f"{what} must be a torch.Tensor (B, C, H, W), got {type(images).__name__}")
    if images.dim() != 4 or not images.numel():
        raise UserError(f"{what} must be of shape (B, C, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise UserError(
            f"{what} must hold floating-point numbers in [0, 1], got {images.dtype}; images of"
            " 0..255 are divided by 255"
        )
    if not images.isfinite().all():
        raise UserError(f"{what} holds NaN or infinity; pixels lie in [0, 1]")
    low, high = (float(bound) for bound in images.detach().aminmax())
    if low < 0 or high > 1:
        raise UserError(
            f"{what} must lie in [0, 1], got {low:g} to {high:g}; a normalisation belongs into the"
            " model"
        )


def samples_of(
    x: Modalities, y: Tensor, class_counts: Sequence[int], ids: Sequence[str] | None
) -> TensorSamples:
    """The samples that images and labels are.

    Args:
        y: (B,) of one task or (B, T); -1: not labelled.
        class_counts: classes of each task.
        ids: (B,) names of the samples; None: "0", "1", ...

    Raises:
        UserError: labels of another shape, or of a class that there is not; ids that are not one
            a sample.
    """
    n, tasks = len(x), len(class_counts)
    if not isinstance(y, Tensor):
        raise UserError(f"y must be a torch.Tensor of class numbers, got {type(y).__name__}")
    wanted = [(n,), (n, 1)] if tasks == 1 else [(n, tasks)]
    if tuple(y.shape) not in wanted:
        raise UserError(
            f"y must be of shape {wanted[0]}, a label for each of {n} samples and {tasks} tasks,"
            f" got {tuple(y.shape)}"
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UserError(f"y must hold whole numbers, the classes, got {y.dtype}")
    labels = y.detach().reshape(n, tasks).cpu().long()
    for t, classes in enumerate(class_counts):
        wrong = labels[:, t][(labels[:, t] < -1) | (labels[:, t] >= classes)]
        if len(wrong):
            raise UserError(
                f"y: label {int(wrong[0])} of task {t}, whose classes are 0 to {classes - 1}"
                " (-1: not labelled)"
            )
    names = tuple(map(str, range(n) if ids is None else ids))
    if len(names) != n or len(set(names)) != n:
        raise UserError(f"ids must be {n} different names, one a sample")
    images = tuple(m.detach().to("cpu", torch.float32, copy=True) for m in x.tensors)
    component = Component((), labels.numpy(), names, names)
    channels = tuple(m.shape[1] for m in images)
    return TensorSamples((component,), np.arange(n)[:, None], channels, images)


class Network(nn.Module):
    """A network of the user's as a victim: it returns one float32 tensor of logits a task, whatever
    the network's precision and the shape of what it returns.

    Args:
        network: `forward(*modalities)`, or by keyword; returns logits (B, classes), a tuple, list
            or mapping of them, or an object with `logits`.
        x: some images that it takes.

    Raises:
        UserError: a network that does not take them, or returns something else.
    """

    def __init__(self, network: nn.Module, x: Modalities) -> None:
        super().__init__()
        self.network = network
        self.names = x.names if x.by_name else ()
        self.dtypes = [m.dtype for m in x.tensors]
        self.n_modalities = len(x.names)
        self.stochastic = bool(getattr(network, "stochastic", False))
        self.shares_noise = bool(getattr(network, "shares_noise", False))
        if callable(getattr(network, "soft", None)):
            self.soft = network.soft
        self.register_forward_pre_hook(trial.Inputs())
        few = [m[:2].detach().float() for m in x.tensors]
        self.class_counts = self._tried(few, x)
        kinds = trial.found_kinds(self, few, len(self.class_counts))
        try:
            kinds = trial.declared_kinds(network, kinds) or kinds
        except ValueError as error:
            raise UserError(f"the model: {error}") from error
        self.register_forward_hook(trial.Outputs(kinds, kinds))

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        """Logits of each task."""
        given = [m.to(dtype) for m, dtype in zip(modalities, self.dtypes, strict=True)]
        if self.names:
            outputs = self.network(**dict(zip(self.names, given, strict=True)))
        else:
            outputs = self.network(*given)
        return tuple(z.float() for z in tasks_of(outputs))

    @torch.no_grad()
    def _tried(self, few: Sequence[Tensor], x: Modalities) -> tuple[int, ...]:
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
                f" ({x.device})"
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


def victim_of(network: nn.Module, x: Modalities) -> nn.Module:
    """The network itself where it keeps the contract of victims, as those of `load_model` do; else
    one around it.
    """
    if x.by_name or not hasattr(network, "class_counts"):
        return Network(network, x)
    if getattr(network, "n_modalities", len(x.names)) != len(x.names):
        raise UserError(f"the model takes {network.n_modalities} modalities, x has {len(x.names)}")
    return network


@contextlib.contextmanager
def left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Inside, a network is in evaluation mode and its parameters ask for no gradient; afterwards
    both are as before. What was set to training inside a network in evaluation mode stays so:
    somebody wants its dropout.

    Raises:
        UserError: it is no network.
    """
    if not isinstance(network, nn.Module):
        raise UserError(f"the model must be a torch.nn.Module, got {type(network).__name__}")
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    if network.training:
        network.eval()
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in wanted:
            parameter.requires_grad_(gradient)
