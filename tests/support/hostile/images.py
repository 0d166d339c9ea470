"""Images that are none, or too large, among honest ones: each is counted as unreadable and named."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from support.hostile import sets
from support.hostile.case import DONE, Case, cuts

FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "webp": "WEBP"}
VERIFY = (*sets.VERIFY, "--json")


def picture(form: str, size: int = 24) -> bytes:
    """An honest picture of a format."""
    pixels = np.random.default_rng(7).integers(0, 256, (size, size), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"", *more: bytes
) -> bytes:
    """A PNG file that says so of itself."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(data))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + body + chunk(b"IEND", b"")
    )


def tiff(**tags: int) -> bytes:
    """A TIFF file of one row of tags."""
    known = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offset": 273, "samples": 277, "rows": 278, "count": 279}  # fmt: skip
    values = {"width": 8, "height": 8, "bits": 8, "compression": 1, "photometric": 1, "offset": 200, "samples": 1, "rows": 8, "count": 64} | tags  # fmt: skip
    entries = b"".join(
        struct.pack("<HHII", known[name], 4, 1, value & 0xFFFFFFFF)
        for name, value in sorted(values.items(), key=lambda item: known[item[0]])
    )
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(values)) + entries + bytes(4)
    return head.ljust(200, b"\0") + bytes(64)


def _files() -> Iterator[tuple[str, str, bytes]]:
    for suffix, form in FORMATS.items():
        honest = picture(form)
        for name, data in cuts(honest, 8):
            yield f"{suffix}: {name}", f"x.{suffix}", data
        yield (
            f"{suffix}: its beginning flipped",
            f"x.{suffix}",
            bytes(b ^ 0xFF for b in honest[:16]) + honest[16:],
        )
        yield f"{suffix}: zeros", f"x.{suffix}", bytes(4000)
        yield f"{suffix}: text", f"x.{suffix}", b"not an image\n" * 40
        yield f"{suffix}: HTML", f"x.{suffix}", b"<!DOCTYPE html><html><body>denied"
    for width, height in (
        (0, 10),
        (10, 0),
        (0, 0),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (30_000, 30_000),
        (2**31 - 1, 2**31 - 1),
        (100_000, 100_000),
        (2**32 - 1, 2**32 - 1),
        (20_000, 20_000),
    ):
        yield f"png of {width} x {height}", "x.png", png(width, height, data=bytes(1000))
    for depth, colour in ((3, 0), (16, 3), (8, 1), (8, 5), (0, 0), (255, 255), (4, 2)):
        yield (
            f"png of depth {depth}, colour {colour}",
            "x.png",
            png(8, 8, depth, colour, bytes(600)),
        )
    yield "png bomb", "x.png", png(14_000, 14_000, data=bytes(14_001 * 14_000))
    yield (
        "png with a bomb of text",
        "x.png",
        png(8, 8, 8, 0, bytes(72), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 27)))),
    )
    yield (
        "png with a bomb of a profile",
        "x.png",
        png(8, 8, 8, 0, bytes(72), chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1 << 27))))[:-30],
    )
    yield (
        "png without data",
        "x.png",
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
        + chunk(b"IEND", b""),
    )
    yield (
        "png with a wrong checksum",
        "x.png",
        png(8, 8, data=bytes(72))[:29] + b"\0\0\0\0" + png(8, 8, data=bytes(72))[33:],
    )
    yield "png with too little data", "x.png", png(64, 64, data=b"\0")
    for name, tags in {"width 0": {"width": 0}, "huge": {"width": 2**31, "height": 2**31}, "no such compression": {"compression": 77}, "data beyond": {"offset": 10**9},
                       "1,000 samples": {"samples": 1000}, "bits 7": {"bits": 7}, "photometric 99": {"photometric": 99},
                       "60,000 squared": {"width": 60_000, "height": 60_000}}.items():  # fmt: skip
        yield f"tiff: {name}", "x.tif", tiff(**tags)
    for suffix in ("png", "jpg", "tif"):
        yield (
            f"{suffix}: eps inside",
            f"x.{suffix}",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        )
        yield (
            f"{suffix}: svg inside",
            f"x.{suffix}",
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        )
        yield f"{suffix}: pdf inside", f"x.{suffix}", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj"
    yield (
        "bmp of 2^31",
        "x.bmp",
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield (
        "bmp of negative width",
        "x.bmp",
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, -5, 5, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield (
        "gif of 65,535 squared",
        "x.gif",
        b"GIF89a"
        + struct.pack("<HH", 65535, 65535)
        + b"\x80\0\0"
        + bytes(6)
        + b"\x2c"
        + struct.pack("<HHHH", 0, 0, 65535, 65535)
        + b"\0\x02\x02\x44\x01\0;",
    )
    for mode in ("F", "I;16"):
        file = io.BytesIO()
        values = np.full((8, 8), np.nan, np.float32) if mode == "F" else np.zeros((8, 8), np.uint16)
        if mode == "F":
            Image.fromarray(values).save(file, "TIFF")
            yield "tiff of no numbers", "x.tif", file.getvalue()


def _places() -> Iterator[tuple[str, Callable[[Path], object]]]:
    yield "a pipe", lambda folder: os.mkfifo(folder / "x.png")
    yield "zeros without end", lambda folder: (folder / "x.png").symlink_to("/dev/zero")
    yield "random bytes without end", lambda folder: (folder / "x.png").symlink_to("/dev/urandom")
    yield "a terminal", lambda folder: (folder / "x.png").symlink_to("/dev/tty")
    yield "a link to itself", lambda folder: (folder / "x.png").symlink_to("x.png")
    yield "a link to nothing", lambda folder: (folder / "x.png").symlink_to("absent.png")
    yield (
        "a sparse file of 100 GB",
        lambda folder: os.truncate(_touched(folder / "x.png"), 100 << 30),
    )
    yield "a sparse file of 3 GB", lambda folder: os.truncate(_touched(folder / "x.png"), 3 << 30)


def _touched(path: Path) -> Path:
    path.touch()
    return path


def cases() -> list[Case]:
    """All unreadable, all named, the set read without them."""

    def made(make: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda folder: make(sets.write(folder))

    found = [
        Case(name, VERIFY, made(lambda f, n=file, d=data: (f / n).write_bytes(d)), DONE, (f"malignant/{file}", "unreadable"))
        for name, file, data in _files()
    ]  # fmt: skip
    found += [
        Case(name, VERIFY, made(make), DONE, ("malignant/x.png", "unreadable"))
        for name, make in _places()
    ]
    loop = Case(
        "a folder that holds itself",
        VERIFY,
        made(lambda f: (f / "again").symlink_to(f.parent)),
        DONE,
    )
    return [*found, loop]
