"""From file to pixels: formats of the clinic, windows, inversion, and the choices of
preprocessing.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.scans import PLAIN, pixels_of, shown, write_dicom

from robustbench_med.data.preprocessing import ImageFile, Preprocessing, fit

RAMP = np.array([[0, 1024], [2048, 4095]])


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, [0, 64, 128, 255]),  # 12 stored bits, not 16
        ({"PhotometricInterpretation": "MONOCHROME1"}, [255, 191, 127, 0]),
        ({"WindowCenter": 1024, "WindowWidth": 2048}, [0, 128, 255, 255]),
        (
            {"WindowCenter": ["1024", "40"], "WindowWidth": ["2048", "400"]},
            [0, 128, 255, 255],
        ),  # the first of several
        (
            {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 0, "WindowWidth": 2048},
            [0, 128, 255, 255],
        ),  # window in HU
        (
            {"WindowCenter": 1024, "WindowWidth": 2048, "PhotometricInterpretation": "MONOCHROME1"},
            [255, 127, 0, 0],
        ),
        ({"BitsStored": 16, "HighBit": 15}, [0, 4, 8, 16]),
    ],
)
def test_dicom_is_windowed_rescaled_and_inverted_as_a_viewer_does(
    tmp_path: Path, elements, expected
) -> None:
    pixels = shown(write_dicom(tmp_path / "a.dcm", RAMP, **elements))
    assert np.abs(pixels.reshape(-1).astype(int) - expected).max() <= 1


def test_the_middle_frame_of_a_multi_frame_dicom_and_the_first_of_a_tiff(tmp_path: Path) -> None:
    frames = np.stack([np.full((2, 2), value) for value in (0, 2048, 4095)])
    assert (np.abs(shown(write_dicom(tmp_path / "a.dcm", frames)).astype(int) - 128) <= 1).all()
    first, second = Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    assert (shown(tmp_path / "a.tif") == 10).all()


def test_a_nifti_slice_is_shown_as_in_radiology(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.zeros((4, 4, 3), np.float32)
    volume[..., 1] = 50
    volume[3, 3, 1] = 1000  # in RAS: the patient's right, anterior
    for name, affine in (("ras.nii.gz", np.eye(4)), ("las.nii", np.diag([-1, 1, 1, 1]))):
        stored = volume if affine[0, 0] > 0 else volume[::-1]
        nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / name)
        pixels = pixels_of(
            ImageFile(tmp_path / name, 0.5), (tmp_path / name).read_bytes(), 1, 4, PLAIN
        )[0]
        assert np.unravel_index(pixels.argmax(), pixels.shape) == (
            0,
            0,
        )  # the patient's right is on the left of the picture
        assert (
            pixels_of(ImageFile(tmp_path / name, 0.0), (tmp_path / name).read_bytes(), 1, 4, PLAIN)
            == 0
        ).all()


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(
        np.array([[255] * 8, [255] * 8] + [[0] * 8] * 6, np.uint8)
    )  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    pixels = shown(tmp_path / "a.png", 8)[0]
    assert pixels[:, -1].min() > 200
    assert pixels[:, 0].max() < 50


def test_padding_keeps_the_aspect_and_cropping_the_middle() -> None:
    wide = Image.fromarray(
        np.concatenate([np.full((10, 10), 50, np.uint8), np.full((10, 20), 200, np.uint8)], 1)
    )
    padded = fit(wide, 30, "pad")[0]
    assert (padded[:9] == 0).all()
    assert (padded[-9:] == 0).all()
    assert padded[15, 2] == 50
    assert padded[15, 25] == 200
    cropped = fit(wide, 10, "crop")[0]
    assert (cropped[:, 2:] == 200).all()
    stretched = fit(wide, 30)[0]
    assert stretched[0, 2] == stretched[29, 2] == 50


def test_minmax_stretches_each_image_before_it_loses_bits() -> None:
    levels = Image.fromarray(
        np.linspace(20_000, 20_255, 256).round().astype(np.uint16).reshape(16, 16)
    )  # within one 8-bit step
    buffer = io.BytesIO()
    levels.save(buffer, "PNG")
    raw = ImageFile(Path("x.png"))
    fixed = pixels_of(raw, buffer.getvalue(), 1, 16, PLAIN)
    stretched = pixels_of(raw, buffer.getvalue(), 1, 16, Preprocessing(scaling="minmax"))
    assert len(np.unique(fixed)) <= 2
    assert np.array_equal(np.unique(stretched), np.arange(256))
    colour = np.zeros((2, 2, 3), np.uint8)
    colour[0, 0] = [100, 50, 0]
    assert pixels_of(colour, b"", 3, 2, Preprocessing(scaling="minmax"))[:, 0, 0].tolist() == [
        255,
        128,
        0,
    ]  # hue kept
    assert (
        pixels_of(np.full((2, 2), 7, np.uint8), b"", 1, 2, Preprocessing(scaling="minmax")) == 0
    ).all()
