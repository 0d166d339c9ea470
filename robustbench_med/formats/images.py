"""The door of images that Pillow reads."""

from __future__ import annotations

import io

from PIL import Image

from robustbench_med.formats.limits import beyond, limit

Image.init()
Image.MAX_IMAGE_PIXELS = None  # the limit below is refused, not warned of
FORMATS = tuple(
    name
    for name in (
        "PNG",
        "JPEG",
        "BMP",
        "DIB",
        "GIF",
        "TIFF",
        "WEBP",
        "MPO",
        "PPM",
        "JPEG2000",
        "TGA",
    )
    if name in Image.OPEN
)
"""What is tried: none of Pillow's formats that calls another program (EPS)."""


def image_of(data: bytes) -> Image.Image:
    """The image in a file's bytes, its pixels read.

    Raises:
        Exception: it is none, or damaged; Pillow's errors have no common ancestor.
        ValueError: it has more pixels than the limit.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    check_pixels(image.width, image.height)
    image.load()
    return image


def check_pixels(width: int, height: int) -> None:
    """Refuses (ValueError) an image of more pixels than the limit."""
    if width * height > limit("image_pixels"):
        raise ValueError(f"it is {width} x {height}: {beyond('image_pixels', width * height)}")
