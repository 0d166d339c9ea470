"""Files of scanners, DICOM and NIfTI, to values in [0, 1] and the shape of a pixel.

pydicom and nibabel are used directly: MONAI's readers apply neither windows nor MONOCHROME1.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data.cards import Window
from robustbench_med.errors import UserError
from robustbench_med.formats.archives import gunzipped
from robustbench_med.formats.images import check_pixels
from robustbench_med.formats.limits import beyond, limit

GZIP = b"\x1f\x8b"
HEADER = 544
"""Bytes of the larger of NIfTI's headers, with what says whether extensions follow."""
EXTENSIONS = 1 << 24
"""Bytes that extensions of a header may take where it does not say so."""
NIFTI_1, NIFTI_2 = (348).to_bytes(4, "little"), (540).to_bytes(4, "little")
"""How the headers of its versions begin, or end, in either order of bytes."""

Values = NDArray[np.float64]

GREY = ("MONOCHROME1", "MONOCHROME2")
FRAME_SEQUENCES = (
    "PixelMeasuresSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
)
"""Where an enhanced multi-frame DICOM keeps what a single frame has at its top."""

BELOW_ZERO = 0.01
"""Share of the voxels of a volume below which negative values are taken for noise around zero."""
NOISE = 0.05
"""How far below zero, as a share of the largest magnitude, a voxel is no noise."""
NO_WINDOW = (
    "NIfTI with values below zero and no window: the percentiles 0.5 and 99.5 of all its voxels"
    " become black and white; name a window in the card, for instance modalities: [{name: ct,"
    " channels: 1, window: {center: 40, width: 400}}]"
)


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        values: (h, w) or (h, w, 3) in [0, 1]; NaN where the file holds no number.
        aspect: height over width of a pixel.
        grey: what one stored level is in `values`; NaN where levels are not evenly spaced there.
        hounsfield: what one Hounsfield unit is; NaN where the file holds none.
        note: what a reader of the results must know about how it was read.
    """

    values: Values
    aspect: float = 1.0
    note: str = ""
    grey: float = math.nan
    hounsfield: float = math.nan


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM (PS3.10 section 7.1)."""
    return head[128:132] == b"DICM"


def numbers(values: Values) -> Values:
    """The values with NaN for all that is no finite number; ValueError where nothing is one."""
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("it holds no finite value")
    return np.where(finite, values, np.nan)


def stretched(values: Values) -> Values:
    """The extremes, over all channels, to 0 and 1; a constant image to 0, NaN left as it is."""
    return scaled(values, float(np.nanmin(values)), float(np.nanmax(values)))


def scaled(values: Values, low: float, high: float) -> Values:
    """`low` to 0 and `high` to 1."""
    return (values - low) / max(high - low, 1e-12)


def windowed(values: Values, window: Window) -> Values:
    """The window's own scaling: its ends to 0 and 1."""
    return np.clip(
        scaled(values, window.center - window.width / 2, window.center + window.width / 2), 0, 1
    )


def read_dicom(data: bytes, window: Window | None = None) -> Picture:
    """The only or middle frame of a DICOM file; a window given here goes before the file's own.

    Raises:
        Exception: not a readable image, or colours that are not handled.
        UserError: pydicom is missing.
    """
    try:
        import pydicom
        from pydicom.pixels import get_decoder
    except ImportError as error:
        raise UserError("reading DICOM needs pydicom: pip install 'medrobust[clinical]'") from error
    return _dicom(pydicom.dcmread(io.BytesIO(data)), get_decoder, window)


def _dicom(file: Any, get_decoder: Any, window: Window | None) -> Picture:
    frames = int(file.get("NumberOfFrames") or 1)
    if frames < 1:
        raise ValueError(f"it says that it has {frames} frames")
    check_pixels(int(file.Columns) * int(file.get("SamplesPerPixel") or 1), int(file.Rows))
    frame = frames // 2
    stored, facts = get_decoder(file.file_meta.TransferSyntaxUID).as_array(
        file, index=frame, raw=True
    )
    _lift(file, frame)
    photometric = str(facts["photometric_interpretation"])
    grey = hounsfield = math.nan
    if photometric in GREY and stored.ndim == 2:
        values, unit = _grey(file, stored, window)
        if not file.get("ModalityLUTSequence") and stored.dtype.kind != "f":
            grey = unit * abs(_rescale(file)[0])
        if _is_hounsfield(file):
            hounsfield = unit
    elif photometric == "PALETTE COLOR" and stored.ndim == 2:
        values = _palette(file, stored)
    elif photometric in ("RGB", "YBR_FULL", "YBR_FULL_422") and stored.ndim == 3:
        values = _colour(stored, int(file.BitsStored), photometric)
        grey = 1 / _full(int(file.BitsStored)) if photometric == "RGB" else math.nan
    else:
        raise ValueError(
            f"the photometric interpretation {photometric} with pixels of shape {stored.shape} is"
            " not handled"
        )
    return Picture(values, _aspect(file), grey=grey, hounsfield=hounsfield)


