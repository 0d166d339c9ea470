"""DICOM and NIfTI files that are none, lie about themselves, or want all memory."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from support.hostile import sets
from support.hostile.case import DONE, Case, cuts
from support.hostile.images import VERIFY
from support.scans import write_dicom

PIXELS = np.arange(24 * 24).reshape(24, 24) % 4096


def dicom(folder: Path, **elements: Any) -> bytes:
    """An honest DICOM file with other elements."""
    path = write_dicom(folder / "made.dcm", PIXELS, **elements)
    data = path.read_bytes()
    path.unlink()
    return data


def nifti(shape: tuple[int, ...] = (12, 12, 4)) -> bytes:
    """An honest NIfTI volume."""
    import nibabel

    volume = np.random.default_rng(0).integers(0, 255, shape).astype(np.int16)
    return bytes(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes())


def _headers() -> Iterator[tuple[str, bytes]]:
    """Single fields of a NIfTI header that lie."""
    honest = nifti()
    fields: tuple[tuple[str, int, str, tuple[Any, ...]], ...] = (
        ("size of header", 0, "<i", (0, 347, -1, 2**31 - 1)),
        ("dimensions", 40, "<h", (-1, 0, 8, 99, 32767)),
        ("width", 42, "<h", (-1, 0, 32767)),
        ("height", 44, "<h", (-5, 0, 32767)),
        ("slices", 46, "<h", (-1, 0, 32767)),
        ("type", 70, "<h", (0, 1, 7, 255, 9999)),
        ("offset", 108, "<f", (1e9, float("nan"), float("inf"), 1e30)),
        ("slope", 112, "<f", (float("nan"),)),
        ("magic", 344, "4s", (b"nope", b"\0\0\0\0")),
    )
    for field, at, form, values in fields:
        for value in values:
            changed = bytearray(honest)
            struct.pack_into(form, changed, at, value)
            if field != "slope":
                yield f"nifti: {field} {value!r}", bytes(changed)
    for name, wide in {"all": (32767,) * 7, "five": (1000,) * 5}.items():
        changed = bytearray(honest)
        struct.pack_into("<8h", changed, 40, len(wide), *wide, *[1] * (7 - len(wide)))
        yield f"nifti: {name} dimensions are large", bytes(changed)
    empty = bytearray(nifti((4, 4, 2)))
    yield "nifti: float of no numbers", _floats(np.full((4, 4, 2), np.nan, np.float32))
    yield "nifti: infinities", _floats(np.full((4, 4, 2), np.inf, np.float32))
    yield "nifti: one dimension", nifti((9,))
    yield "nifti: two dimensions", nifti((9, 9))
    yield "nifti: no slice", nifti((9, 9, 0))
    yield "nifti: five dimensions", nifti((3, 3, 3, 2, 2))
    yield "nifti: colours", bytes(empty[:70]) + struct.pack("<h", 128) + bytes(empty[72:])


def _floats(volume: np.ndarray) -> bytes:
    import nibabel

    return bytes(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes())


DICOM: dict[str, dict[str, Any]] = {
    "no rows": {"Rows": 0}, "65,535 squared": {"Rows": 65535, "Columns": 65535}, "no columns": {"Columns": 0}, "bits 0": {"BitsAllocated": 0},
    "bits 7": {"BitsAllocated": 7}, "bits 64": {"BitsAllocated": 64}, "stored more than allocated": {"BitsStored": 64}, "two samples": {"SamplesPerPixel": 2},
    "65,535 samples": {"SamplesPerPixel": 65535}, "colours that are none": {"PhotometricInterpretation": "PURPLE"}, "RGB of one": {"PhotometricInterpretation": "RGB"},
    "palette without one": {"PhotometricInterpretation": "PALETTE COLOR"}, "2^31 frames": {"NumberOfFrames": 2**31 - 1}, "a million frames": {"NumberOfFrames": 1_000_000},
    "frames of -1": {"NumberOfFrames": -1}, "no pixels": {"PixelData": b""}, "half of the pixels": {"PixelData": bytes(100)},
    "planar 7": {"SamplesPerPixel": 3, "PlanarConfiguration": 7}, "window of width 0": {"WindowCenter": 1, "WindowWidth": 0},
    "window of -1": {"WindowCenter": 1, "WindowWidth": -1}, "YBR of one": {"PhotometricInterpretation": "YBR_FULL"},
    "a function that is none": {"WindowCenter": 1, "WindowWidth": 5, "VOILUTFunction": "PURPLE"},
    "representation 9": {"PixelRepresentation": 9}, "slope nan": {"RescaleSlope": "nan", "RescaleIntercept": "0"},
    "slope inf": {"RescaleSlope": "inf", "RescaleIntercept": "0"},
}  # fmt: skip
SYNTAXES = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
            "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.5", "1.2.3.4.5", "")  # fmt: skip


def _dicoms(folder: Path) -> Iterator[tuple[str, bytes]]:
    honest = dicom(folder)
    for name, data in cuts(honest, 24):
        if len(data) > 132:
            yield f"dicom: {name}", data
    for name, elements in DICOM.items():
        try:
            yield f"dicom: {name}", dicom(folder, **elements)
        except Exception:
            continue  # pydicom itself does not write it
    old = b"1.2.840.10008.1.2.1\0"
    for syntax in SYNTAXES:
        new = syntax.encode().ljust(len(old), b"\0")[: len(old)]
        yield f"dicom: syntax {syntax!r}", honest.replace(old, new)
    for at in (4, 60, 200, 1500):
        yield (
            f"dicom: lengths of 4 GB at {at}",
            honest[: 132 + at % 300] + b"\xff" * 8 + honest[140 + at % 300 :],
        )
    yield (
        "dicom: a sequence in itself",
        honest[:132] + b"\x08\x00\x05\x11SQ\0\0\xff\xff\xff\xff" * 3000,
    )
    yield "dicom: nothing but its mark", bytes(128) + b"DICM"
    yield (
        "dicom: a mark and noise",
        bytes(128) + b"DICM" + bytes((i * 91) % 256 for i in range(5000)),
    )


def _gzips() -> Iterator[tuple[str, bytes]]:
    packed = gzip.compress(nifti())
    for name, data in cuts(packed, 8):
        yield f"nii.gz: {name}", data
    for at in (2, 3, len(packed) // 2, len(packed) - 6):
        changed = bytearray(packed)
        changed[at] ^= 0xFF
        yield f"nii.gz: byte {at} flipped", bytes(changed)
    yield "nii.gz: a bomb of zeros", _bomb(4096, b"")
    head = bytearray(nifti()[:352])
    struct.pack_into("<8h", head, 40, 3, 2000, 2000, 1000, 1, 1, 1, 1)
    yield "nii.gz: a bomb with a header", _bomb(4096, bytes(head))
    yield "nii.gz: gzip in gzip", gzip.compress(packed)
    yield "nii.gz: nothing", gzip.compress(b"")
    yield "nii.gz: text", gzip.compress(b"no volume" * 100)
    yield "nii.gz: zip", b"PK\x03\x04" + bytes(100)


def _bomb(mib: int, head: bytes) -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.write(head)
        for _ in range(mib):
            packed.write(bytes(1 << 20))
    return file.getvalue()


def _volumes() -> Iterator[tuple[str, bytes]]:
    for name, data in cuts(nifti(), 12):
        yield f"nifti: {name}", data
    yield from _headers()
    yield "nifti: zeros", bytes(5000)
    yield "nifti: text", b"no volume\n" * 60


def cases() -> list[Case]:
    """All unreadable, all named, the set read without them."""
    import tempfile

    def case(name: str, file: str, data: bytes) -> Case:
        def make(folder: Path) -> None:
            (sets.write(folder) / file).write_bytes(data)

        return Case(name, VERIFY, make, DONE, (f"malignant/{file}", "unreadable"))

    made: list[Case] = []
    with tempfile.TemporaryDirectory() as folder:
        made += [case(name, "x.dcm", data) for name, data in _dicoms(Path(folder))]
    made += [case(name, "x.nii", data) for name, data in _volumes()]
    made += [case(name, "x.nii.gz", data) for name, data in _gzips()]
    return made
