"""Tensors of the user's, from Python, as evaluations see them: checked and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustbench_med.data import Component
from robustbench_med.data.arrays import check_images
from robustbench_med.data.given import TensorSamples
from robustbench_med.errors import UserError

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
        check_images(f"x[{name if not by_name else repr(name)}]" if several else "x", images)
    tensors = tuple(named.values())
    if len({(len(images), images.device) for images in tensors}) > 1:
        said = ", ".join(f"{len(images)} on {images.device}" for images in tensors)
        raise UserError(f"the modalities of x must be of one batch on one device, got {said}")
    return Modalities(tuple(named), tensors, by_name)


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
