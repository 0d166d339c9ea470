"""Phantoms: a procedurally drawn, seeded stand-in for a paired MRI and X-ray study. Synthetic, and
labelled so everywhere.

MRI-like: a head on an exactly black background; the class is the lesion inside (none, solid,
ring-enhancing, five small ones). X-ray-like: two lungs behind ribs; the class is what one of them
shows (nothing, a nodule, a diffuse infiltrate). Position, size, pose, contrast, texture and noise
vary from image to image, so that no fixed pixel carries the class. The two classes of a sample are
independent.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

MRI_CLASSES = ("none", "solid", "ring", "multifocal")
XRAY_CLASSES = ("normal", "nodule", "infiltrate")
VERSION = 1
"""Raised with every change of the drawing, so that no checkpoint is taken for one trained on other
images.
"""

COUNTS = {"train": 2048, "val": 256, "test": 256}

Image = NDArray[np.float64]


def _grid(size: int) -> tuple[Image, Image]:
    """Pixel centres as (y, x) in [-1, 1]."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _ellipse(
    y: Image, x: Image, cy: float, cx: float, ry: float, rx: float, angle: float = 0.0
) -> Image:
    """A signed distance-like field: below 0 inside, about in units of the half image."""
    dy, dx = y - cy, x - cx
    u, v = np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy
    return (np.sqrt((u / rx) ** 2 + (v / ry) ** 2) - 1) * min(rx, ry)


def _soft(field: Image, size: int, softness: float = 1.0) -> Image:
    """1 inside, 0 outside, with an edge about `softness` pixels wide."""
    return np.clip(0.5 - field * size / 2 / softness, 0, 1)


def _texture(rng: np.random.Generator, size: int, scale: float) -> Image:
    """Smooth noise of unit standard deviation; `scale` is the correlation length in units of the
    half image.
    """
    noise = gaussian_filter(rng.standard_normal((size, size)), scale * size / 2, mode="wrap")
    return noise / noise.std()


def mri(label: int, rng: np.random.Generator, size: int) -> Image:
    """One MRI-like image (size, size) in [0, 1]; `label` indexes `MRI_CLASSES`."""
    y, x = _grid(size)
    cy, cx, angle = rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12), rng.uniform(-0.35, 0.35)
    ry, rx = rng.uniform(0.72, 0.82), rng.uniform(0.58, 0.68)
    head = _ellipse(y, x, cy, cx, ry, rx, angle)
    inside = _soft(head + 0.1, size)
    tissue = (
        rng.uniform(0.33, 0.45)
        + 0.035 * _texture(rng, size, 0.12)
        + 0.02 * _texture(rng, size, 0.04)
    )
    side = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.1, 0.14)
    ventricles = np.maximum(
        *(
            _soft(_ellipse(y, x, cy + s * side[1], cx + s * side[0], 0.22, 0.07, angle), size, 2)
            for s in (-1, 1)
        )
    )
    image = tissue * (1 - 0.6 * ventricles) * inside + rng.uniform(0.6, 0.75) * _soft(
        np.abs(head + 0.04) - 0.035, size
    )

    contrast = rng.uniform(0.45, 0.55)
    theta, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.3)
    ly, lx = cy + radius * np.sin(theta), cx + radius * np.cos(theta)
    if label == 1:
        r = rng.uniform(0.21, 0.28)
        image += contrast * _soft(
            _ellipse(y, x, ly, lx, r * rng.uniform(0.85, 1.15), r, rng.uniform(0, np.pi)), size, 1.5
        )
    elif label == 2:
        r = rng.uniform(0.25, 0.32)
        shape = _ellipse(y, x, ly, lx, r * rng.uniform(0.85, 1.15), r, rng.uniform(0, np.pi))
        image += contrast * _soft(np.abs(shape + 0.05) - 0.05, size, 1.5) - 0.3 * _soft(
            shape + 0.11, size, 1.5
        )
    elif label == 3:
        for t in theta + np.arange(5) * 2 * np.pi / 5 + rng.uniform(-0.3, 0.3, 5):
            r, far = rng.uniform(0.08, 0.11), rng.uniform(0.28, 0.42)
            image += contrast * _soft(
                _ellipse(y, x, cy + far * np.sin(t), cx + far * np.cos(t), r, r), size, 1.5
            )
    noisy = image + 0.02 * rng.standard_normal((size, size)) * (head < 0)
    return np.where(head < 0.02, np.clip(noisy, 0, 1), 0.0)


