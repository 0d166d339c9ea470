"""DICOM, NIfTI and TIFF as the clinic has them: each value beside one computed here, from the
standard's own words.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.grey import RNG, VALUES, linear, linear_exact, near
from support.scans import PLAIN, pixels_of, shown, write_dicom

from robustbench_med.data.cards import Window
from robustbench_med.data.preprocessing import ImageFile

INDICES = RNG.integers(0, 256, (6, 6)).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (6, 6, 3)).astype(np.uint8)
BYTES = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601, of (..., 3)."""
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def native(path: Path, channels: int = 1) -> np.ndarray:
    """The pixels of a file of 6 x 6, nothing blended."""
    return shown(path, 6, PLAIN, channels)


def palette(bits: int, first: int = 0, entries: int = 256) -> tuple[np.ndarray, dict[str, object]]:
    """Three tables (entries, 3) of 8 or 16 bits, and their elements."""
    tables = RNG.integers(0, 2**bits, (entries, 3)).astype("<u2" if bits == 16 else np.uint8)
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR", **BYTES}
    for c, name in enumerate(("Red", "Green", "Blue")):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [entries, first, bits]
        elements[f"{name}PaletteColorLookupTableData"] = tables[:, c].tobytes()
    return tables, elements


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("first", "entries"), [(0, 256), (40, 100)])
def test_a_palette_is_applied(tmp_path: Path, bits: int, first: int, entries: int) -> None:
    tables, elements = palette(bits, first, entries)
    path = write_dicom(tmp_path / "a.dcm", INDICES, PixelData=INDICES.tobytes(), **elements)
    colours = tables[np.clip(INDICES.astype(int) - first, 0, entries - 1)] / (2.0**bits - 1) * 255
    assert near(native(path, 3), np.moveaxis(colours, 2, 0))
    assert near(native(path, 1), luma(colours)[None], 1.5)


def test_a_palette_of_sixteen_bit_indices_and_eight_bit_entries_is_applied(tmp_path: Path) -> None:
    tables, elements = palette(8, 0, 4096)
    indices = RNG.integers(0, 4096, (6, 6)).astype("<u2")
    path = write_dicom(
        tmp_path / "a.dcm",
        indices,
        **elements | {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11},
    )
    assert near(native(path, 3), np.moveaxis(tables[indices], 2, 0))


def test_a_segmented_palette_is_applied(tmp_path: Path) -> None:
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR", **BYTES}
    for name, ends in (("Red", (0, 65535)), ("Green", (65535, 0)), ("Blue", (0, 65535))):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        segments = np.array(
            [0, 1, ends[0], 1, 255, ends[1]], "<u2"
        )  # discrete: the first entry; linear: 255 more
        elements[f"Segmented{name}PaletteColorLookupTableData"] = segments.tobytes()
    path = write_dicom(tmp_path / "a.dcm", INDICES, PixelData=INDICES.tobytes(), **elements)
    assert near(native(path, 3), np.stack((INDICES, 255 - INDICES, INDICES)))


