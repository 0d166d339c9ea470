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
"""Smallest Pearson correlation of two thumbnails that counts as the same picture: other slices of
one head stay below it.
"""
CHUNK = 1024
"""Thumbnails handled at once."""
BLOCK = (16, 4096)
"""Hashes compared at once: their differences fit a core's cache."""

Pairs = NDArray[np.int64]


def copies(digests: Sequence[str], part: Sequence[str]) -> Pairs:
    """(k, 2) rows with equal digests: each image with the first of its kind in every part, so that
    k stays linear.
    """
    first: dict[str, dict[str, int]] = {}
    for row, (digest, split) in enumerate(zip(digests, part, strict=True)):
        first.setdefault(digest, {}).setdefault(split, row)
    pairs = {
        tuple(sorted((row, other)))
        for row, digest in enumerate(digests)
        for other in first[digest].values()
        if other != row
    }
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def look_alikes(images: Images, kind: NDArray[np.int64], tick: Callable[[int], None]) -> Pairs:
    """(k, 2) rows i < j of images that look the same: perceptual hashes within `BITS`, thumbnails
    correlated by `CORRELATION`.

    Rescaled, recompressed and brightened copies are found; rotated, mirrored and cropped ones are
    not. Of many images that all look the same not every pair is named, but for each image one twin
    of every kind it has. Time is quadratic (half a minute for 100,000 images), memory linear: 2 KiB
    an image.

    Args:
        images: uint8, `SIDE` pixels wide.
        kind: (n,) small numbers: images of one part and label share one.
        tick: called with the number of images that one step has compared to all after them.
    """
    n, kinds = len(images), int(kind.max(initial=0)) + 1
    sums = np.empty((n, SIDE * SIDE), np.uint16)  # over channels: grey levels without rounding
    hashes = np.empty(n, np.uint64)
    for first in range(0, n, CHUNK):
        pixels = images[np.arange(first, min(first + CHUNK, n))]
        summed = pixels.sum(1, dtype=np.uint16)
        sums[first : first + CHUNK] = summed.reshape(len(summed), -1)
        hashes[first : first + CHUNK] = perceptual_hash(summed.astype(np.float32) / pixels.shape[1])
    named = np.zeros((n, kinds), bool)
    pairs = [np.empty((0, 2), np.int64)]
    for i, j in _near(hashes, tick):
        new = ~(named[i, kind[j]] & named[j, kind[i]])
        i, j = i[new], j[new]
        same = _correlation(sums[i], sums[j]) >= CORRELATION
        i, j = i[same], j[same]
        firsts = [np.unique(a * kinds + kind[b], return_index=True)[1] for a, b in ((i, j), (j, i))]
        kept = np.union1d(*firsts)
        named[i, kind[j]] = named[j, kind[i]] = True
        pairs.append(np.stack([i[kept], j[kept]], 1))
    return np.concatenate(pairs)


def _near(
    hashes: NDArray[np.uint64], tick: Callable[[int], None]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows i < j whose hashes differ in at most `BITS` bits, at most `CHUNK` at a time."""
    rows, columns = BLOCK
    different = np.empty(BLOCK, np.uint64)
    count = np.empty(BLOCK, np.uint8)
    for top in range(0, len(hashes), rows):
        some = hashes[top : top + rows, None]
        for left in range(top, len(hashes), columns):
            others = hashes[None, left : left + columns]
            block = np.bitwise_xor(some, others, out=different[: some.shape[0], : others.shape[1]])
            close = np.bitwise_count(block, out=count[: some.shape[0], : others.shape[1]]) <= BITS
            i, j = np.nonzero(close)
            i, j = i + top, j + left
            i, j = i[i < j], j[i < j]
            for start in range(0, len(i), CHUNK):
                yield i[start : start + CHUNK], j[start : start + CHUNK]
        tick(some.shape[0])


def _correlation(a: NDArray[np.uint16], b: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Pearson correlation of the rows of two (k, d); 0 for a constant one."""
    x, y = (v.astype(np.float32) for v in (a, b))
    x -= x.mean(1, keepdims=True)
    y -= y.mean(1, keepdims=True)
    scale = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray(np.einsum("nd,nd->n", x, y) / np.maximum(scale, 1e-6), np.float32)


def perceptual_hash(grey: NDArray[np.float32]) -> NDArray[np.uint64]:
    """64-bit pHash of (n, SIDE, SIDE): which of the 8 x 8 lowest DCT coefficients lie above their
    median.
    """
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(grey), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]
