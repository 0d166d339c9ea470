"""Examples of a record: per modality clean image, adversarial image and their amplified difference, with predictions.

Which samples is decided by rule when the record is made: the first n, and the n whose true classes lost most probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_med.reports import style
from robustbench_med.spec import radius_label
from robustbench_med.store import Record, Store


@dataclass(frozen=True)
class Example:
    """One sample: `clean` and `adversarial` are (C, H, W) in [0, 1], one a modality; `lines` one sentence a task."""

    rule: str
    sample: str
    clean: list[NDArray[np.float32]]
    adversarial: list[NDArray[np.float32]]
    lines: list[str]


def examples(store: Store, record: Record) -> list[Example]:
    """The examples kept beside a record; none in records made before there were any."""
    modalities, tasks, classes = (record["names"][key] for key in ("modalities", "tasks", "classes"))
    images = [f"examples_{what}_{m}" for what in ("clean", "adversarial") for m in range(len(modalities))]
    outcomes = [f"{when}_probabilities_{t}" for when in ("clean", "robust") for t in range(len(tasks))]
    arrays = store.arrays(record, ["ids", "labels", "examples", "examples_rule", *images, *outcomes])
    found = []
    for i, row in enumerate(arrays.get("examples", ())):
        lines = []
        for t, task in enumerate(tasks):
            label = int(arrays["labels"][row, t])
            true = classes[t][label] if label >= 0 else "not labelled"
            before, after = arrays[f"clean_probabilities_{t}"][row], arrays[f"robust_probabilities_{t}"][row]
            lines.append(f"{task}: true {true}; before {_guess(before, classes[t])}; after {_guess(after, classes[t])}")
        found.append(
            Example(
                str(arrays["examples_rule"][i]),
                str(arrays["ids"][row]),
                [arrays[f"examples_clean_{m}"][i].astype(np.float32) / 255 for m in range(len(modalities))],
                [arrays[f"examples_adversarial_{m}"][i].astype(np.float32) for m in range(len(modalities))],
                lines,
            )
        )
    return found


def amplified(example: Example) -> tuple[list[NDArray[np.float32]], list[float]]:
    """Differences stretched around mid-grey so that the largest of each modality is black or white, and the factors."""
    images, factors = [], []
    for before, after in zip(example.clean, example.adversarial, strict=True):
        delta = after - before
        largest = float(np.abs(delta).max())
        factor = 0.5 / largest if largest > 1e-3 else 0.0  # below that it is the rounding of what was kept
        images.append(0.5 + factor * delta)
        factors.append(factor)
    return images, factors


def draw(record: Record, found: list[Example]) -> Figure:
    """All examples of a record in one figure: a row a sample, three columns a modality."""
    names, spec = record["names"], record["spec"]
    columns = 3 * len(names["modalities"])
    lines = 1 + len(names["tasks"])
    height = (2.0 + 0.2 * lines) * len(found) + 0.9
    figure, axes = plt.subplots(len(found), columns, figsize=(1.75 * columns, height), squeeze=False)
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.85 / height, bottom=(0.2 + 0.2 * lines) / height, wspace=0.05, hspace=0.2 + 0.12 * lines
    )
    for axis in axes.flat:
        axis.axis("off")
    for row, example in zip(axes, found, strict=True):
        differences, factors = amplified(example)
        for m, name in enumerate(names["modalities"]):
            titles = (name, "attacked", f"difference x {factors[m]:.0f}" if factors[m] else "no difference")
            for axis, image, title in zip(
                row[3 * m : 3 * m + 3], (example.clean[m], example.adversarial[m], differences[m]), titles, strict=True
            ):
                axis.imshow(pixels(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axis.set_title(title, fontsize=11)
        caption = "\n".join((f"{example.rule}: {example.sample}", *example.lines))
        row[0].text(0, -0.06, caption, fontsize=11, va="top", transform=row[0].transAxes)
    threat = f"{spec['threat']['norm']} {radius_label(spec['threat']['radii'], names['modalities'])}"
    synthetic = " (synthetic)" if record["synthetic"] else ""
    aim = " + ".join(names["tasks"][t] for t in spec["threat"]["tasks"])
    figure.suptitle(
        f"{spec['victim']['model']}, {spec['attack']['name']} {threat}, target {aim}\n{spec['data']['name']}{synthetic}, "
        f"{spec['data']['size']} px, protocol {spec['protocol']['name']}, record {record['hash'][:12]}",
        fontsize=12,
        y=1 - 0.12 / height,
    )
    return figure


def write(store: Store, records: Sequence[Record], folder: Path) -> list[Path]:
    """HASH.png of each record that has examples; returns the paths."""
    written = []
    for record in records:
        found = examples(store, record)
        if found:
            path = folder / f"{record['hash'][:12]}.png"
            save(record, found, path)
            written.append(path)
    return written


def save(record: Record, found: list[Example], path: Path) -> None:
    """One gallery as a PNG."""
    with plt.rc_context(style.STYLE):
        style.save(draw(record, found), path)


def strip(example: Example) -> NDArray[np.uint8]:
    """One example as a single picture (H, W, 3): for each modality clean, attacked, difference, side by side."""
    differences, _ = amplified(example)
    tiles = []
    for images in zip(example.clean, example.adversarial, differences, strict=True):
        for image in map(pixels, images):
            rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
            tiles.append(np.pad(rgb, ((1, 1), (1, 1), (0, 0)), constant_values=255))
    return np.concatenate(tiles, 1)


def pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(C, H, W) in [0, 1] as (H, W), or (H, W, 3) for colour, in 0..255."""
    levels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels[0] if len(levels) != 3 else levels.transpose(1, 2, 0)


def _guess(probabilities: NDArray[Any], classes: list[str]) -> str:
    best = int(probabilities.argmax())
    return f"{classes[best]} {probabilities[best]:.0%}"
