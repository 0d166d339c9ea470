"""Arrays, images, data sets and loaders of PyTorch, read as tensors by modality and labels by
task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler
from torch.utils.data import Dataset as TorchDataset

from robustbench_med.errors import UserError

FORMS = (
    "a Dataset of medrobust, (images, labels), a Dataset or DataLoader of PyTorch that gives them,"
    " or {'train': ..., 'val': ..., 'test': ...} of these"
)
Named = dict[str, Tensor]


def read_part(given: Any, part: str) -> tuple[Named, Named, bool]:
    """Images (n, C, H, W) by modality, labels (n,) by task, and whether the modalities have names.

    Args:
        given: (images, labels), or a Dataset or DataLoader of PyTorch that gives them.
        part: what it is: train, val or test.

    Raises:
        UserError: another object, other shapes or ranges.
    """
    what = f"the {part} part"
    if isinstance(given, DataLoader):
        if isinstance(given.sampler, RandomSampler):
            raise UserError(
                f"{what}: the DataLoader shuffles, so that its samples have no order; give"
                " shuffle=False, or its dataset"
            )
        given = _together([_pair(batch, what) for batch in _quietly(given)], what, torch.cat)
    elif isinstance(given, TorchDataset):
        given = _together(list(_items(given, what)), what, torch.stack)
    images, labels = _pair(given, what)
    by_name = isinstance(images, Mapping)
    tensors = {name: _images(x, f"images of {what}") for name, x in _modalities(images).items()}
    counts = {len(x) for x in tensors.values()}
    if len(counts) != 1:
        raise UserError(f"{what}: modalities of {', '.join(map(str, sorted(counts)))} images")
    return tensors, _labels(labels, counts.pop(), what), by_name


def _pair(given: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise UserError(f"{what} must be {FORMS}; got {_said(given)}")
    return given[0], given[1]


def _said(thing: Any) -> str:
    if isinstance(thing, tuple | list):
        return f"a {type(thing).__name__} of {len(thing)}"
    return type(thing).__name__


def _quietly(loader: DataLoader[Any]) -> Iterable[Any]:
    """Its batches, the global generator as it was: a loader draws a number when it begins."""
    with torch.random.fork_rng(devices=[]):
        return list(loader)


def _items(dataset: TorchDataset[Any], what: str) -> Iterable[Any]:
    if isinstance(dataset, IterableDataset):
        raise UserError(f"{what}: an IterableDataset cannot be read twice; give arrays")
    number = len(dataset)  # type: ignore[arg-type]
    if not number:
        raise UserError(f"{what}: the Dataset is empty")
    with torch.random.fork_rng(devices=[]):
        items = [_single(dataset[i], what) for i in range(number)]
        again = _single(dataset[0], what)
    for name, image in items[0][0].items():
        if not torch.equal(image, again[0][name]):
            raise UserError(
                f"{what}: the Dataset's first image is another one when it is read again; give a"
                " Dataset without random augmentation"
            )
    return items


def _single(item: Any, what: str) -> tuple[Named, Any]:
    """One sample's images (C, H, W) by modality, and its labels."""
    images, labels = _pair(item, what)
    single = images if isinstance(images, Mapping) else {"image": images}
    if isinstance(images, tuple | list):
        single = dict(zip(map(str, range(len(images))), images, strict=True))
    return {str(name): _one(x, f"an image of {what}") for name, x in single.items()}, labels


def _together(parts: Sequence[tuple[Any, Any]], what: str, join: Any) -> tuple[Any, Any]:
    """Samples or batches as one pair of images and labels."""
    try:
        first = _modalities(parts[0][0])
        columns = {
            name: join([torch.as_tensor(_modalities(x)[name]) for x, _ in parts]) for name in first
        }
        if isinstance(parts[0][1], Mapping):
            labels: Any = {
                task: np.concatenate([np.atleast_1d(np.asarray(y[task])) for _, y in parts])
                for task in parts[0][1]
            }
        else:
            rows = [np.asarray(y) for _, y in parts]
            labels = np.stack(rows) if join is torch.stack else np.concatenate(rows)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{what}: its samples cannot be put together: {error}") from error
    plain = list(columns) == ["image"] or all(name.isdigit() for name in columns)
    return (list(columns.values()) if plain else columns), labels


def _modalities(images: Any) -> dict[str, Any]:
    """Images by the name of their modality."""
    if isinstance(images, Mapping):
        return {str(name): x for name, x in images.items()}
    several = isinstance(images, tuple | list) and bool(images)
    if several and all(isinstance(x, list | tuple) or np.ndim(_bare(x)) == 4 for x in images):
        if len(images) == 1:
            return {"image": images[0]}
        return dict(zip(map(str, range(len(images))), images, strict=True))
    return {"image": images}


