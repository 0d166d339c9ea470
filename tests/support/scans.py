"""Clinical files made by tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_med.data.preprocessing import ImageFile, Preprocessing, prepare

PLAIN = Preprocessing()


def write_dicom(path: Path, pixels: np.ndarray, **elements: object) -> Path:
    """A DICOM file of unsigned 16-bit pixels (12 of them stored), with further elements."""
    pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        file.NumberOfFrames = len(pixels)
    file.SamplesPerPixel, file.PixelRepresentation = 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = pixels.astype("<u2").tobytes()
    if "FloatPixelData" in elements:
        del file.PixelData
    for name, value in elements.items():
        setattr(file, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path, values: np.ndarray) -> Path:
    """A NIfTI volume; its third axis goes from the feet to the head."""
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def shown(
    path: Path, size: int = 2, chosen: Preprocessing = PLAIN, channels: int = 1
) -> np.ndarray:
    return pixels_of(ImageFile(path), path.read_bytes(), channels, size, chosen)


def pixels_of(*arguments: Any) -> np.ndarray:
    """What `prepare` makes of an image, without its scale."""
    return prepare(*arguments)[0]
