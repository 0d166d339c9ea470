"""Data that are handed over as objects: arrays, images, data sets and loaders of PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from robustbench_med.data.arrays import Named, read_part
from robustbench_med.data.pairing import Dataset
from robustbench_med.data.samples import Component, Samples
from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError

GIVEN: dict[str, Dataset] = {}
"""Data sets that are there as objects, by name."""
PARTS = ("train", "val", "test")


@dataclass(frozen=True, repr=False)
class TensorSamples(Samples):
    """Samples whose images are `tensors` on the CPU, of 8 bits or in [0, 1], in place of those of a
    component.
    """

    tensors: tuple[Tensor, ...] = ()

    @property
    def ids(self) -> list[str]:
        """As they were given."""
        return [self.components[0].ids[row] for row in self.index[:, 0]]

    @property
    def distinct(self) -> list[int]:
        """Number of images behind each modality."""
        return [len(self)] * len(self.tensors)

    def gather(self, index: NDArray[np.int64]) -> list[Tensor]:
        """As `batch`, for explicit rows (b, 1)."""
        rows = torch.from_numpy(index[:, 0])
        return [_unit(tensor[rows]) for tensor in self.tensors]


@dataclass(frozen=True, repr=False)
class GivenData(Dataset):
    """A data set made of arrays (`make_data`)."""

    sides: tuple[tuple[int, int], ...] = ()
    """(H, W) of each modality."""
    by_name: bool = False
    """Whether the modalities were given by name: networks get them by keyword."""
    inferred: bool = False
    """Whether nobody named the classes: there are those that the labels hold, or a model's."""

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of each modality."""
        return [(c, *sides) for c, sides in zip(self.channels, self.sides, strict=True)]

    def with_classes(self, counts: Sequence[int]) -> GivenData:
        """The same with so many classes a task, where nobody named them.

        Raises:
            UserError: another number of tasks, or labels of more classes.
        """
        if tuple(counts) == self.class_counts:
            return self
        said = f"the model has {_counted(counts)}, the data set {self.name!r}"
        if len(counts) != len(self.classes):
            raise UserError(f"{said} has labels of {_counted(self.class_counts)}")
        if not self.inferred or any(
            n < own for n, own in zip(counts, self.class_counts, strict=True)
        ):
            raise UserError(f"{said} {_counted(self.class_counts)}")
        return _identified(replace(self, classes=_numbered(counts)))


def make_data(
    images: Any,
    labels: Any = None,
    *,
    name: str = "data",
    classes: Sequence[Any] | None = None,
    ids: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
    train: Any = None,
    val: Any = None,
) -> GivenData:
    """A data set out of arrays, for every call that takes `data`.

    Args:
        images: the test images: an array or tensor (n, C, H, W) or (n, H, W), floats in [0, 1] or
            8 bits (NumPy: channels may come last); a list of PIL images or arrays; or a mapping
            from names of modalities to these, or a list of arrays (n, C, H, W), one a modality. Or,
            without `labels`: a Dataset or DataLoader of PyTorch that gives (images, label).
        labels: (n,), (n, T) of several tasks, or a mapping from names of tasks to (n,); -1: not
            labelled.
        name: what tables call it.
        classes: names of the classes, or of each task's; None: numbers.
        ids: (n,) names of the samples; None: their numbers.
        groups: (n,) the patient of each: intervals count patients.
        train, val: (images, labels), or what `images` may be without: to train and validate on.

    Returns:
        A data set whose identity is the content of the arrays; other kinds, shapes or ranges are a
        UserError.

    Example:
        >>> clinic = make_data(x, y, name="clinic", groups=patients)
        >>> evaluate(model, data=clinic)
    """
    given = {"test": images if labels is None else (images, labels), "train": train, "val": val}
    parts = {part: read_part(given[part], part) for part in PARTS if given[part] is not None}
    first, tasks, by_name = parts["test"]
    _check_parts(name, parts)
    named_classes = _classes(classes, [y for _, y, _ in parts.values()])
    splits: dict[str, Samples] = {}
    for part, (x, y, _) in parts.items():
        own = (ids, groups) if part == "test" else (None, None)
        splits[part] = _samples(x, y, named_classes, part, *own)
    sides = tuple((x.shape[2], x.shape[3]) for x in first.values())
    data = GivenData(
        name=name,
        splits=splits,
        modalities=tuple(first),
        channels=tuple(x.shape[1] for x in first.values()),
        tasks=tuple(tasks),
        classes=named_classes,
        size=max(max(pair) for pair in sides),
        references=(None,) * len(tasks),
        given=name,
        sides=sides,
        by_name=by_name,
        inferred=classes is None,
        **OF_FILES,
    )
    return _identified(data)


OF_FILES: dict[str, Any] = {
    "synthetic": False,
    "manifest_hash": "",
    "preprocessing": Preprocessing(),
    "notes": (),
    "content": "",
}
"""What a data set of files says besides."""


def _check_parts(name: str, parts: Mapping[str, tuple[Named, Named, bool]]) -> None:
    """Refuses a name that would be none, and parts of different kinds."""
    first, tasks, _ = parts["test"]
    shapes = {m: tuple(x.shape[1:]) for m, x in first.items()}
    for part, (others, named, _) in parts.items():
        if {m: tuple(x.shape[1:]) for m, x in others.items()} != shapes or [*named] != [*tasks]:
            raise UserError(f"{name}: the images or tasks of {part} are not like those of test")
    if "+" in name or not name:
        raise UserError(f"a data set cannot be called {name!r}: '+' joins names")


def data_of(thing: Any, name: str | None = None) -> Dataset:
    """The data set that an object is.

    Args:
        thing: see `arrays.FORMS`.
        name: what tables call it; None: its own name, or "data".

    Raises:
        UserError: another object.
    """
    if isinstance(thing, Dataset):
        return thing if name in (None, thing.name) else replace(thing, name=str(name))
    called = "data" if name is None else name
    if isinstance(thing, Mapping) and thing and set(thing) <= set(PARTS):
        if "test" not in thing:
            raise UserError(f"data {called!r}: 'test' is missing, the part that is attacked")
        return make_data(thing["test"], name=called, train=thing.get("train"), val=thing.get("val"))
    return make_data(thing, name=called)


def is_data(thing: Any) -> bool:
    """Whether an object is one data set, and no name and no list of some."""
    pair = isinstance(thing, tuple) and len(thing) == 2 and not isinstance(thing[0], str)
    parts = isinstance(thing, Mapping) and bool(thing) and set(thing) <= set(PARTS)
    return pair or parts or isinstance(thing, Dataset | TorchDataset | DataLoader)


def _samples(
    x: Named,
    y: Named,
    classes: Sequence[Sequence[str]],
    part: str,
    ids: Sequence[Any] | None,
    groups: Sequence[Any] | None,
) -> TensorSamples:
    labels = torch.stack(list(y.values()), 1)
    n = len(labels)
    for (task, column), names in zip(y.items(), classes, strict=True):
        if int(column.max()) < 0:
            raise UserError(f"{part}: no sample has a label of {task}")
        if int(column.max()) >= len(names):
            raise UserError(
                f"{part}: label {int(column.max())} of {task}, whose classes are 0 to"
                f" {len(names) - 1}"
            )
    named = tuple(map(str, range(n) if ids is None else ids))
    patients = named if groups is None else tuple(map(str, groups))
    if len(named) != n or len(set(named)) != n:
        raise UserError(f"ids must be {n} different names, one a sample")
    if len(patients) != n:
        raise UserError(f"groups must be {n} names, one a sample")
    findings = len(classes) > 2 and all(len(names) == 2 for names in classes)
    component = Component((), labels.numpy(), named, patients, multilabel=findings)
    channels = tuple(m.shape[1] for m in x.values())
    return TensorSamples((component,), np.arange(n)[:, None], channels, tuple(x.values()))


def _classes(classes: Sequence[Any] | None, labels: Sequence[Named]) -> tuple[tuple[str, ...], ...]:
    """The names of each task's classes: numbers up to the largest label where nobody named them."""
    tasks = len(labels[0])
    if classes is None:
        highest = [max(int(y[t].max()) for y in labels) for t in labels[0]]
        return _numbered([max(label + 1, 2) for label in highest])
    flat = all(isinstance(name, str | int) for name in classes)
    by_task = [classes] if flat else classes
    named = tuple(tuple(map(str, names)) for names in by_task)
    if len(named) != tasks or any(len(names) < 2 for names in named):
        raise UserError(f"classes must be two names or more of each of {tasks} tasks")
    return named


def _numbered(counts: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(str, range(n))) for n in counts)


def _counted(counts: Sequence[int]) -> str:
    if len(counts) == 1:
        return f"{counts[0]} classes"
    return f"{len(counts)} tasks of {', '.join(map(str, counts))} classes"


def _identified(data: GivenData) -> GivenData:
    """The same with the hash of everything in it."""
    sha256 = hashlib.sha256(repr((data.modalities, data.tasks, data.classes)).encode())
    for part, samples in sorted(data.splits.items()):
        assert isinstance(samples, TensorSamples)
        (component,) = samples.components
        sha256.update(repr((part, component.ids, component.groups)).encode())
        sha256.update(component.labels.tobytes())
        for tensor in samples.tensors:
            sha256.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
            sha256.update(tensor.numpy().tobytes())
    return replace(data, manifest_hash=sha256.hexdigest(), content=sha256.hexdigest())


def _unit(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
