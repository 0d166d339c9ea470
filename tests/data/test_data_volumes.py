"""From volumes and odd pictures to pixels: NIfTI, negatives, missing numbers, spacing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.grey import RNG, VALUES, linear, linear_exact, near
from support.scans import PLAIN, pixels_of, shown, write_dicom

from robustbench_med.data.cards import Window
from robustbench_med.data.preprocessing import ImageFile, Preprocessing, fit


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
    pixels = pixels_of(
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
            return pixels_of(
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
        pixels_of(ImageFile(path), path.read_bytes(), 1, 16, PLAIN)


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
    seen = pixels_of(image, path.read_bytes(), 1, 64, Preprocessing(fit=how))[0] > 127
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
