"""Twins: images that are in a set twice, byte for byte or to the eye."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from robustbench_med.data.images import Images

SIDE = 32
"""Pixels of the thumbnails that are compared."""
BITS = 6
"""Largest Hamming distance of two 64-bit perceptual hashes that is looked into."""
CORRELATION = 0.99
"""Smallest Pearson correlation of two thumbnails that counts as the same picture: other slices of one head stay below it."""
CHUNK = 1024

Pairs = NDArray[np.int64]


def copies(digests: Sequence[str], part: Sequence[str]) -> Pairs:
    """(k, 2) rows with equal digests: each image with the first of its kind in every part, so that k stays linear."""
    first: dict[str, dict[str, int]] = {}
    for row, (digest, split) in enumerate(zip(digests, part, strict=True)):
        first.setdefault(digest, {}).setdefault(split, row)
    pairs = {tuple(sorted((row, other))) for row, digest in enumerate(digests) for other in first[digest].values() if other != row}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def look_alikes(images: Images, tick: Callable[[int], None]) -> Pairs:
    """(k, 2) rows i < j of images that look the same: perceptual hashes within `BITS`, thumbnails correlated by `CORRELATION`.

    Rescaled, recompressed and brightened copies are found; rotated, mirrored and cropped ones are not. Quadratic in time,
    linear in memory.

    Args:
        images: uint8, at least `SIDE` pixels wide or scaled to that.
        tick: called with the number of images that one step has compared to all after them.
    """
    n = len(images)
    thumbnails = np.empty((n, SIDE * SIDE), np.float32)
    hashes = np.empty(n, np.uint64)
    for rows in _steps(n):
        grey = images[rows].mean(1, dtype=np.float32)
        hashes[rows], flat = perceptual_hash(grey), grey.reshape(len(rows), -1)
        flat = flat - flat.mean(1, keepdims=True)
        thumbnails[rows] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    found = []
    for rows in _steps(n):
        for others in _steps(n, int(rows[0])):
            near = np.argwhere(np.bitwise_count(hashes[rows, None] ^ hashes[None, others]) <= BITS)
            i, j = rows[near[:, 0]], others[near[:, 1]]
            i, j = i[i < j], j[i < j]
            same = np.einsum("nd,nd->n", thumbnails[i], thumbnails[j]) >= CORRELATION
            found.append(np.stack([i[same], j[same]], 1))
        tick(len(rows))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def perceptual_hash(grey: NDArray[np.float32]) -> NDArray[np.uint64]:
    """64-bit pHash of (n, SIDE, SIDE): which of the 8 x 8 lowest DCT coefficients lie above their median."""
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(grey), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _steps(n: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
    for first in range(start, n, CHUNK):
        yield np.arange(first, min(first + CHUNK, n))
