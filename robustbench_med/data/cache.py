"""Decoded images, once per data set, size and preprocessing: arrays on disk that training and evaluation map batch by batch."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import NDArray

from robustbench_med.data.images import Mapped, Pixels
from robustbench_med.data.preprocessing import ImageFile, Preprocessing, Raw, prepare
from robustbench_med.data.readers.listing import Files, Listing
from robustbench_med.errors import UserError
from robustbench_med.paths import home, write_text

VERSION = 1
"""Raised with every change of decoding or layout."""

CHUNK = 64
"""Samples decoded between two writes."""


@dataclass(frozen=True)
class Decoded:
    """A finished cache entry.

    Attributes:
        images: one array of all listed samples for each modality; rows of unreadable samples are black.
        digests: (M, n, 32) uint8, sha256 of each image's bytes on disk (of its pixels where it lies in an archive).
        unreadable: reason by row.
        remarks: what must be known of how images were read, with the number of images.
    """

    images: tuple[Mapped, ...]
    digests: NDArray[np.uint8]
    unreadable: dict[int, str]
    remarks: dict[str, int]


def decoded(listing: Listing, size: int, chosen: Preprocessing, files: Files) -> Decoded:
    """The decoded images of a listing, from the cache or made now, in parallel.

    Two processes that need the same entry do not both make it: one waits. What a killed process left is removed by the next.
    """
    folder = home() / "cache" / f"{listing.card.id}-{size}px"
    path = folder / key_of(listing, size, chosen)[:16]
    found = _open(path, listing)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{path.name}.lock"):
            found = _open(path, listing)  # another process may have made it meanwhile
            if found is not None:
                return found
            temporary = folder / f"{path.name}.tmp"
            for stale in (temporary, path):
                shutil.rmtree(stale, ignore_errors=True)
            temporary.mkdir()
            try:
                _build(temporary, listing, size, chosen, files)
                temporary.rename(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot keep decoded images in {folder}: {error.strerror or error}; free some space or set MEDROBUST_HOME"
        ) from error
    found = _open(path, listing)
    assert found is not None
    return found


def key_of(listing: Listing, size: int, chosen: Preprocessing) -> str:
    """Hash of everything the arrays depend on."""
    facts = {
        "version": VERSION,
        "ids": hashlib.sha256("\n".join(listing.ids).encode("utf-8", "surrogateescape")).hexdigest(),
        "state": listing.state,
        "modalities": [modality.model_dump(exclude={"name"}) for modality in listing.card.modalities],
        "size": size,
        **chosen.model_dump(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _build(folder: Path, listing: Listing, size: int, chosen: Preprocessing, files: Files) -> None:
    channels = [modality.channels for modality in listing.card.modalities]
    n = len(listing.ids)
    digests = np.zeros((len(channels), n, 32), np.uint8)
    unreadable: dict[int, str] = {}
    remarks: list[str] = []

    def work(raws: tuple[Raw, ...]) -> tuple[list[Pixels], list[bytes]] | str:
        pixels, hashes = [], []
        try:
            for raw, c in zip(raws, channels, strict=True):
                data = raw.path.read_bytes() if isinstance(raw, ImageFile) else raw.tobytes()
                mark = b"" if not isinstance(raw, ImageFile) or raw.position is None else str(raw.position).encode()
                pixels.append(prepare(raw, data, c, size, chosen, remarks.append))
                hashes.append(hashlib.sha256(data + mark).digest())
        except UserError:
            raise
        except Exception as error:  # Pillow, pydicom and nibabel have no common ancestor for a faulty file
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return pixels, hashes

    outputs = [(folder / f"images-{m}.npy").open("wb") for m in range(len(channels))]
    workers = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    try:
        for output, c in zip(outputs, channels, strict=True):
            npy.write_array_header_1_0(output, {"descr": "|u1", "fortran_order": False, "shape": (n, c, size, size)})
        with ThreadPoolExecutor(workers) as pool, files.progress(f"decoding {listing.card.id} at {size} px") as tick:
            row = 0
            for chunk in _chunks(listing.images()):
                for result in pool.map(work, chunk):
                    if isinstance(result, str):
                        unreadable[row] = result
                        result = [np.zeros((c, size, size), np.uint8) for c in channels], [bytes(32)] * len(channels)
                    for m, (output, pixels, digest) in enumerate(zip(outputs, *result, strict=True)):
                        output.write(pixels.tobytes())
                        digests[m, row] = np.frombuffer(digest, np.uint8)
                    row += 1
                tick(row, n, f"{len(unreadable)} unreadable" if unreadable else "")
        for output in outputs:
            output.flush()
            os.fsync(output.fileno())
    finally:
        for output in outputs:
            output.close()
    np.save(folder / "digests.npy", digests)
    index = {"samples": n, "unreadable": {str(row): why for row, why in unreadable.items()}, "remarks": Counter(remarks)}
    write_text(folder / "index.json", json.dumps(index))


def _chunks(images: Iterator[tuple[Raw, ...]]) -> Iterator[list[tuple[Raw, ...]]]:
    while chunk := list(itertools.islice(images, CHUNK)):
        yield chunk


def _open(path: Path, listing: Listing) -> Decoded | None:
    """A finished entry; None where there is none or it is damaged."""
    n = len(listing.ids)
    try:
        index: dict[str, Any] = json.loads((path / "index.json").read_text(encoding="utf-8"))
        arrays = [path / f"images-{m}.npy" for m in range(len(listing.card.modalities))]
        if index["samples"] != n or any(len(np.load(array, mmap_mode="r")) != n for array in arrays):
            return None
        digests, remarks = np.load(path / "digests.npy"), index["remarks"]
    except (OSError, ValueError, KeyError):
        return None
    unreadable = {int(row): why for row, why in index["unreadable"].items()}
    return Decoded(tuple(Mapped(array, n) for array in arrays), digests, unreadable, remarks)