def _lift(file: Any, frame: int) -> None:
    """What an enhanced DICOM says of one frame, or of all of them, comes to its top."""
    shared, own = (
        file.get("SharedFunctionalGroupsSequence"),
        file.get("PerFrameFunctionalGroupsSequence"),
    )
    for group in [*(shared or [])[:1], *(own or [])[frame : frame + 1]]:
        for name in FRAME_SEQUENCES:
            for element in (group.get(name) or [[]])[0]:
                file[element.tag] = element


def _is_hounsfield(file: Any) -> bool:
    """Whether rescaled values are Hounsfield units: those of CT are, unless the file says otherwise
    (PS3.3 C.8.2.1.1.2, C.11.1.1.2).
    """
    said = str(file.get("RescaleType") or "").upper()
    return said == "HU" or (not said and str(file.get("Modality") or "").upper() == "CT")


def _rescale(file: Any) -> tuple[float, float]:
    """Slope and intercept of stored values."""
    slope, intercept = _first(file, "RescaleSlope"), _first(file, "RescaleIntercept")
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _grey(file: Any, stored: NDArray[Any], window: Window | None) -> tuple[Values, float]:
    """The pixels, and what a change by 1 of a rescaled value is in them; NaN where that depends on
    the value.
    """
    modality, voi = file.get("ModalityLUTSequence"), file.get("VOILUTSequence")
    rescale = _rescale(file)
    values = (
        _entries(stored, modality[0].LUTDescriptor, modality[0].LUTData)
        if modality
        else numbers(stored * rescale[0] + rescale[1])
    )
    center, width = _first(file, "WindowCenter"), _first(file, "WindowWidth")
    unit = math.nan
    if window is not None:
        shown, unit = windowed(values, window), 1 / window.width
    elif voi:
        shown = _looked_up(values, voi[0].LUTDescriptor, voi[0].LUTData)
    elif center is not None and width is not None:
        function = str(file.get("VOILUTFunction") or "LINEAR").upper()
        shown = _voi(values, center, width, function)
        spread = width - 1 if function == "LINEAR" and width >= 1 else width
        unit = 1 / spread if spread > 0 and function != "SIGMOID" else math.nan
    elif modality:
        full = _full(modality[0].LUTDescriptor[2])
        shown, unit = values / full, 1 / full
    elif stored.dtype.kind == "f":
        shown, unit = stretched(values), _unit(np.nanmin(values), np.nanmax(values))
    else:
        signed, bits = int(file.PixelRepresentation), int(file.BitsStored)
        ends = [-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1] if signed else [0.0, _full(bits)]
        low, high = sorted(end * rescale[0] + rescale[1] for end in ends)
        shown, unit = scaled(values, low, high), _unit(low, high)
    return (1 - shown if file.PhotometricInterpretation == "MONOCHROME1" else shown), unit


def _unit(low: float, high: float) -> float:
    """What 1 becomes where `low` becomes 0 and `high` 1."""
    return float(1 / (high - low)) if high > low else math.inf


def _voi(values: Values, center: float, width: float, function: str) -> Values:
    """A window of a file to [0, 1], as PS3.3 C.11.2.1.2 and C.11.2.1.3 have it."""
    if function == "LINEAR" and width >= 1:
        center, width = center - 0.5, width - 1
    elif function not in ("LINEAR_EXACT", "SIGMOID") or width <= 0:
        raise ValueError(
            f"the window of width {width:g} with the VOI LUT function {function} is not allowed"
        )
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - center) / width))
    if width == 0:  # a threshold
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _palette(file: Any, stored: NDArray[Any]) -> Values:
    if "SegmentedRedPaletteColorLookupTableData" in file:
        from pydicom.pixels import apply_color_lut

        entries, _, bits = file.RedPaletteColorLookupTableDescriptor
        if (
            bits == 8 and not 0 < entries <= 256
        ):  # pydicom keeps an index in the type of the entries
            raise ValueError(
                f"a segmented palette of {entries or 65536} entries of 8 bits is not handled"
            )
        return apply_color_lut(stored, file)[..., :3] / _full(bits)
    tables = [
        (file[f"{c}PaletteColorLookupTableDescriptor"], file[f"{c}PaletteColorLookupTableData"])
        for c in ("Red", "Green", "Blue")
    ]
    return np.stack(
        [_looked_up(stored, descriptor.value, data.value) for descriptor, data in tables], -1
    )


def _looked_up(values: NDArray[Any], descriptor: Any, data: Any) -> Values:
    """A look-up table of DICOM (PS3.3 C.11.1.1.1), its entries scaled to [0, 1] by their bits."""
    return np.clip(_entries(values, descriptor, data) / _full(descriptor[2]), 0, 1)


def _entries(values: NDArray[Any], descriptor: Any, data: Any) -> Values:
    """The entry of each value; what lies outside of the table takes its first or last entry."""
    number, first = descriptor[0] or 2**16, descriptor[1]
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * number else np.uint8)
    table = np.asarray(data, np.float64)[:number]
    return table[np.clip(np.round(values).astype(np.int64) - first, 0, len(table) - 1)]


def _full(bits: int) -> float:
    """The largest number of some bits."""
    return 2.0**bits - 1


