"""MedMNIST's npz files, read from the archive piece by piece: the largest are bigger than
memory.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data import cards
from robustbench_med.data.cards import (
    RESOLUTIONS,
    Card,
    MedMNISTFile,
    MedMNISTReader,
    Resolution,
)
from robustbench_med.data.fetch import download, md5_of
from robustbench_med.data.images import Pixels
from robustbench_med.data.listing import SPLITS, Files, Listing
from robustbench_med.data.readers.files import roots
from robustbench_med.errors import UserError
from robustbench_med.formats.archives import check_ratio, opened
from robustbench_med.formats.arrays import array_of, header
from robustbench_med.formats.files import door
from robustbench_med.formats.images import check_pixels
from robustbench_med.paths import home, own_folder

WHAT = "the npz file"


def list_medmnist(card: Card, reader: MedMNISTReader, size: int, files: Files) -> Listing:
    """The samples of the npz that suits a size, in the published order; downloaded first where it
    is absent.
    """
    found = find_medmnist(card, reader, size, files.data_root)
    if found is None:
        if files.data_root is not None:
            raise UserError(
                f"{files.data_root} holds no {reader.flag}.npz for the data set {card.id}; leave"
                " --data-root out to download it"
            )
        found = fetch_medmnist(card, reader, size, files), preferred(size)[0]
    path, resolution = found
    md5, published_md5 = md5_of(path), published_files(card, reader)[resolution].md5
    notes, unverified = [], md5 != published_md5
    if unverified:
        problem = f"{path.name} has md5 {md5}, MedMNIST publishes {published_md5}"
        if not files.accept_unverified:
            raise UserError(
                f"{path}: {problem}; delete the file to download it again, or pass"
                " --accept-unverified to use it"
            )
        notes.append(f"unverified: {problem}")
    labels, counts = _labels(card, path)
    return Listing(
        card,
        path,
        ids := tuple(
            f"{card.id}/{split}/{i:06d}" for split in SPLITS for i in range(counts[split])
        ),
        labels,
        ids,
        tuple(split for split in SPLITS for _ in range(counts[split])),
        lambda: _images(path),
        f"md5 {md5}",
        tuple(notes),
        unverified,
    )


def published_files(card: Card, reader: MedMNISTReader) -> Mapping[Resolution, MedMNISTFile]:
    """The files that the card names, or else those that the shipped card of its flag names."""
    if reader.files:
        return reader.files
    shipped = cards.card(reader.flag).reader if reader.flag in cards.ids() else None
    if not isinstance(shipped, MedMNISTReader):
        raise UserError(
            f"card {card.id}: no shipped card bears the flag {reader.flag!r}, so the reader must"
            " name its `files`: url and md5 of each resolution"
        )
    return shipped.files


def fetch_medmnist(card: Card, reader: MedMNISTReader, size: int, files: Files) -> Path:
    """Downloads the smallest published resolution that is not below `size`."""
    resolution = preferred(size)[0]
    published = published_files(card, reader)[resolution]
    target = home() / "data" / file_name(reader, resolution)
    return download(published.url, target, published.md5, files)


def find_medmnist(
    card: Card, reader: MedMNISTReader, size: int, data_root: Path | None
) -> tuple[Path, Resolution] | None:
    """The file on disk that suits a size best, with its resolution: in the data root or
    `~/.medmnist`.
    """
    folders = [folder for root in roots(data_root) for folder in (root, root / card.id)]
    if (own := own_folder()) is not None:
        folders.append(own / ".medmnist")
    for resolution in preferred(size):
        for folder in folders:
            path = folder / file_name(reader, resolution)
            if path.is_file():
                return path, resolution
    return None


def preferred(size: int) -> list[Resolution]:
    """MedMNIST's resolutions, best first: the smallest that is not below `size`."""
    return sorted(RESOLUTIONS, key=lambda each: (each < size, abs(each - size)))


def file_name(reader: MedMNISTReader, resolution: Resolution) -> str:
    """As MedMNIST names its files: the smallest resolution goes without saying."""
    return f"{reader.flag}{'' if resolution == 28 else f'_{resolution}'}.npz"


def _labels(card: Card, path: Path) -> tuple[NDArray[np.int64], dict[str, int]]:
    """All labels (n, T), of one task flat or in a column, and the number of images of each split;
    arrays that do not fit are a UserError.
    """
    arrays = []
    counts = {}
    classes = min(len(task.classes) for task in card.tasks)
    for split in SPLITS:
        with opened(path, WHAT) as archive:
            lacks = [
                name
                for name in (f"{split}_images", f"{split}_labels")
                if f"{name}.npy" not in archive.namelist()
            ]
            if lacks:
                raise UserError(f"{path} lacks the arrays {lacks[0]}; is it a MedMNIST file?")
            targets, (shape, dtype) = _labels_of(archive, split), _header(archive, split)
        drawn = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
        if dtype != np.uint8 or not drawn or targets.shape[:1] != shape[:1]:
            raise UserError(
                f"{path}: {split}_images must be uint8 (n, h, w[, 3]) with as many {split}_labels,"
                f" got {shape}"
            )
        if not math.prod(shape):
            raise UserError(
                f"{path}: the published {split} part is empty, {split}_images holds no image"
            )
        targets = targets.reshape(len(targets), -1)
        if targets.shape[1] != len(card.tasks) or not np.issubdtype(targets.dtype, np.integer):
            wanted = "one whole number" if len(card.tasks) == 1 else f"{len(card.tasks)} numbers"
            raise UserError(
                f"{path}: {split}_labels must be {wanted} an image, got shape"
                f" {targets.shape} of {targets.dtype}"
            )
        if int(targets.min()) < 0 or int(targets.max()) >= classes:
            raise UserError(
                f"{path}: {split}_labels hold {targets.min()}..{targets.max()}, {card.id} has"
                f" classes 0..{classes - 1}"
            )
        arrays.append(targets.astype(np.int64))
        counts[split] = shape[0]
    return np.concatenate(arrays), counts


def _images(path: Path) -> Iterator[tuple[Pixels]]:
    """Every image (h, w[, 3]), split after split, with one in memory at a time."""
    for split in SPLITS:
        with opened(path, WHAT) as archive, archive.open(f"{split}_images.npy") as file:
            shape, _ = header(file, f"{split}_images", in_c_order=True)
            for _ in range(shape[0]):
                with door(WHAT, path):
                    data = file.read(math.prod(shape[1:]))
                    image = np.frombuffer(data, np.uint8).reshape(shape[1:])
                yield (image,)


def _labels_of(archive: zipfile.ZipFile, split: str) -> NDArray[Any]:
    return array_of(archive, archive.getinfo(f"{split}_labels.npy"))


def _header(archive: zipfile.ZipFile, split: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the images of a split; ValueError where they cannot be images, or unpack to
    more than they can.
    """
    about = archive.getinfo(f"{split}_images.npy")
    check_ratio(about)
    with archive.open(about) as file:
        shape, dtype = header(file, about.filename, in_c_order=True)
    if len(shape) in (3, 4):
        check_pixels(shape[2], shape[1])
    if math.prod(shape) * dtype.itemsize > about.file_size:
        raise ValueError(f"{about.filename} ends early")
    return shape, dtype