def xray(label: int, rng: np.random.Generator, size: int) -> Image:
    """One X-ray-like image (size, size) in [0, 1]; `label` indexes `XRAY_CLASSES`."""
    y, x = _grid(size)
    cy, cx = rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)
    body, air = rng.uniform(0.6, 0.76), rng.uniform(0.4, 0.52)
    lungs = []
    for s in (-1, 1):
        ry, rx = rng.uniform(0.6, 0.7), rng.uniform(0.28, 0.34)
        lungs.append(((cy, cx + s * rng.uniform(0.42, 0.48), ry, rx), s * rng.uniform(0.05, 0.2)))
    fields = [_ellipse(y, x, *geometry, angle) for geometry, angle in lungs]
    lung = np.maximum(*(_soft(field, size, 3) for field in fields))
    image = body + 0.02 * _texture(rng, size, 0.2) - air * lung
    phase, pitch, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(15, 19), rng.uniform(0.25, 0.4)
    ribs = np.clip(np.sin(pitch * (y + tilt * (np.abs(x - cx) - 0.4) ** 2) + phase), 0, 1) ** 2
    image += rng.uniform(0.03, 0.05) * ribs * lung
    heart = _soft(_ellipse(y, x, cy + 0.25, cx + rng.uniform(0.1, 0.18), 0.35, 0.28, 0.4), size, 4)
    image = np.maximum(image, (body - 0.03) * heart)

    sick = int(rng.integers(2))
    (ly, lx, ry, rx), _ = lungs[sick]
    py, px = ly + ry * rng.uniform(-0.55, 0.55), lx + rx * rng.uniform(-0.35, 0.35)
    if label == 1:
        r = rng.uniform(0.17, 0.23)
        image += rng.uniform(0.5, 0.6) * _soft(_ellipse(y, x, py, px, r, r), size, 2)
    elif label == 2:
        cloud = np.exp(
            -(((y - py) / rng.uniform(0.45, 0.55)) ** 2) - ((x - px) / rng.uniform(0.3, 0.36)) ** 2
        )
        image += rng.uniform(0.28, 0.34) * cloud * (0.5 + _texture(rng, size, 0.05)) * lung
    return np.clip(image + 0.02 * rng.standard_normal((size, size)), 0, 1)


def labels(split: str, *, seed: int = 0) -> NDArray[np.int64]:
    """Labels (n, 2) of one split, balanced in each task."""
    n, rng = COUNTS[split], np.random.default_rng([seed, list(COUNTS).index(split)])
    return np.stack(
        [rng.permutation(np.arange(n) % len(c)) for c in (MRI_CLASSES, XRAY_CLASSES)], 1
    )


class Studies:
    """All splits, train, val and test in a row; a study (both images) is drawn when it is first
    asked for, and kept.

    Attributes:
        labels: (n, 2).
        pixels: uint8 (2, n, 1, size, size): MRI-like, X-ray-like; black until drawn.
    """

    def __init__(self, *, size: int, seed: int = 0) -> None:
        self.size, self.seed = size, seed
        self.labels = np.concatenate([labels(split, seed=seed) for split in COUNTS])
        self.keys = [(s, i) for s, n in enumerate(COUNTS.values()) for i in range(n)]
        self.findings = self.labels
        """(n, 2), what each image shows."""
        self.pixels = np.zeros((2, len(self.keys), 1, size, size), np.uint8)
        self._drawn = np.zeros(len(self.keys), bool)

    def draw(self, rows: NDArray[np.int64]) -> None:
        """Draws those of the rows that are not drawn yet."""
        for row in np.unique(rows[~self._drawn[rows]]):
            rng = np.random.default_rng([self.seed, *self.keys[row]])
            for m, render in enumerate((mri, xray)):
                self.pixels[m, row, 0] = np.round(
                    render(int(self.findings[row, m]), rng, self.size) * 255
                )
            self._drawn[row] = True


@dataclass(frozen=True)
class Drawing:
    """The images of modality `modality` of some studies."""

    studies: Studies
    modality: int

    def __len__(self) -> int:
        return len(self.studies.keys)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        self.studies.draw(rows)
        return self.studies.pixels[self.modality, rows]


@functools.lru_cache(maxsize=2)
def studies(size: int) -> Studies:
    """The phantoms of one size, shared by all who load them."""
    return Studies(size=size)
