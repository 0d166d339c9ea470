"""Examples of a record: per modality clean image, adversarial image and their amplified difference,
with predictions.

Which samples is decided by rule when the record is made: the first n, and the n whose true classes
lost most probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robustbench_med.formats.text import escaped
from robustbench_med.naming import nature
from robustbench_med.paths import write_atomically
from robustbench_med.reports.style import check_glyphs, font_of, wrapped
from robustbench_med.reports.tables import by_engine
from robustbench_med.store.store import Record, Store

SIDE, GAP, LINE, FONT = 248, 14, 30, 23
"""Pixels: a picture's longer side, between pictures, a line of text, its font."""


@dataclass(frozen=True)
class Example:
    """One sample: `clean` and `adversarial` are (C, H, W) in [0, 1], one a modality (`pictured`);
    `lines` one sentence a task.
    """

    rule: str
    sample: str
    clean: list[NDArray[np.float32]]
    adversarial: list[NDArray[np.float32]]
    lines: list[str]


def examples(store: Store[Record], record: Record) -> list[Example]:
    """The examples kept beside a record; none in records made before there were any."""
    modalities, tasks = record.names.modalities, record.names.tasks
    images = [
        f"examples_{what}_{m}" for what in ("clean", "adversarial") for m in range(len(modalities))
    ]
    outcomes = [
        f"{when}_probabilities_{t}" for when in ("clean", "robust") for t in range(len(tasks))
    ]
    arrays = store.arrays(
        record, ["ids", "labels", "examples", "examples_rule", *images, *outcomes]
    )
    kept = []
    for i, row in enumerate(arrays.get("examples", ())):
        before = [pictured(arrays[f"examples_clean_{m}"][i]) for m in range(len(modalities))]
        after = [pictured(arrays[f"examples_adversarial_{m}"][i]) for m in range(len(modalities))]
        kept.append(
            Example(
                rule=str(arrays["examples_rule"][i]),
                sample=str(arrays["ids"][row]),
                clean=[image / np.float32(255) for image in before],
                adversarial=after,
                lines=[_sentence(record, arrays, t, row) for t in range(len(tasks))],
            )
        )
    return kept


def pictured(image: NDArray[Any]) -> NDArray[np.float32]:
    """An image (C, H, W) as it is; a clinical table (D, 1, 1) as a picture (1, D, D), a row a
    coordinate from the top.
    """
    plain: NDArray[np.float32] = image.astype(np.float32)
    return plain if plain.shape[1:] != (1, 1) else np.repeat(plain.reshape(1, -1, 1), len(plain), 2)


def _sentence(record: Record, arrays: Mapping[str, NDArray[Any]], t: int, row: int) -> str:
    """What the victim saw at task t before and after the attack."""
    classes, label = record.names.classes[t], int(arrays["labels"][row, t])
    true = _quoted(classes[label]) if label >= 0 else "not labelled"
    before = _guess(arrays[f"clean_probabilities_{t}"][row], classes)
    after = _guess(arrays[f"robust_probabilities_{t}"][row], classes)
    return f"{record.names.tasks[t]}: true {true}; before {before}; after {after}"


def amplified(example: Example) -> tuple[list[NDArray[np.float32]], list[float]]:
    """Differences stretched around mid-grey so that the largest of each modality is black or white,
    and the factors.
    """
    images, factors = [], []
    for before, after in zip(example.clean, example.adversarial, strict=True):
        delta = after - before
        largest = float(np.abs(delta).max())
        factor = (
            0.5 / largest if largest > 1e-3 else 0.0
        )  # below that it is the rounding of what was kept
        images.append(0.5 + factor * delta)
        factors.append(factor)
    return images, factors