def _bare(x: Any) -> Any:
    """What NumPy can ask for its dimensions: no list of images."""
    return x if isinstance(x, Tensor | np.ndarray) else 0


def _one(image: Any, what: str) -> Tensor:
    """One image (C, H, W)."""
    if isinstance(image, Image.Image):
        grey = image.mode in ("1", "L", "I", "F", "I;16")
        if image.mode in ("I", "F", "I;16"):
            raise UserError(f"{what} is of mode {image.mode}; give 8 bits, or floats in [0, 1]")
        image = np.array(image.convert("L" if grey else "RGB"))
    tensor = torch.as_tensor(image)
    if tensor.dim() == 2:
        return tensor[None]
    last = tensor.dim() == 3 and tensor.shape[-1] in (1, 3) and tensor.shape[0] not in (1, 3)
    return (
        tensor.permute(2, 0, 1).contiguous() if last and not isinstance(image, Tensor) else tensor
    )


def _images(x: Any, what: str) -> Tensor:
    """Images (n, C, H, W) on the CPU, of 8 bits or float32 in [0, 1]."""
    if isinstance(x, list | tuple):
        singles = [_one(each, what) for each in x]
        if len({tuple(each.shape) for each in singles}) != 1:
            raise UserError(f"{what} are of several sizes, or none; bring them to one")
        tensor = torch.stack(singles)
    elif isinstance(x, Tensor | np.ndarray):
        if isinstance(x, np.ndarray) and x.dtype.kind not in "fu":
            raise UserError(f"{what} must be floats in [0, 1] or 8 bits, got {x.dtype}")
        tensor = torch.as_tensor(np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x)
        if tensor.dim() == 3:
            tensor = tensor[:, None]
        channels = tensor.shape[-1] in (1, 3) and tensor.shape[1] not in (1, 3)
        if tensor.dim() == 4 and channels and isinstance(x, np.ndarray):
            tensor = tensor.permute(0, 3, 1, 2)
    else:
        raise UserError(
            f"{what} must be a tensor, an array or a list of images, got {type(x).__name__}"
        )
    check_images(what, tensor, levels=True)
    kind = torch.uint8 if tensor.dtype == torch.uint8 else torch.float32
    return tensor.detach().to("cpu", kind, copy=True).contiguous()


def check_images(what: str, images: object, *, levels: bool = False) -> None:
    """Refuses (UserError) all but tensors (B, C, H, W) of floating-point numbers in [0, 1].

    Args:
        what: they are called.
        levels: whether 8 bits will do too.
    """
    if not isinstance(images, Tensor):
        raise UserError(f"{what} must be a torch.Tensor (B, C, H, W), got {type(images).__name__}")
    if images.dim() != 4 or not images.numel():
        raise UserError(f"{what} must be of shape (B, C, H, W), got {tuple(images.shape)}")
    if levels and images.dtype == torch.uint8:
        return
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


def _labels(labels: Any, n: int, what: str) -> Named:
    """Labels (n,) by task."""
    columns = labels if isinstance(labels, Mapping) else None
    if columns is None:
        table = _whole(labels, what)
        if table.dim() == 1:
            table = table[:, None]
        names = ["label"] if table.shape[-1] == 1 else [f"task {t}" for t in range(table.shape[-1])]
        columns = dict(zip(names, table.T, strict=True)) if table.dim() == 2 else {}
    tasks = {str(name): _whole(column, what).reshape(-1) for name, column in columns.items()}
    if not tasks or any(len(column) != n for column in tasks.values()):
        got = [len(c) for c in tasks.values()] if columns else tuple(np.shape(labels))
        raise UserError(
            f"labels of {what} must be of shape ({n},), or ({n}, T) of T tasks, got {got}"
        )
    return tasks


def _whole(labels: Any, what: str) -> Tensor:
    try:
        tensor = torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError) as error:
        raise UserError(f"labels of {what} must be whole numbers, the classes") from error
    if tensor.is_floating_point() or tensor.is_complex():
        raise UserError(
            f"labels of {what} must hold whole numbers, the classes, got {tensor.dtype}"
        )
    if not tensor.numel() or int(tensor.min()) < -1:
        raise UserError(f"labels of {what}: classes are 0, 1, ... (-1: not labelled)")
    return tensor.cpu().long()
