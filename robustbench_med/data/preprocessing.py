"""From a file to the pixels a model sees: 8 bits, grey or RGB, a square.

Bits. 8-bit images stay as they are. 16-bit images are scaled by their full range, 32-bit ones by
their own extremes. DICOM is rescaled, windowed (by the card, else by its first VOI look-up table or
window, else by its stored bits) and MONOCHROME1 inverted. NIfTI is windowed by the card, else by
the volume's percentiles. A pixel that is no number becomes black, an image of nothing else is
unreadable. Colour. Palettes, YBR and CMYK become RGB, alpha is dropped, RGB becomes luma where the
card says grey. EXIF rotation is applied. Frames. Of a multi-page TIFF or animation the first; of a
multi-frame DICOM the middle one. Square. `fit` says how; what keeps the aspect keeps that of the
body, where a pixel is no square. Shrinking is antialiased (Pillow, bilinear).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from robustbench_med.data.cards import Window
from robustbench_med.data.images import Pixels
from robustbench_med.data.scans import Picture, is_dicom, numbers, read_dicom, read_nifti, stretched
from robustbench_med.dataspec import Preprocessing
from robustbench_med.formats.images import image_of

REVISION = 2
"""Raised with every change of what a file's pixels become: other pixels are other data, and are
decoded anew.
"""

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""TIFF's tag and its value of an image stored as a negative."""
TiffImagePlugin.OPEN_INFO.setdefault(
    (TiffImagePlugin.MM, WHITE_IS_ZERO, (1,), 1, (16,), ()), ("I;16B", "I;16B")
)
# Pillow knows such negatives in little-endian files only


@dataclass(frozen=True)
class ImageFile:
    """One image on disk.

    Attributes:
        position: share of a volume's height at which its axial slice lies, None for a plain image.
        window: the card's, for DICOM and NIfTI.
        hounsfield: whether the card says that values of NIfTI are Hounsfield units.
    """

    path: Path
    position: float | None = None
    window: Window | None = None
    hounsfield: bool = False


Raw = ImageFile | Pixels
"""An image before preprocessing: a file, or uint8 (h, w) or (h, w, 3)."""


class Scale(NamedTuple):
    """What units of a file are in the pixels in [0, 1] that a model sees; NaN where it has none.

    Attributes:
        grey: one stored grey level.
        hounsfield: one Hounsfield unit.
        range: what lies between the image's darkest and brightest pixel before `minmax`.
    """

    grey: float
    hounsfield: float
    range: float

    def stretched(self) -> Scale:
        """The same once `minmax` made the image's extremes 0 and 1: of a constant one, which became
        black, the smallest change is more than all.
        """
        by = 1 / self.range if self.range else math.inf
        return Scale(self.grey * by, self.hounsfield * by, float(self.range > 0))


def prepare(
    raw: Raw,
    data: bytes,
    channels: int,
    size: int,
    preprocessing: Preprocessing,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Pixels, Scale]:
    """An image as uint8 (channels, size, size), and what its units are there; `data` are the bytes
    of a file, `say` hears what must be known of how it was read.

    Raises:
        Exception: not a readable image (Pillow, pydicom and nibabel have no common ancestor for
            that).
        UserError: a library is missing.
    """
    picture = decode(raw, data)
    minmax = preprocessing.scaling == "minmax"
    if isinstance(picture, Image.Image):
        shown, aspect = to_uint8(picture, channels), 1.0
        image = to_uint8(picture, channels, minmax=True) if minmax else shown
        scale = scale_of(picture, shown)
    else:
        if picture.note:
            say(picture.note)
        image, aspect = to_uint8(picture.values, channels, minmax=minmax), picture.aspect
        extent = spread(picture.values, clipped=not minmax)
        scale = Scale(picture.grey, picture.hounsfield, extent)
    scale = scale.stretched() if minmax else scale
    return fit(image, size, preprocessing.fit, aspect), scale


