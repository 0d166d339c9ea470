"""Readers: published archives to decoded images with stable ids, labels, groups and published splits.

Grey scale stays one channel; palette, CMYK and alpha images become RGB or grey as the card says; EXIF rotation is applied;
16-bit images are scaled to 8 bits by their full range. Images are resized to a square with antialiasing (Pillow, bilinear).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from robustbench_med.data import phantoms
from robustbench_med.data.images import Images, Pixels
from robustbench_med.data.registry import Card, FolderReader, MedMNISTReader, PhantomReader
from robustbench_med.errors import UserError
from robustbench_med.paths import home

SPLITS = ("train", "val", "test")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """One data set as read: n samples of M modalities and T tasks.

    Attributes:
        ids: stable, path-like, unique.
        images: of each modality, n images (C_m, size, size).
        labels: (n, T), -1 where a task is not labelled.
        groups: the unit that must not straddle splits (patient, lesion); the id itself where the set has none.
        published: "train", "val" or "test" of the published split, "" where there is none.
        content: what the files are, so that a manifest tells two versions of a set apart.
        notes: what a reader of the results must know (unverified file, unreadable images, counts that differ).
    """

    card: Card
    ids: tuple[str, ...]
    images: tuple[Images, ...]
    labels: Labels
    groups: tuple[str, ...]
    published: tuple[str, ...]
    content: str
    notes: tuple[str, ...] = ()


def read(card: Card, *, size: int, data_root: Path | None, accept_unverified: bool, strict: bool, say: Callable[[str], None]) -> Source:
    """Reads a whole data set at `size` x `size` pixels, downloading it first where it is open and absent."""
    if isinstance(card.reader, PhantomReader):
        return _read_phantoms(card, size)
    if isinstance(card.reader, MedMNISTReader):
        return _read_medmnist(card, card.reader, size, data_root, accept_unverified, say)
    return _read_folders(card, card.reader, size, data_root, strict)


def roots(data_root: Path | None) -> list[Path]:
    """Where data sets are looked for: the folder the user names, or medrobust's own."""
    if data_root is None:
        return [home() / "data"]
    if not data_root.is_dir():
        raise UserError(f"the data root {data_root} is not a folder; --data-root names the folder that holds the data sets")
    return [data_root, home() / "data"]


def to_uint8(image: Image.Image, channels: int) -> Image.Image:
    """Any Pillow image to 8-bit grey (channels=1) or RGB (3), EXIF rotation applied."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (float(values.min()), float(values.max()))
        image = Image.fromarray(np.round((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "CMYK"):
        image = image.convert("RGB" if image.mode != "LA" else "L")
    return image.convert("L" if channels == 1 else "RGB")


def resize(image: Image.Image, size: int) -> Pixels:
    """(C, size, size) uint8; antialiased when it shrinks."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image, np.uint8)
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


def _read_phantoms(card: Card, size: int) -> Source:
    studies = phantoms.studies(size)
    published = tuple(SPLITS[split] for split, _ in studies.keys)
    sample_ids = tuple(f"{card.id}/{SPLITS[split]}/{i:05d}" for split, i in studies.keys)
    images = tuple(phantoms.Drawing(studies, m) for m in (0, 1))
    return Source(card, sample_ids, images, studies.labels, sample_ids, published, f"drawing {phantoms.VERSION}")


# --- MedMNIST ----------------------------------------------------------------------------------------------------------------