def draw(record: Record, found: list[Example]) -> Image.Image:
    """All examples of a record in one picture: a row a sample, three columns a modality.

    Pasted together pixel by pixel: matplotlib, which has nothing to scale or to place here, takes
    ten times as long.
    """
    names = record.names
    columns = 3 * len(names.modalities)
    coloured = any(image.ndim == 3 for example in found for image in map(pixels, example.clean))
    said = title(record) + "".join(line for example in found for line in example.lines)
    check_glyphs(said)
    font = ImageFont.truetype(font_of(said), FONT)
    width = GAP + columns * (SIDE + GAP)

    def broken(text: str) -> str:
        return wrapped(
            escaped(text, keep="\n"), lambda line: font.getlength(line) <= width - 2 * GAP
        )

    heading = broken(title(record))
    captions = [
        broken("\n".join((f"{example.rule}: {example.sample}", *example.lines)))
        for example in found
    ]
    head = (heading.count("\n") + 2) * LINE
    row_height = LINE + SIDE + (2 + max(caption.count("\n") for caption in captions)) * LINE
    sheet = Image.new("RGB" if coloured else "L", (width, head + row_height * len(found)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.multiline_text((width / 2, LINE / 2), heading, "black", font, "ma", align="center")
    for row, example in enumerate(found):
        top = head + LINE + row * row_height
        differences, factors = amplified(example)
        for m, name in enumerate(names.modalities):
            titles = (
                name,
                "attacked",
                f"difference x {_rounded(factors[m])}" if factors[m] else "no difference",
            )
            for i, (image, text) in enumerate(
                zip((example.clean[m], example.adversarial[m], differences[m]), titles, strict=True)
            ):
                left = GAP + (3 * m + i) * (SIDE + GAP)
                size = [
                    round(SIDE * extent / max(image.shape[1:])) for extent in image.shape[:0:-1]
                ]
                tile = Image.fromarray(pixels(image)).resize(
                    (size[0], size[1]), Image.Resampling.NEAREST
                )
                sheet.paste(tile, (left + (SIDE - size[0]) // 2, top + (SIDE - size[1]) // 2))
                pen.text((left + SIDE / 2, top - LINE / 4), text, "black", font, "ms")
        pen.multiline_text((GAP, top + SIDE + LINE / 3), captions[row], "black", font)
    return sheet


def title(record: Record) -> str:
    """Victim, attack, engine, threat model and what it aims at; data, protocol, n and the record's
    hash.
    """
    spec, attack = record.spec, by_engine(record.attack_label, record.spec.engine)
    aim = " + ".join(record.targets)
    kind = nature(spec.data.name, synthetic=record.synthetic)
    return (
        f"{spec.victim.model}, {' '.join(filter(None, [attack, record.within]))}, target {aim}\n"
        f"{spec.data.label}{kind}, {spec.data.size} px, protocol {spec.protocol.name}, n ="
        f" {spec.data.n}, record {record.short}"
    )


def save_all(store: Store[Record], records: Sequence[Record], folder: Path) -> list[Path]:
    """HASH.png of each record that has examples; returns the paths."""
    written = []
    for record in records:
        kept = examples(store, record)
        if kept:
            path = folder / f"{record.short}.png"
            save_png(record, kept, path)
            written.append(path)
    return written


def save_png(record: Record, kept: list[Example], path: Path) -> None:
    """One gallery as a PNG."""
    picture = draw(record, kept)
    write_atomically(
        path, lambda temporary: picture.save(temporary, "PNG", dpi=(150, 150), compress_level=2)
    )


def strip(example: Example) -> NDArray[np.uint8]:
    """One example as a single picture (H, W, 3): for each modality clean, attacked, difference,
    side by side.
    """
    differences, _ = amplified(example)
    tiles = []
    for images in zip(example.clean, example.adversarial, differences, strict=True):
        for image in map(pixels, images):
            rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
            tiles.append(np.pad(rgb, ((1, 1), (1, 1), (0, 0)), constant_values=255))
    tallest = max(len(tile) for tile in tiles)
    below = [((0, tallest - len(tile)), (0, 0), (0, 0)) for tile in tiles]
    padded = [np.pad(t, room, constant_values=255) for t, room in zip(tiles, below, strict=True)]
    return np.concatenate(padded, 1)


def pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(C, H, W) in [0, 1] as (H, W), or (H, W, 3) for colour, in 0..255."""
    levels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels[0] if len(levels) != 3 else levels.transpose(1, 2, 0)


def _rounded(factor: float) -> str:
    """A factor as a picture's title says it."""
    return f"{factor:.0f}" if factor >= 1 else f"{factor:.1g}"


def _guess(probabilities: NDArray[Any], classes: list[str]) -> str:
    if not np.isfinite(probabilities).all():
        return "not finite"
    best = int(probabilities.argmax())
    return f"{_quoted(classes[best])} {probabilities[best]:.0%}"


def _quoted(name: str) -> str:
    """A class's name; in quotation marks where it is a list of names, such as "normal, benign", and
    would run into its neighbours.
    """
    return f'"{name}"' if set(name) & set(",;") else name
