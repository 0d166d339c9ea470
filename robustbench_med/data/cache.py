"""Decoded images, once per data set, size and preprocessing: arrays on disk that training and
evaluation map batch by batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from robustbench_med.data.images import Mapped, Pixels
from robustbench_med.data.listing import Files, Listing
from robustbench_med.data.preprocessing import REVISION, ImageFile, Raw, Scale, prepare
from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError
from robustbench_med.formats.arrays import load_npy
from robustbench_med.formats.files import UnreadableError, data_of
from robustbench_med.formats.text import line
from robustbench_med.owners.lock import Lock
from robustbench_med.owners.temporary import temporary
from robustbench_med.paths import home, sweep, sync_folder, write_text
from robustbench_med.provenance.hashes import hashes_of, read_sealed, sealed

VERSION = 3
"""Raised with every change of the layout; `preprocessing.REVISION` with every change of decoding.
"""

CHUNK = 64
"""Samples decoded between two writes."""


@dataclass(frozen=True)
class Decoded:
    """A finished cache entry.

    Attributes:
        images: one array of all listed samples for each modality; rows of unreadable samples are
            black.
        digests: (M, n, 32) uint8, sha256 of each image's bytes on disk (of its pixels where it lies
            in an archive), and of the position of a slice.
        scales: (M, n, 3) float64, the fields of `preprocessing.Scale`.
        unreadable: reason by row.
        remarks: what must be known of how images were read, with the number of images.
    """

    images: tuple[Mapped, ...]
    digests: NDArray[np.uint8]
    scales: NDArray[np.float64]
    unreadable: dict[int, str]
    remarks: dict[str, int]


def decoded(listing: Listing, size: int, preprocessing: Preprocessing, files: Files) -> Decoded:
    """The decoded images of a listing, from the cache or made now, in parallel.

    An entry belongs to the bytes it was made of: files are hashed, as far as they are not the ones
    hashed before, and so are the arrays of the entry. Two processes that need the same entry do not
    both make it: one waits. What a killed process left, or what is damaged, is removed by the
    next.
    """
    digests = None if listing.content else file_digests(listing, files)
    folder = home() / "cache" / f"{listing.card.id}-{size}px"
    path = folder / key_of(listing, digests, size, preprocessing)[:16]
    entry = _open(path, listing)
    if entry is not None:
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        what = f"the decoded images of {listing.card.id}"
        with Lock(folder / f"{path.name}.lock").waited(files.say, what):
            entry = _open(path, listing)  # another process may have made it meanwhile
            if entry is not None:
                return entry
            if path.exists():
                files.say(
                    f"{listing.card.id}: the decoded images in {path} are damaged and are made"
                    " again"
                )
            sweep(folder)
            with temporary(path) as made:
                try:
                    made.mkdir()
                    _build(made, listing, digests, size, preprocessing, files)
                    shutil.rmtree(path, ignore_errors=True)
                    made.rename(path)
                    sync_folder(folder)
                finally:
                    shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot keep decoded images in {folder}: {error.strerror or error}; free some space or"
            " set MEDROBUST_HOME"
        ) from error
    entry = _open(path, listing)
    assert entry is not None
    return entry


def file_digests(listing: Listing, files: Files) -> NDArray[np.uint8]:
    """(M, n, 32), the digest of every listed file as it is on disk now; zeros where it cannot be
    read.
    """
    samples = list(listing.images())
    paths = list({raw.path: None for raws in samples for raw in raws if isinstance(raw, ImageFile)})
    with files.progress(f"checking {listing.card.id}") as tick:
        memory = memory_of(listing.card.id, listing.base)
        hashes = hashes_of(paths, memory, most="image_bytes", tick=tick)
    known = {path: bytes.fromhex(sha) for path, sha in zip(paths, hashes, strict=True)}
    joined = b"".join(
        digest_of(raw, known[raw.path])
        if isinstance(raw := raws[m], ImageFile)
        else hashlib.sha256(raw.tobytes()).digest()
        for m in range(len(listing.card.pictures))
        for raws in samples
    )
    return np.frombuffer(joined, np.uint8).reshape(len(listing.card.pictures), len(samples), 32)


def memory_of(name: str, base: Path, what: str = "") -> Path:
    """Where is remembered what was read out of the files of a data set in one folder: their hashes,
    or `what`.
    """
    place = hashlib.sha256(os.fsencode(base.resolve())).hexdigest()[:16]
    return home() / "cache" / "hashes" / f"{name}-{place}{what and f'-{what}'}.json"


def digest_of(raw: Raw, sha: bytes) -> bytes:
    """The digest of an image by the sha256 of its bytes: slices of one volume differ by their
    position. Zeros where there is none.
    """
    if not sha:
        return bytes(32)
    if not isinstance(raw, ImageFile) or raw.position is None:
        return sha
    return hashlib.sha256(sha + str(raw.position).encode()).digest()


def key_of(
    listing: Listing, digests: NDArray[np.uint8] | None, size: int, preprocessing: Preprocessing
) -> str:
    """Hash of everything the arrays depend on; `digests` of the files, None where the listing knows
    its content.
    """
    facts = {
        "version": VERSION,
        "decoder": REVISION,
        "ids": listing.ids,
        "content": (
            listing.content if digests is None else hashlib.sha256(digests.tobytes()).hexdigest()
        ),
        "modalities": [
            modality.model_dump(exclude={"name"}, exclude_defaults=True)
            for modality in listing.card.pictures
        ],
        "size": size,
        **preprocessing.model_dump(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Decoder:
    """What makes a sample's images out of its files, in any thread.

    Attributes:
        known: (M, n, 32) digests of the files, None where the listing knows its content.
        remarks: what must be known of how images were read; filled on the way.
    """

    listing: Listing
    known: NDArray[np.uint8] | None
    size: int
    preprocessing: Preprocessing
    remarks: list[str]

    def decode(
        self, raws: tuple[Raw, ...], row: int
    ) -> tuple[list[Pixels], list[bytes], list[Scale]] | str:
        """The images of a sample, their digests and scales, or why they cannot be read."""
        pixels, digests, scales = [], [], []
        try:
            for m, raw in enumerate(raws):
                if isinstance(raw, ImageFile):
                    data = data_of(raw.path, "image_bytes")
                else:
                    data = raw.tobytes()
                digest = digest_of(raw, hashlib.sha256(data).digest())
                if self.known is not None and digest != self.known[m, row].tobytes():
                    raise UserError(
                        f"{self.listing.ids[row]} changed while it was read; run the command again"
                        " when its file is complete"
                    )
                channels = self.listing.card.pictures[m].depth
                image, scale = prepare(
                    raw, data, channels, self.size, self.preprocessing, self.remarks.append
                )
                pixels.append(image)
                digests.append(digest)
                scales.append(scale)
        except UserError:
            raise
        except Exception as error:
            # Pillow, pydicom and nibabel have no common ancestor for a faulty file
            return line(f"{type(error).__name__}: {error}")
        return pixels, digests, scales


class ArrayFile:
    """An array of images on disk that is written one after another, and hashed on the way."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.name, self.shape = path.name, shape
        self.sha256 = hashlib.sha256()
        self.file = path.open("wb")
        header = io.BytesIO()
        npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self.write(header.getvalue())

    def write(self, data: bytes) -> None:
        """Adds bytes."""
        self.file.write(data)
        self.sha256.update(data)

    def sync(self) -> None:
        """What was written is on disk afterwards."""
        self.file.flush()
        os.fsync(self.file.fileno())