def _read_medmnist(
    card: Card, reader: MedMNISTReader, size: int, data_root: Path | None, accept_unverified: bool, say: Callable[[str], None]
) -> Source:
    from medmnist.info import INFO

    if reader.flag not in INFO:
        raise UserError(f"card {card.id}: {reader.flag!r} is not a flag of medmnist.INFO")
    info = INFO[reader.flag]
    path, published_md5 = _medmnist_file(card, reader.flag, info, size, data_root, say)
    notes = []
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != published_md5:
        problem = f"{path.name} has md5 {found}, MedMNIST publishes {published_md5}"
        if not accept_unverified:
            raise UserError(f"{path}: {problem}; delete the file to download it again, or pass --accept-unverified to use it")
        notes.append(f"unverified: {problem}")
    arrays = _load_npz(path)
    ids: list[str] = []
    published: list[str] = []
    pixels, labels = [], []
    classes = len(card.tasks[0].classes)
    channels = card.modalities[0].channels
    for split in SPLITS:
        images, targets = arrays[f"{split}_images"], np.asarray(arrays[f"{split}_labels"])
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(targets) != len(images):
            raise UserError(f"{path}: {split}_images must be uint8 (n, h, w[, 3]) with as many {split}_labels, got {images.shape}")
        targets = targets.reshape(len(targets), -1)
        if targets.shape[1] != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise UserError(f"{path}: {split}_labels must be one whole number an image, got shape {targets.shape} of {targets.dtype}")
        if len(targets) and (int(targets.min()) < 0 or int(targets.max()) >= classes):
            raise UserError(f"{path}: {split}_labels hold {targets.min()}..{targets.max()}, {card.id} has classes 0..{classes - 1}")
        pixels += [resize(to_uint8(Image.fromarray(image), channels), size) for image in images]
        labels.append(targets[:, 0].astype(np.int64))
        ids += [f"{card.id}/{split}/{i:06d}" for i in range(len(images))]
        published += [split] * len(images)
    notes += _count_notes(card, published)
    all_labels = np.concatenate(labels)[:, None]
    return Source(card, tuple(ids), (np.stack(pixels),), all_labels, tuple(ids), tuple(published), f"md5 {found}", tuple(notes))


RESOLUTIONS = {28: "", 64: "_64", 128: "_128", 224: "_224"}
"""MedMNIST's published sizes and the suffix of their files and of their entries in `medmnist.INFO`."""


def _medmnist_file(
    card: Card, flag: str, info: dict[str, Any], size: int, data_root: Path | None, say: Callable[[str], None]
) -> tuple[Path, str]:
    """The best file on disk, else a download: the smallest published resolution that is not below `size`."""
    found = find_medmnist(card, flag, size, data_root)
    if found is not None:
        return found[0], info[f"MD5{found[1]}"]
    suffix = _preferred(size)[0]
    if data_root is not None:
        raise UserError(f"{data_root} holds no {flag}.npz for the data set {card.id}; leave --data-root out to download it")
    return _download(info[f"url{suffix}"], f"{flag}{suffix}.npz", info[f"MD5{suffix}"], say), info[f"MD5{suffix}"]


def find_medmnist(card: Card, flag: str, size: int, data_root: Path | None) -> tuple[Path, str] | None:
    """The file on disk that suits a size best, with the suffix of its resolution: in the data root or `~/.medmnist`."""
    folders = [folder for root in roots(data_root) for folder in (root, root / card.id)] + [Path.home() / ".medmnist"]
    for suffix in _preferred(size):
        for folder in folders:
            if (folder / f"{flag}{suffix}.npz").is_file():
                return folder / f"{flag}{suffix}.npz", suffix
    return None


def _preferred(size: int) -> list[str]:
    """Suffixes of MedMNIST's resolutions, best first: the smallest that is not below `size`."""
    return [RESOLUTIONS[r] for r in sorted(RESOLUTIONS, key=lambda r: (r < size, abs(r - size)))]


def _download(url: str, name: str, md5: str, say: Callable[[str], None]) -> Path:
    import pooch

    say(f"downloading {name} from {url}")
    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", fname=name, path=home() / "data"))
    except Exception as error:  # requests, urllib3 and pooch have no common ancestor
        raise UserError(
            f"cannot download {name} from {url} ({type(error).__name__}); put the file into {home() / 'data'} or name its folder "
            "with --data-root"
        ) from error


