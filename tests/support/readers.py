"""Cards and files for the readers."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from robustbench_med.data import Files, card
from robustbench_med.data.source import Source, read

CLASSES = ("well", "sick")


def write_card(
    root: Path, reader: str, *, classes: str = "[well, sick]", window: str = "", total: int = 40
) -> Path:
    path = root / "scans.yaml"
    path.write_text(
        f"""id: scans
title: t
modalities: [{{name: xray, channels: 1{window}}}]
tasks: [{{name: t, classes: {classes}}}]
counts: {{total: {total}}}
url: none
licence: none
access: none
citation: none
provenance: drawn
synthetic: true
reader: {reader}
""",
        encoding="utf-8",
    )
    return path


def put(root: Path, name: str, value: int = 100) -> Path:
    path = root / "scans" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 3, (4, 4))
    Image.fromarray((value + noise).astype(np.uint8)).save(path, "PNG")
    return path


def table(
    root: Path,
    text: str,
    reader: str = "images: {xray: ['{image}']}, labels: {t: label}, id: '{image}'",
) -> Path:
    (root / "scans").mkdir(exist_ok=True)
    (root / "scans/labels.csv").write_text(text, encoding="utf-8")
    return write_card(root, "{kind: table, tables: [{file: labels.csv}], " + reader + "}")


def rows_of(n: int = 20, image: str = "i{i}.png", end: str = "") -> str:
    return "image,label\n" + "".join(
        f"{image.format(i=i)},{CLASSES[i % 2]}{end}\n" for i in range(n)
    )


def opened(path: Path, **given: object) -> Source:
    return read(card(str(path)), size=4, files=Files(path.parent, **given))
