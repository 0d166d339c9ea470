"""DICOM, NIfTI and TIFF as the clinic has them: each value beside one computed here, from the
standard's own words.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.scans import PLAIN, shown, write_dicom

from robustbench_med.data.cards import Window
from robustbench_med.data.preprocessing import ImageFile, Preprocessing, fit, prepare

RNG = np.random.default_rng(0)
INDICES = RNG.integers(0, 256, (6, 6)).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (6, 6, 3)).astype(np.uint8)
BYTES = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


def near(pixels: np.ndarray, expected: np.ndarray, tolerance: float = 1) -> bool:
    assert pixels.shape == expected.shape
    return bool(np.abs(pixels.astype(float) - np.asarray(expected, float)).max() <= tolerance)


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


VALUES = np.array([[0, 500], [1000, 4000]])


def linear(x: np.ndarray, c: float, w: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, with the output range [0, 1]."""
    return np.where(
        x <= c - 0.5 - (w - 1) / 2,
        0,
        np.where(x > c - 0.5 + (w - 1) / 2, 1, (x - (c - 0.5)) / (w - 1) + 0.5),
    )


def linear_exact(x: np.ndarray, c: float, w: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.2."""
    return np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 1, (x - c) / w + 0.5))


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
    pixels = prepare(image, path.read_bytes(), 1, 2, PLAIN)
    assert near(pixels[0], 255 * linear_exact(VALUES - 1000.0, 500, 3000))


def nifti(path: Path, volume: np.ndarray, zooms: tuple[float, float] = (1, 1)) -> Path:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([*zooms, 1, 1])), path)
    return path


def slice_of(volume: np.ndarray) -> np.ndarray:
    """The middle slice, anterior up and the patient's left on the right."""
    return np.rot90(volume[:, :, 1])[:, ::-1].astype(float)


def volume_shown(
    path: Path, window: Window | None = None, scaling: str = "fixed"
) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    pixels = prepare(
        ImageFile(path, 0.5, window),
        path.read_bytes(),
        1,
        16,
        Preprocessing(scaling=scaling),
        notes.append,
    )
    return pixels[0], notes


@pytest.mark.parametrize("kind", ["ct", "all below zero"])
def test_a_ct_volume_is_scaled_by_all_its_voxels_and_says_so(tmp_path: Path, kind: str) -> None:
    volume = RNG.integers(-1000, 1000, (16, 16, 3)).astype(np.int16)
    volume = volume if kind == "ct" else (-abs(volume) - 1).astype(np.int16)
    pixels, notes = volume_shown(nifti(tmp_path / "a.nii.gz", volume))
    low, high = np.percentile(volume, [0.5, 99.5])
    assert near(pixels, 255 * np.clip((slice_of(volume) - low) / (high - low), 0, 1))
    (note,) = notes
    assert "window: {center: 40, width: 400}" in note


def test_the_cards_window_shows_a_ct_volume_without_a_note(tmp_path: Path) -> None:
    volume = RNG.integers(-1000, 1000, (16, 16, 3)).astype(np.int16)
    pixels, notes = volume_shown(nifti(tmp_path / "a.nii.gz", volume), Window(center=40, width=400))
    assert near(pixels, 255 * linear_exact(slice_of(volume), 40, 400))
    assert notes == []


@pytest.mark.parametrize("ringing", [0, -3])
def test_an_mri_volume_is_scaled_above_zero(tmp_path: Path, ringing: float) -> None:
    volume = RNG.integers(0, 500, (16, 16, 3)).astype(np.float32) * (RNG.random((16, 16, 3)) < 0.7)
    volume[volume == 0] = ringing  # what interpolation leaves of the air
    pixels, notes = volume_shown(nifti(tmp_path / "a.nii.gz", volume))
    low, high = np.percentile(volume[volume > 0], [0.5, 99.5])
    assert near(pixels, 255 * np.clip((slice_of(volume) - low) / (high - low), 0, 1))
    assert notes == []


LEVELS = {1: (0, 1), 8: (0, 255), 16: (0, 65535)}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_a_negative_tiff_is_inverted(tmp_path: Path, bits: int, order: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    full = LEVELS[bits][1]
    values = RNG.integers(0, full + 1, (16, 16)).astype(np.uint16 if bits == 16 else np.uint8)
    stored = values.astype(bool) if bits == 1 else values
    for name in ("miniswhite", "minisblack"):
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric=name, byteorder=order)
        expected = values / full * 255
        assert near(
            shown(tmp_path / "a.tif", 16)[0], 255 - expected if name == "miniswhite" else expected
        )


def test_a_negative_tiff_of_floats_is_inverted(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = RNG.random((16, 16)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    expected = (values.max() - values) / np.ptp(values) * 255
    assert near(shown(tmp_path / "a.tif", 16)[0], expected)


@pytest.mark.parametrize("scaling", ["fixed", "minmax"])
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["tiff", "dicom", "nifti", "nifti with a window"])
def test_one_pixel_without_a_number_spoils_itself_alone(
    tmp_path: Path, kind: str, fault: float, scaling: str
) -> None:
    values = (RNG.random((16, 16, 3)) + 1).astype(np.float32)
    window = Window(center=1.5, width=1.5) if "window" in kind else None

    def read(volume: np.ndarray) -> np.ndarray:
        if kind == "tiff":
            pytest.importorskip("tifffile").imwrite(
                tmp_path / "a.tif", slice_of(volume).astype(np.float32)
            )
            return prepare(
                ImageFile(tmp_path / "a.tif"),
                (tmp_path / "a.tif").read_bytes(),
                1,
                16,
                Preprocessing(scaling=scaling),
            )[0]
        if kind == "dicom":
            stored = np.ascontiguousarray(slice_of(volume), "<f4")
            path = write_dicom(
                tmp_path / "a.dcm",
                np.zeros((16, 16)),
                FloatPixelData=stored.tobytes(),
                BitsAllocated=32,
            )
            return shown(path, 16, Preprocessing(scaling=scaling))[0]
        return volume_shown(nifti(tmp_path / "a.nii", volume), window, scaling)[0]

    sound = read(values)
    values[0, 0, 1] = fault
    pixels = read(values)
    row, column = np.argwhere(~np.isfinite(slice_of(values)))[0]
    assert pixels[row, column] == 0
    others = np.ones((16, 16), bool)
    others[row, column] = False
    assert near(pixels[others], sound[others], 3)  # percentiles of a volume with one voxel less
    assert (pixels.min(), pixels.max()) == (0, 255) or window is not None


@pytest.mark.parametrize("kind", ["tiff", "nifti"])
def test_an_image_without_any_number_is_unreadable(tmp_path: Path, kind: str) -> None:
    nothing = np.full((16, 16, 3), np.nan, np.float32)
    if kind == "tiff":
        pytest.importorskip("tifffile").imwrite(tmp_path / "a.tif", nothing[..., 0])
        path = tmp_path / "a.tif"
    else:
        nothing[..., 0] = 1
        path = nifti(tmp_path / "a.nii", nothing)
    with pytest.raises(ValueError, match="no finite value"):
        prepare(ImageFile(path), path.read_bytes(), 1, 16, PLAIN)


@pytest.mark.parametrize("how", ["pad", "crop"])
@pytest.mark.parametrize(
    "kind", ["PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "nifti"]
)
def test_the_shape_of_the_body_is_kept_where_the_aspect_is(
    tmp_path: Path, kind: str, how: str
) -> None:
    """A disc of 40 mm, in pixels that are twice as high as wide, is a disc again."""
    y, x = np.mgrid[:32, :64]
    disc = ((2 * (y - 15.5)) ** 2 + (x - 31.5) ** 2 < 20**2) * 4095
    if kind == "nifti":
        path = nifti(
            tmp_path / "a.nii", np.repeat(disc.T[:, ::-1, None], 3, 2).astype(np.int16), (0.5, 1)
        )
    else:
        path = write_dicom(
            tmp_path / "a.dcm", disc, **{kind: [2, 1] if "Ratio" in kind else [1.0, 0.5]}
        )
    image = ImageFile(path, 0.5 if kind == "nifti" else None, Window(center=2048, width=4096))
    seen = prepare(image, path.read_bytes(), 1, 64, Preprocessing(fit=how))[0] > 127
    assert abs(int(seen.any(0).sum()) - 40) <= 2
    assert abs(int(seen.any(1).sum()) - 40) <= 2


@pytest.mark.parametrize(("aspect", "bars"), [(2.0, "sides"), (0.5, "ends"), (1.0, "none")])
def test_a_square_of_oblong_pixels_is_padded_to_its_shape(aspect: float, bars: str) -> None:
    pixels = fit(Image.new("L", (32, 32), 200), 32, "pad", aspect)[0]
    black = {
        "sides": (slice(None), slice(0, 8)),
        "ends": (slice(0, 8), slice(None)),
        "none": (slice(0, 0), slice(None)),
    }[bars]
    assert (pixels[black] == 0).all()
    assert (pixels == 200).mean() == (1 if bars == "none" else 0.5)
    assert (fit(Image.new("L", (32, 32), 200), 32, "crop", aspect)[0] == 200).all()
    assert np.array_equal(
        fit(Image.new("L", (32, 32), 200), 32, "stretch", aspect)[0], np.full((32, 32), 200)
    )


@pytest.mark.parametrize("spacing", [[0, 1], [-1.0, 1.0], [1, 1]])
def test_a_spacing_that_is_no_length_changes_nothing(tmp_path: Path, spacing: list[float]) -> None:
    with_it, without = (
        write_dicom(tmp_path / f"{i}.dcm", VALUES, **e)
        for i, e in enumerate(({"PixelSpacing": spacing}, {}))
    )
    assert np.array_equal(
        shown(with_it, 8, Preprocessing(fit="pad")), shown(without, 8, Preprocessing(fit="pad"))
    )


@pytest.mark.parametrize(
    "name", ["IM_0001", "a.ima", "a.IMA", "1.2.840.113619.2.55", "a.dcm", "a.img"]
)
def test_dicom_is_known_by_its_bytes_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = write_dicom(tmp_path / name, VALUES, WindowCenter=1000, WindowWidth=1000)
    assert near(shown(path)[0], 255 * linear(VALUES.astype(float), 1000, 1000))