def _load_npz(path: Path) -> dict[str, NDArray[Any]]:
    keys = [f"{split}_{what}" for split in SPLITS for what in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive.files]
            if missing:
                raise UserError(f"{path} lacks the arrays {', '.join(missing)}; is it a MedMNIST file?")
            return {key: archive[key] for key in keys}
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise UserError(f"{path} is not a readable npz (truncated?): {error}; delete it and download it again") from error


# --- class folders -----------------------------------------------------------------------------------------------------------


def _read_folders(card: Card, reader: FolderReader, size: int, data_root: Path | None, strict: bool) -> Source:
    base = _folder_of(card, reader, data_root)
    channels = card.modalities[0].channels
    ids: list[str] = []
    labels: list[int] = []
    published: list[str] = []
    pixels: list[Pixels] = []
    unreadable: list[str] = []
    content = hashlib.sha256()
    for split, label, path in _listing(card, reader, base):
        try:
            data = path.read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                pixels.append(resize(to_uint8(image, channels), size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            if strict:
                raise UserError(f"{path} cannot be read ({error}); mend or delete it, or leave --strict out to skip it") from error
            unreadable.append(path.relative_to(base).as_posix())
            continue
        content.update(hashlib.sha256(data).digest())
        ids.append(f"{card.id}/{path.relative_to(base).as_posix()}")
        labels.append(label)
        published.append(split)
    if not ids:
        raise UserError(f"{base} holds no readable image of {card.id}")
    notes = _count_notes(card, published)
    if unreadable:
        notes.append(f"{len(unreadable)} unreadable images skipped: {', '.join(unreadable[:5])}{', ...' if len(unreadable) > 5 else ''}")
    label_array = np.array(labels, np.int64)[:, None]
    return Source(card, tuple(ids), (np.stack(pixels),), label_array, tuple(ids), tuple(published), content.hexdigest(), tuple(notes))


def _folder_of(card: Card, reader: FolderReader, data_root: Path | None) -> Path:
    found = find_folder(card, reader, data_root)
    if found is None:
        raise UserError(
            f"{card.id} is not on disk: {roots(data_root)[0] / card.id} should hold the folders {', '.join(top_folders(card, reader))}; "
            f"get it from {card.url} ({card.access}), then name its parent with --data-root"
        )
    return found


def find_folder(card: Card, reader: FolderReader, data_root: Path | None) -> Path | None:
    """The folder that holds the card's split or class folders: <root>/<id>, or the root itself."""
    for folder in [folder for root in roots(data_root) for folder in (root / card.id, root)]:
        if all((folder / name).is_dir() for name in top_folders(card, reader)):
            return folder
    return None


def top_folders(card: Card, reader: FolderReader) -> list[str]:
    """The folders that must be there: one a published split, else one a class."""
    return list(reader.splits.values()) or [reader.folders.get(c, c) for c in card.tasks[0].classes]


def _listing(card: Card, reader: FolderReader, base: Path) -> Iterable[tuple[str, int, Path]]:
    """(published split, label, path) in an order that depends on names alone."""
    for split, folder in reader.splits.items() or [("", "")]:
        for label, name in enumerate(card.tasks[0].classes):
            class_folder = base / folder / reader.folders.get(name, name)
            if not class_folder.is_dir():
                raise UserError(f"{card.id}: the class folder {class_folder} is missing")
            paths = [path for path in class_folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
            for path in sorted(paths, key=lambda path: _natural(path.name)):
                yield split, label, path


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key with numbers by value: image(2) before image(10)."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _count_notes(card: Card, published: Sequence[str]) -> list[str]:
    """A note for every split whose number of images is not the card's."""
    found = {split: published.count(split) for split in card.counts} if any(published) else {"total": len(published)}
    return [
        f"{card.id} {split}: {found[split]} images, published {expected}"
        for split, expected in card.counts.items()
        if split in found and found[split] != expected
    ]