def _colour(stored: NDArray[Any], bits: int, photometric: str) -> Values:
    """RGB in [0, 1]; YBR as in PS3.3 C.7.6.3.1.2, with chroma around half of the range."""
    values = stored / _full(bits)
    if photometric == "RGB":
        return values
    zero = 2.0 ** (bits - 1) / _full(bits)
    y, b, r = values[..., 0], values[..., 1] - zero, values[..., 2] - zero
    return np.clip(
        np.stack(
            (y + 1.402 * r, y - (0.114 * 1.772 * b + 0.299 * 1.402 * r) / 0.587, y + 1.772 * b), -1
        ),
        0,
        1,
    )


def _first(file: Any, name: str) -> float | None:
    """The first value of an element; None where it is absent or empty."""
    value = file.get(name)
    if value is None or value == "":
        return None
    values = [value] if isinstance(value, (int, float, str)) else list(value)
    return float(values[0]) if values else None


def _aspect(file: Any) -> float:
    """Height over width of a pixel, as spacing or as a ratio."""
    for name in (
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
        "PixelAspectRatio",
    ):
        value = file.get(name)
        if value is not None and len(value) == 2:
            return _ratio(float(value[0]), float(value[1]))
    return 1.0


def _ratio(height: float, width: float) -> float:
    """1 where either is no length."""
    return height / width if np.isfinite([height, width]).all() and min(height, width) > 0 else 1.0


def _check_voxels(shape: tuple[int, ...]) -> None:
    """Refuses (ValueError) what is no volume, or a volume of more voxels than the limit."""
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"a volume of the shape {shape} is not handled")
    if (voxels := math.prod(shape)) > limit("volume_voxels"):
        raise ValueError(f"it is {' x '.join(map(str, shape))}: {beyond('volume_voxels', voxels)}")


def _version(data: bytes) -> int:
    """1 or 2; ValueError where it is no NIfTI."""
    first = data[:4], data[3::-1]
    if NIFTI_1 not in first and NIFTI_2 not in first:
        raise ValueError("it is no NIfTI file: its header does not begin as one")
    return 2 if NIFTI_2 in first else 1


def _unpacked(data: bytes) -> bytes:
    """What gzip packed, as much as the header in it says; one that lies is found out before."""
    import nibabel

    head = gunzipped(data, HEADER)
    kind: Any = nibabel.Nifti2Header if _version(head) == 2 else nibabel.Nifti1Header
    header = kind(head[: kind.sizeof_hdr])
    shape = tuple(map(int, header.get_data_shape()))
    _check_voxels(shape)
    size = math.prod(shape) * header.get_data_dtype().itemsize
    return gunzipped(data, size + max(int(header.get_data_offset()), HEADER) + EXTENSIONS)


def read_nifti(
    data: bytes, position: float, window: Window | None = None, *, hounsfield: bool = False
) -> Picture:
    """An axial slice at a share of a volume's height, as in radiology: anterior up, the patient's
    left on the right.

    Without a window the percentiles 0.5 and 99.5 become 0 and 1: of the voxels above zero, or of
    all where a volume has a part well below zero (Hounsfield units).

    Args:
        hounsfield: whether a card says that values are Hounsfield units; the format does not.

    Raises:
        Exception: not a readable volume.
        UserError: nibabel is missing.
    """
    try:
        import nibabel
    except ImportError as error:
        raise UserError("reading NIfTI needs nibabel: pip install 'medrobust[clinical]'") from error
    try:
        plain = _unpacked(data) if data.startswith(GZIP) else data
        kind = nibabel.Nifti2Image if _version(plain) == 2 else nibabel.Nifti1Image
        stored = kind.from_bytes(plain)
        _check_voxels(stored.shape)
        image = nibabel.as_closest_canonical(stored)
        volume: Values = image.get_fdata(dtype=np.float64)
    except nibabel.filebasedimages.ImageFileError as error:
        raise OSError(str(error)) from error
    if volume.ndim == 4:
        volume = volume[..., 0]
    plane = numbers(np.rot90(volume[:, :, round(position * (volume.shape[2] - 1))])[:, ::-1])
    width, height = image.header.get_zooms()[:2]
    aspect = _ratio(float(height), float(width))
    proxy: Any = stored.dataobj
    level = abs(float(proxy.slope)) if stored.get_data_dtype().kind in "iu" else math.nan
    hu = 1.0 if hounsfield else math.nan
    if window is not None:
        unit = 1 / window.width
        shown = windowed(plane, window)
        return Picture(shown, aspect, grey=level * unit, hounsfield=hu * unit)
    finite = volume[np.isfinite(volume)]
    negative = bool(np.mean(finite < -NOISE * np.percentile(np.abs(finite), 99.5)) > BELOW_ZERO)
    counted = finite if negative else finite[finite > 0]
    low, high = np.percentile(counted, [0.5, 99.5]) if len(counted) else (0.0, 1.0)
    note = NO_WINDOW if negative else ""
    values, unit = np.clip(scaled(plane, low, high), 0, 1), _unit(low, high)
    return Picture(values, aspect, note, level * unit, hu * unit)
