"""From a file to the pixels a model sees: 8 bits, grey or RGB, a square.

Pillow, pydicom and nibabel are used directly: MONAI's readers apply neither windows nor MONOCHROME1.

Bits. 8-bit images stay as they are. 16-bit images are scaled by their full range, 32-bit ones by their own extremes. DICOM is
rescaled, windowed by its first VOI window or look-up table (else by its stored bits) and MONOCHROME1 inverted. A NIfTI volume
has no unit: its 0.5 and 99.5 percentiles above zero become 0 and 255.
Colour. Palette and CMYK become RGB, alpha is dropped, RGB becomes luma where the card says grey. EXIF rotation is applied.
Frames. Of a multi-page TIFF or animation the first; of a multi-frame DICOM the middle one.
Square. `fit` says how; shrinking is antialiased (Pillow, bilinear).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict

from robustbench_med.data.images import Pixels
from robustbench_med.errors import UserError

REVISION = 1
"""Raised with every change of the pixels that are made of a file: other pixels are other data, and are decoded anew."""


class Preprocessing(BaseModel):
    """Choices between file and model, part of every record.

    Attributes:
        fit: `stretch` to the square, `pad` with black to keep the aspect, or `crop` the centre.
        scaling: `fixed`: grey levels mean the same in every image; `minmax`: each image's extremes become 0 and 255.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fit: Literal["stretch", "pad", "crop"] = "stretch"
    scaling: Literal["fixed", "minmax"] = "fixed"


@dataclass(frozen=True)
class ImageFile:
    """One image on disk; `position` is the share of a volume's height at which its axial slice lies, None for a plain image."""

    path: Path
    position: float | None = None


Raw = ImageFile | Pixels
"""An image before preprocessing: a file, or uint8 (h, w) or (h, w, 3)."""


def prepare(raw: Raw, data: bytes, channels: int, size: int, chosen: Preprocessing) -> Pixels:
    """An image as uint8 (channels, size, size); `data` are the bytes of a file.

    Raises:
        Exception: not a readable image (Pillow, pydicom and nibabel have no common ancestor for that).
        UserError: a library is missing.
    """
    image = to_uint8(decode(raw, data), channels, minmax=chosen.scaling == "minmax")
    return fit(image, size, chosen.fit)


def decode(raw: Raw, data: bytes) -> Image.Image | NDArray[np.float64]:
    """A Pillow image, or (h, w) in [0, 1] from DICOM and NIfTI."""
    if not isinstance(raw, ImageFile):
        return Image.fromarray(raw)
    name = raw.path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _nifti(raw.path, 0.5 if raw.position is None else raw.position)
    if name.endswith((".dcm", ".dicom")):
        return _dicom(data)
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def to_uint8(image: Image.Image | NDArray[np.float64], channels: int, *, minmax: bool = False) -> Image.Image:
    """Any image to 8-bit grey (channels=1) or RGB (3), EXIF rotation applied; `minmax` stretches before the 8 bits."""
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image, np.float64)
            low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (float(values.min()), float(values.max()))
            image = (values - low) / max(high - low, 1e-12)
    if not isinstance(image, Image.Image):
        image = _stretched(image) if minmax else image
        return Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)).convert("L" if channels == 1 else "RGB")
    if image.mode in ("P", "PA", "LA", "CMYK"):
        image = image.convert("RGB" if image.mode != "LA" else "L")
    image = image.convert("L" if channels == 1 else "RGB")
    if minmax:
        image = Image.fromarray(np.round(_stretched(np.asarray(image, np.float64)) * 255).astype(np.uint8))
    return image


def fit(image: Image.Image, size: int, how: str = "stretch") -> Pixels:
    """(C, size, size) uint8; antialiased when it shrinks."""
    if image.size != (size, size):
        bilinear = Image.Resampling.BILINEAR
        if how == "pad":
            image = ImageOps.pad(image, (size, size), bilinear)
        elif how == "crop":
            image = ImageOps.fit(image, (size, size), bilinear)
        else:
            image = image.resize((size, size), bilinear)
    array = np.asarray(image, np.uint8)
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


def _stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The extremes, over all channels, to 0 and 1; a constant image to 0."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _dicom(data: bytes) -> NDArray[np.float64]:
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise UserError("reading DICOM needs pydicom: pip install 'medrobust[clinical]'") from error
    file = pydicom.dcmread(io.BytesIO(data))
    stored: NDArray[Any] = file.pixel_array
    if int(file.get("NumberOfFrames") or 1) > 1:
        stored = stored[len(stored) // 2]
    if int(file.get("SamplesPerPixel") or 1) > 1:  # colour: 8 bits, no window
        return np.asarray(Image.fromarray(stored.astype(np.uint8)).convert("L"), np.float64) / 255
    signed, bits = int(file.PixelRepresentation), int(file.BitsStored)
    stored_range = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    if "WindowCenter" in file or "VOILUTSequence" in file:
        # the window's own range: what the extremes of the stored bits become
        shown, ends = (apply_voi_lut(apply_modality_lut(v, file), file, index=0).astype(np.float64) for v in (stored, stored_range))
    else:
        shown, ends = (np.asarray(apply_modality_lut(v, file), np.float64) for v in (stored, stored_range))
    low, high = float(ends.min()), float(ends.max())
    values = (shown - low) / max(high - low, 1e-12)
    return 1 - values if file.PhotometricInterpretation == "MONOCHROME1" else values


def _nifti(path: Path, position: float) -> NDArray[np.float64]:
    try:
        import nibabel
    except ImportError as error:
        raise UserError("reading NIfTI needs nibabel: pip install 'medrobust[clinical]'") from error
    try:
        volume: NDArray[np.float64] = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float64)
    except nibabel.filebasedimages.ImageFileError as error:
        raise OSError(str(error)) from error
    if volume.ndim == 4:
        volume = volume[..., 0]
    above = volume[volume > 0]
    low, high = np.percentile(above, [0.5, 99.5]) if len(above) else (0.0, 1.0)
    plane = volume[:, :, round(position * (volume.shape[2] - 1))]
    return np.clip(
        (np.rot90(plane)[:, ::-1] - low) / max(high - low, 1e-12), 0, 1
    )  # as in radiology: anterior up, the patient's left on the right