def to_ybr(rgb: np.ndarray, full: int) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2, (..., 3)."""
    y = luma(rgb)
    half = (full + 1) / 2
    return (
        np.stack((y, (rgb[..., 2] - y) / 1.772 + half, (rgb[..., 0] - y) / 1.402 + half), -1)
        .round()
        .clip(0, full)
    )


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (16, 12), (16, 16)])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_stays_colour(
    tmp_path: Path, photometric: str, allocated: int, stored: int, planar: int, frames: int
) -> None:
    full = 2**stored - 1
    rgb = (RNG.random((frames, 6, 6, 3)) * full).round()
    kept = (rgb if photometric == "RGB" else to_ybr(rgb, full)).astype(
        "<u2" if allocated == 16 else np.uint8
    )
    data = kept.transpose(0, 3, 1, 2) if planar else kept
    elements = {
        "SamplesPerPixel": 3,
        "PlanarConfiguration": planar,
        "PhotometricInterpretation": photometric,
        "PixelData": data.tobytes(),
    }
    if frames > 1:
        elements["NumberOfFrames"] = frames
    bits = {"BitsAllocated": allocated, "BitsStored": stored, "HighBit": stored - 1}
    path = write_dicom(tmp_path / "a.dcm", INDICES, **elements, **bits)
    expected = rgb[frames // 2] / full * 255
    assert near(native(path, 3), np.moveaxis(expected, 2, 0), 2)
    assert near(native(path, 1), luma(expected)[None], 2)


def test_colour_with_halved_chroma_stays_colour(tmp_path: Path) -> None:
    rgb = np.repeat(RNG.integers(0, 256, (6, 3, 3)), 2, 1)  # two neighbours share their chroma
    ybr = to_ybr(rgb, 255).astype(np.uint8).reshape(6, 3, 2, 3)
    halved = np.stack((ybr[:, :, 0, 0], ybr[:, :, 1, 0], ybr[:, :, 0, 1], ybr[:, :, 0, 2]), -1)
    elements = {
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": "YBR_FULL_422",
        **BYTES,
    }
    path = write_dicom(tmp_path / "a.dcm", INDICES, PixelData=halved.tobytes(), **elements)
    assert near(native(path, 3), np.moveaxis(rgb, 2, 0), 3)


@pytest.mark.parametrize(
    ("photometric", "subsampling"), [("YBR_FULL", 0), ("YBR_FULL_422", 1), ("YBR_RCT", None)]
)
def test_compressed_colour_stays_colour(
    tmp_path: Path, photometric: str, subsampling: int | None
) -> None:
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

    y, x = np.mgrid[:64, :64] * 4
    image = Image.fromarray(np.stack((x, y, 255 - (x + y) // 2), -1).astype(np.uint8))
    buffer = io.BytesIO()
    if subsampling is None:
        image.save(buffer, "JPEG2000", irreversible=False)
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=subsampling)
    elements = {
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": photometric,
        **BYTES,
    }
    path = write_dicom(tmp_path / "a.dcm", np.zeros((64, 64)), **elements)
    file = dcmread(path)
    file.PixelData = encapsulate([buffer.getvalue()])
    file["PixelData"].VR, file["PixelData"].is_undefined_length = "OB", True
    file.file_meta.TransferSyntaxUID = JPEG2000Lossless if subsampling is None else JPEGBaseline8Bit
    file.save_as(path, enforce_file_format=True)
    assert near(
        shown(path, 64, PLAIN, 3),
        np.moveaxis(np.asarray(image), 2, 0),
        0 if subsampling is None else 5,
    )
    assert near(shown(path, 64, PLAIN, 1), luma(np.asarray(image))[None], 3)


@pytest.mark.parametrize("photometric", ["HSV", "CMYK", "YBR_PARTIAL_422", "NONSENSE"])
def test_colours_that_are_not_handled_are_an_error(tmp_path: Path, photometric: str) -> None:
    elements = {
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": photometric,
        **BYTES,
    }
    path = write_dicom(tmp_path / "a.dcm", INDICES, PixelData=COLOURS.tobytes(), **elements)
    with pytest.raises(Exception, match=rf"{photometric}|photometric interpretation"):
        shown(path)


def sigmoid(x: np.ndarray, c: float, w: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.1."""
    return 1 / (1 + np.exp(-4 * (x - c) / w))


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("slope", "intercept"), [(None, None), (2, -1000), (-1, 500)])
@pytest.mark.parametrize(
    ("center", "width"), [(1000, 1000), (2000, 16000), (100, 60000), (-200, 9000)]
)  # wider than 12 bits, too
@pytest.mark.parametrize("function", [linear, linear_exact, sigmoid])
def test_a_window_has_its_own_scaling(
    tmp_path: Path, function, center, width, slope, intercept, inverted
) -> None:
    elements: dict[str, object] = {"WindowCenter": center, "WindowWidth": width}
    if function is not linear:
        elements["VOILUTFunction"] = function.__name__.upper()
    if slope is not None:
        elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if inverted:
        elements["PhotometricInterpretation"] = "MONOCHROME1"
    expected = function(VALUES * (slope or 1) + (intercept or 0.0), center, width)
    pixels = shown(write_dicom(tmp_path / "a.dcm", VALUES, **elements))
    assert near(pixels[0], 255 * (1 - expected if inverted else expected))


@pytest.mark.parametrize(
    ("entries", "first", "bits"), [(4096, 0, 8), (4096, 0, 16), (100, 450, 12)]
)
def test_a_table_of_values_has_its_own_scaling(
    tmp_path: Path, entries: int, first: int, bits: int
) -> None:
    from pydicom.dataset import Dataset

    table = (RNG.random(entries) * (2**bits - 1)).round().astype("<u2")
    item = Dataset()
    item.LUTDescriptor = [entries, first, bits]
    item.add_new("LUTData", "OW", table.tobytes())
    expected = table[np.clip(VALUES - first, 0, entries - 1)] / (2**bits - 1) * 255
    assert near(
        shown(
            write_dicom(
                tmp_path / "a.dcm", VALUES, VOILUTSequence=[item], WindowCenter=9, WindowWidth=9
            )
        )[0],
        expected,
    )
    assert near(
        shown(write_dicom(tmp_path / "b.dcm", VALUES, ModalityLUTSequence=[item]))[0], expected
    )


def test_an_enhanced_dicom_has_window_rescale_and_spacing_of_its_frame(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    def group(**sequences: dict[str, object]) -> Dataset:
        made = Dataset()
        for name, elements in sequences.items():
            item = Dataset()
            for key, value in elements.items():
                setattr(item, key, value)
            setattr(made, name, [item])
        return made

    shared = group(PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": -1000})
    own = [
        group(FrameVOILUTSequence={"WindowCenter": c, "WindowWidth": 2000}) for c in (0, 1000, 2000)
    ]
    elements = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": own}
    path = write_dicom(tmp_path / "a.dcm", np.stack([VALUES * 0, VALUES, VALUES * 0]), **elements)
    assert near(shown(path)[0], 255 * linear(VALUES - 1000.0, 1000, 2000))


@pytest.mark.parametrize("own", [{}, {"WindowCenter": 9, "WindowWidth": 9}])
def test_the_cards_window_goes_before_the_files(tmp_path: Path, own: dict[str, object]) -> None:
    path = write_dicom(tmp_path / "a.dcm", VALUES, RescaleSlope=1, RescaleIntercept=-1000, **own)
    image = ImageFile(path, window=Window(center=500, width=3000))
    pixels = pixels_of(image, path.read_bytes(), 1, 2, PLAIN)
    assert near(pixels[0], 255 * linear_exact(VALUES - 1000.0, 500, 3000))