def scale_of(image: Image.Image, shown: Image.Image) -> Scale:
    """What units of a file that Pillow reads are in [0, 1]; `shown`: its 8 bits, not stretched."""
    if image.mode.startswith(("I", "F")):
        values = numbers(np.asarray(image, np.float64))
        if image.mode.startswith("I;16"):
            return Scale(1 / 65535, math.nan, spread(values / 65535))
        extent = spread(values)
        grey = 1 / extent if image.mode == "I" and extent else math.nan
        return Scale(grey, math.nan, float(extent > 0))
    levels = {"1": 1} | dict.fromkeys(("L", "LA", "RGB", "RGBA", "P", "PA"), 255)
    grey = 1 / levels[image.mode] if image.mode in levels else math.nan
    pixels = np.asarray(shown)
    return Scale(grey, math.nan, float(pixels.max() / 255 - pixels.min() / 255))


def spread(values: NDArray[np.float64], *, clipped: bool = False) -> float:
    """The largest value less the smallest, of values `clipped` to [0, 1] first; NaN left out."""
    values = np.clip(values, 0, 1) if clipped else values
    return float(np.nanmax(values) - np.nanmin(values))


def decode(raw: Raw, data: bytes) -> Image.Image | Picture:
    """A Pillow image, or what DICOM and NIfTI hold."""
    if not isinstance(raw, ImageFile):
        return Image.fromarray(raw)
    name = raw.path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        position = 0.5 if raw.position is None else raw.position
        return read_nifti(data, position, raw.window, hounsfield=raw.hounsfield)
    if is_dicom(data) or name.endswith((".dcm", ".dicom")):
        return read_dicom(data, raw.window)
    return image_of(data)


def to_uint8(
    image: Image.Image | NDArray[np.float64], channels: int, *, minmax: bool = False
) -> Image.Image:
    """Any image to 8-bit grey (channels=1) or RGB (3), EXIF rotation applied; `minmax` stretches
    before the 8 bits.

    Raises:
        ValueError: an image of floating-point numbers of which none is finite.
    """
    if isinstance(image, Image.Image):
        negative = is_negative(image)
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image, np.float64)
            values = values / 65535 if image.mode.startswith("I;16") else stretched(numbers(values))
            image = 1 - values if negative else values
    if not isinstance(image, Image.Image):
        image = stretched(image) if minmax else image
        levels = np.round(np.nan_to_num(np.clip(image, 0, 1)) * 255).astype(np.uint8)
        return Image.fromarray(levels).convert("L" if channels == 1 else "RGB")
    if image.mode in ("P", "PA", "LA", "CMYK"):
        image = image.convert("RGB" if image.mode != "LA" else "L")
    image = image.convert("L" if channels == 1 else "RGB")
    if minmax:
        image = Image.fromarray(
            np.round(stretched(np.asarray(image, np.float64)) * 255).astype(np.uint8)
        )
    return image


def is_negative(image: Image.Image) -> bool:
    """Whether white is stored as zero and Pillow, which inverts up to 8 bits, left it so."""
    tags = getattr(image, "tag_v2", {})
    return image.mode.startswith(("I", "F")) and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def fit(image: Image.Image, size: int, how: str = "stretch", aspect: float = 1.0) -> Pixels:
    """(C, size, size) uint8; antialiased when it shrinks. `aspect` is the height over the width of
    a pixel.
    """
    bilinear = Image.Resampling.BILINEAR
    if aspect != 1 and how == "pad":
        unit = size / max(image.width, image.height * aspect)
        image = image.resize(
            (max(round(image.width * unit), 1), max(round(image.height * aspect * unit), 1)),
            bilinear,
        )
    if aspect != 1 and how == "crop":
        side = min(image.width, image.height * aspect)
        left, top = (image.width - side) / 2, (image.height - side / aspect) / 2
        image = image.resize(
            (size, size), bilinear, (left, top, image.width - left, image.height - top)
        )
    if image.size != (size, size):
        if how == "pad":
            image = ImageOps.pad(image, (size, size), bilinear)
        elif how == "crop":
            image = ImageOps.fit(image, (size, size), bilinear)
        else:
            image = image.resize((size, size), bilinear)
    array = np.asarray(image, np.uint8)
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
