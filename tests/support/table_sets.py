"""A data set of a table that tests change."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from robustbench_med.data import Dataset, Files, load

CARD: dict[str, Any] = {
    "id": "lesions",
    "title": "t",
    "modalities": [{"name": "xray", "channels": 1}],
    "tasks": [
        {"name": "tumour", "classes": ["well", "sick"]},
        {"name": "side", "classes": ["left", "right"]},
    ],
    "counts": {"total": 60},
    "url": "none",
    "licence": "none",
    "access": "none",
    "citation": "none",
    "provenance": "drawn",
    "synthetic": True,
    "reader": {
        "kind": "table",
        "tables": [{"file": "labels.csv"}],
        "images": {"xray": ["{image}"]},
        "labels": {"tumour": "label", "side": "side"},
        "values": {"ok": "well"},
        "id": "{image}",
        "group": "{patient}",
    },
}


class TableSet:
    """60 grey images, bright = sick, of 30 patients, with a table and a card that a test changes
    before it writes them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.card = copy.deepcopy(CARD)
        self.rows = [
            {
                "image": f"i{i:03d}.png",
                "label": ("ok", "sick")[i % 2],
                "side": ("left", "right")[i // 2 % 2],
                "second": ("ok", "sick")[i % 2],
                "patient": f"p{i // 2}",
            }
            for i in range(60)
        ]

    @property
    def folder(self) -> Path:
        return self.root / "lesions"

    def draw(self) -> None:
        self.folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        for i, row in enumerate(self.rows):
            Image.fromarray(
                rng.integers(90, 130, (16, 16)).astype(np.uint8) + np.uint8(60 * (i % 2))
            ).save(self.folder / row["image"])

    def load(self, **given: Any) -> Dataset:
        self.write()
        return load(
            str(self.root / "lesions.yaml"), size=16, files=Files(data_root=self.root), **given
        )

    def write(self) -> None:
        columns = list(self.rows[0])
        lines = [
            ",".join(columns),
            *(",".join(row[column] for column in columns) for row in self.rows),
        ]
        (self.folder / "labels.csv").write_text("\n".join(lines) + "\n")
        (self.root / "lesions.yaml").write_text(yaml.safe_dump(self.card))


def each_row(change: Callable[[int, dict[str, str]], dict[str, str]]) -> Callable[[TableSet], None]:
    def apply(given: TableSet) -> None:
        given.rows = [row | change(i, row) for i, row in enumerate(given.rows)]

    return apply


def one_row(**cells: str) -> Callable[[TableSet], None]:
    return each_row(lambda i, row: cells if i == 7 else {})


def in_card(*keys: Any, to: Any) -> Callable[[TableSet], None]:
    """Sets the entry that the keys lead to."""

    def apply(given: TableSet) -> None:
        place: Any = given.card
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = copy.deepcopy(to)

    return apply


def both(*changes: Callable[[TableSet], None]) -> Callable[[TableSet], None]:
    def apply(given: TableSet) -> None:
        for change in changes:
            change(given)

    return apply


def paint(given: TableSet) -> None:
    path = given.folder / "i007.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[3, 4] += 1
    Image.fromarray(pixels).save(path)


def rename(given: TableSet) -> None:
    (given.folder / "i007.png").rename(given.folder / "i907.png")
    one_row(image="i907.png")(given)


OTHER_DATA = {
    "one label": one_row(label="ok"),
    "labels swapped": each_row(
        lambda i, row: {"label": {"ok": "sick", "sick": "ok"}[row["label"]]}
    ),
    "a label taken away": one_row(label=""),
    "a label of the second task": one_row(side="left"),
    "order of classes": in_card("tasks", 0, "classes", to=["sick", "well"]),
    "a class's name": both(
        in_card("tasks", 0, "classes", to=["healthy", "sick"]),
        in_card("reader", "values", to={"ok": "healthy"}),
    ),
    "one class more": in_card("tasks", 0, "classes", to=["well", "sick", "unclear"]),
    "a task's name": both(
        in_card("tasks", 0, "name", to="cancer"),
        in_card("reader", "labels", to={"cancer": "label", "side": "side"}),
    ),
    "order of tasks": in_card("tasks", to=CARD["tasks"][::-1]),
    "one task less": both(
        in_card("tasks", to=CARD["tasks"][:1]), in_card("reader", "labels", to={"tumour": "label"})
    ),
    "label column, the same labels in it": in_card("reader", "labels", "tumour", to="second"),
    "what a value means": both(
        in_card("reader", "values", to={"ok": "sick", "sick": "well"}),
        each_row(
            lambda i, row: {"label": {"ok": "sick", "sick": "ok"}[row["label"]]}
        ),  # the same labels by another rule
    ),
    "groups": one_row(patient="p0"),
    "a pixel": paint,
    "a file's name": rename,
    "one sample less": lambda given: given.rows.pop(7),
    "a modality's name": both(
        in_card("modalities", 0, "name", to="mri"),
        in_card("reader", "images", to={"mri": ["{image}"]}),
    ),
    "a modality's channels": in_card("modalities", 0, "channels", to=3),
    "the data set's id": both(
        in_card("id", to="moles"), lambda given: (given.root / "moles").symlink_to(given.folder)
    ),
}


def hashes(dataset: Dataset) -> tuple[str, str]:
    return dataset.manifest_hash, dataset.content
