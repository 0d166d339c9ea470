"""A small honest data set that hostile files are put into."""

from __future__ import annotations

import copy
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ("benign", "malignant")
PER_CLASS = 12
CARD: dict[str, Any] = {
    "id": "small",
    "title": "small",
    "modalities": [{"name": "xray", "channels": 1}],
    "tasks": [{"name": "tumour", "classes": list(CLASSES)}],
    "counts": {"total": 2 * PER_CLASS},
    "url": "none",
    "licence": "MIT",
    "access": "made by a test",
    "citation": "none",
    "reader": {"kind": "folders"},
    "provenance": "made by a test",
}
TABLE = {
    "kind": "table",
    "tables": [{"file": "all.csv"}],
    "images": {"xray": ["{file}"]},
    "labels": {"tumour": "label"},
    "id": "{file}",
}


def card(**fields: Any) -> dict[str, Any]:
    """The card with other fields."""
    return copy.deepcopy(CARD) | fields


def table_card(**reader: Any) -> dict[str, Any]:
    """The card of a table of the same images."""
    return card(reader=copy.deepcopy(TABLE) | reader)


@functools.cache
def png(seed: int, size: int = 20) -> bytes:
    """A picture of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, described: dict[str, Any] | str | None = None) -> Path:
    """The images below `small`, and the card `small.yaml`; returns the folder of a class."""
    for label, name in enumerate(CLASSES):
        target = folder / "small" / name
        target.mkdir(parents=True)
        for i in range(PER_CLASS):
            (target / f"{i}.png").write_bytes(png(100 * label + i))
    text = described if isinstance(described, str) else yaml.safe_dump(described or CARD)
    (folder / "small.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    return target


def write_table(folder: Path, described: dict[str, Any], text: str | bytes | None = None) -> None:
    """The images, a table of them and its card."""
    write(folder, described)
    rows = [f"{name}/{i}.png,{name}" for name in CLASSES for i in range(PER_CLASS)]
    content = "\n".join(["file,label", *rows]) if text is None else text
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    (folder / "small" / "all.csv").write_bytes(data)


VERIFY = ("data", "verify", "small.yaml", "--data-root", ".", "--no-look", "--quiet")