def _build(
    folder: Path,
    listing: Listing,
    known: NDArray[np.uint8] | None,
    size: int,
    preprocessing: Preprocessing,
    files: Files,
) -> None:
    """Fills the folder of an entry; `known`: digests of the files."""
    n, modalities = len(listing.ids), listing.card.pictures
    digests = np.zeros((len(modalities), n, 32), np.uint8) if known is None else known.copy()
    scales = np.full((len(modalities), n, len(Scale._fields)), np.nan)
    unreadable: dict[int, str] = {}
    decoder = Decoder(listing, known, size, preprocessing, [])
    with contextlib.ExitStack() as stack:
        arrays = []
        for m, modality in enumerate(modalities):
            array = ArrayFile(folder / f"images-{m}.npy", (n, modality.depth, size, size))
            stack.callback(array.file.close)
            arrays.append(array)
        tick = stack.enter_context(files.progress(f"decoding {listing.card.id} at {size} px"))
        pool = stack.enter_context(ThreadPoolExecutor(_workers()))
        row = 0
        for chunk in _chunks(listing.images()):
            for result in pool.map(decoder.decode, chunk, range(row, row + len(chunk))):
                if isinstance(result, str):
                    unreadable[row] = result
                    for array in arrays:
                        array.write(bytes(math.prod(array.shape[1:])))  # black
                else:
                    read = zip(arrays, *result, strict=True)
                    for m, (array, pixels, digest, scale) in enumerate(read):
                        array.write(pixels.tobytes())
                        digests[m, row] = np.frombuffer(digest, np.uint8)
                        scales[m, row] = scale
                row += 1
            tick(row, n, f"{len(unreadable)} unreadable" if unreadable else "")
        for array in arrays:
            array.sync()
    written = {array.name: array.sha256.hexdigest() for array in arrays}
    for name, facts in (("digests.npy", digests), ("scales.npy", scales)):
        np.save(folder / name, facts)
        written[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    index = {
        "sha256": written,
        "unreadable": {str(row): why for row, why in unreadable.items()},
        "remarks": Counter(decoder.remarks),
    }
    write_text(folder / "index.json", sealed(index))


def _workers() -> int | None:
    """Threads that decode: as many as this process may use."""
    return os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()


def _chunks(images: Iterator[tuple[Raw, ...]]) -> Iterator[list[tuple[Raw, ...]]]:
    while chunk := list(itertools.islice(images, CHUNK)):
        yield chunk


def _open(path: Path, listing: Listing) -> Decoded | None:
    """A finished entry; None where there is none or a file of it is not as it was written."""
    index = read_sealed(path / "index.json")
    if index is None:
        return None
    n, modalities = len(listing.ids), listing.card.pictures
    try:
        written = {str(name): str(sha256) for name, sha256 in index["sha256"].items()}
        files = [path / Path(name).name for name in written]
        if hashes_of(files, path / "checked.json") != list(written.values()):
            return None
        images = tuple(Mapped(path / f"images-{m}.npy", n) for m in range(len(modalities)))
        shapes = [(n, modality.depth) for modality in modalities]
        if [each.shape[:2] for each in images] != shapes:
            return None
        digests = load_npy(path / "digests.npy", "the digests")
        scales = load_npy(path / "scales.npy", "the scales")
        unreadable = {int(row): str(why) for row, why in index["unreadable"].items()}
        remarks = {str(text): int(times) for text, times in index["remarks"].items()}
    except (UnreadableError, AttributeError, KeyError, TypeError, ValueError):
        return None  # sealed, but not by this version
    return Decoded(images, digests, scales, unreadable, remarks)
