"""What a data set is: every input of a result changes its hash, and nothing else does."""

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.cli import medrobust
from support.medmnist import medmnist_arrays

from robustbench_med.data import Dataset, Files, load, phantoms, source
from robustbench_med.data.pairing import Component, Samples, escaped
from robustbench_med.reports.comparison.rows import clusters
from robustbench_med.store.store import Store

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


@pytest.fixture
def lesions(tmp_path: Path) -> TableSet:
    made = TableSet(tmp_path / "root")
    made.draw()
    return made


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


def move(given: TableSet) -> None:
    given.root = given.root.rename(given.root.with_name("moved"))


def duplicate(given: TableSet) -> None:
    given.root = shutil.copytree(given.root, given.root.with_name("copy"))


def turn_columns(given: TableSet) -> None:
    given.rows = [dict(reversed(row.items())) for row in given.rows]


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

SAME_DATA = {
    "nothing": lambda given: None,
    "order of rows": lambda given: given.rows.reverse(),
    "order of columns": turn_columns,
    "one more column": each_row(lambda i, row: {"age": str(i)}),
    "times": lambda given: [
        os.utime(path, (i, i)) for i, path in enumerate(given.folder.iterdir())
    ],
    "files written again": lambda given: [
        path.write_bytes(path.read_bytes()) for path in given.folder.iterdir()
    ],
    "another place": move,
    "a copy": duplicate,
    "title, source and licence": both(
        in_card("title", to="T"), in_card("url", to="elsewhere"), in_card("licence", to="CC0")
    ),
    "order of the reader's labels": in_card(
        "reader", "labels", to={"side": "side", "tumour": "label"}
    ),
}


def hashes(dataset: Dataset) -> tuple[str, str]:
    return dataset.manifest_hash, dataset.content


@pytest.mark.parametrize("fold", [None, (1, 3)])
@pytest.mark.parametrize("change", OTHER_DATA.values(), ids=OTHER_DATA)
def test_every_input_of_a_table_set_is_in_its_hashes(
    lesions: TableSet, change: Callable[[TableSet], Any], fold: tuple[int, int]
) -> None:
    before = lesions.load(fold=fold)
    change(lesions)
    after = lesions.load(fold=fold)
    assert after.manifest_hash != before.manifest_hash
    assert after.content != before.content


@pytest.mark.parametrize("change", SAME_DATA.values(), ids=SAME_DATA)
def test_what_is_no_input_is_in_no_hash(
    lesions: TableSet, change: Callable[[TableSet], Any]
) -> None:
    before, folded = hashes(lesions.load()), hashes(lesions.load(fold=(1, 3)))
    lesions.write()
    change(lesions)
    assert hashes(lesions.load()) == before
    assert hashes(lesions.load(fold=(1, 3))) == folded


def test_seeds_folds_and_the_decoder_are_in_the_hash(
    lesions: TableSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        lesions.load(),
        lesions.load(split_seed=1),
        *(lesions.load(fold=(k, n)) for k, n in ((0, 3), (1, 3), (0, 4))),
    ]
    assert len({dataset.manifest_hash for dataset in found}) == 5
    assert len({dataset.content for dataset in found}) == 2  # the same for all folds
    monkeypatch.setattr(source, "REVISION", 99)
    assert lesions.load().manifest_hash not in {dataset.manifest_hash for dataset in found}


FOLDERS = {
    "order of classes": {"classes": ["malignant", "benign"]},
    "names of classes": {"classes": ["harmless", "malignant"], "folders": {"harmless": "benign"}},
    "folders swapped": {"folders": {"benign": "malignant", "malignant": "benign"}},
    "labels by file names": {
        "folders": {"benign": "*", "malignant": "*"},
        "names": {"benign": "b*", "malignant": "m*"},
    },
    "groups": {"group": r"([bm])\d+"},
    "task": {"task": "lump"},
    "modality": {"modality": "ultrasound"},
}


@pytest.mark.parametrize("change", FOLDERS.values(), ids=FOLDERS)
def test_every_input_of_a_folder_set_is_in_its_hash(tmp_path: Path, change: dict[str, Any]) -> None:
    for part, n in (("train", 12), ("val", 4), ("test", 4)):
        for k, name in enumerate(("benign", "malignant")):
            (tmp_path / "scans" / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = np.random.default_rng([k, n, i]).integers(0, 256, (8, 8)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "scans" / part / name / f"{name[0]}{i}.png")

    def found(
        classes: Any = ("benign", "malignant"),
        task: str = "tumour",
        modality: str = "xray",
        **reader: Any,
    ) -> tuple[str, str]:
        card = CARD | {
            "id": "scans",
            "modalities": [{"name": modality, "channels": 1}],
            "tasks": [{"name": task, "classes": list(classes)}],
            "reader": {
                "kind": "folders",
                "splits": {part: part for part in ("train", "val", "test")},
                **reader,
            },
        }
        (tmp_path / "scans.yaml").write_text(yaml.safe_dump(card))
        return hashes(load(str(tmp_path / "scans.yaml"), size=8, files=Files(data_root=tmp_path)))

    before = found()
    assert (
        found() == found(folders={"benign": "benign"}) == before
    )  # the folder of a class bears its name by default
    assert set(before).isdisjoint(found(**change))


@pytest.mark.parametrize("change", ["labels", "images", "classes", "task"])
def test_every_input_of_a_medmnist_file_is_in_its_hash(tmp_path: Path, change: str) -> None:
    arrays = medmnist_arrays()
    card = CARD | {
        "tasks": [{"name": "tumour", "classes": ["malignant", "benign"]}],
        "reader": {"kind": "medmnist", "flag": "breastmnist"},
    }

    def found() -> tuple[str, str]:
        np.savez(tmp_path / "breastmnist.npz", **arrays)
        (tmp_path / "lesions.yaml").write_text(yaml.safe_dump(card))
        return hashes(
            load(
                str(tmp_path / "lesions.yaml"),
                size=28,
                files=Files(data_root=tmp_path, accept_unverified=True),
            )
        )

    before = found()
    assert found() == before
    if change in ("labels", "images"):
        arrays[f"test_{change}"] = (
            1 - arrays["test_labels"] if change == "labels" else arrays["test_images"][::-1]
        )
    else:
        card["tasks"] = [
            {"name": "lump" if change == "task" else "tumour", "classes": ["benign", "malignant"]}
        ]
    assert set(before).isdisjoint(found())


def test_the_drawing_its_labels_and_their_names_are_in_the_phantoms_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = yaml.safe_load((Path(source.__file__).parent / "cards" / "phantoms.yaml").read_text())

    def found() -> tuple[str, str]:
        (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
        return hashes(load(str(tmp_path / "card.yaml"), size=16))

    before = found()
    assert found() == before
    with monkeypatch.context() as patch:
        patch.setattr(phantoms, "VERSION", phantoms.VERSION + 1)
        assert set(before).isdisjoint(found())
    with monkeypatch.context() as patch:
        patch.setattr(phantoms.studies(16), "labels", phantoms.studies(16).labels[:, ::-1] % 3)
        assert set(before).isdisjoint(found())
    card["tasks"][0]["classes"].reverse()
    assert set(before).isdisjoint(found())


CORRECTIONS = {
    "labels": OTHER_DATA["labels swapped"],
    "order of classes": OTHER_DATA["order of classes"],
    "label column": in_card("reader", "labels", "tumour", to="second"),
}


@pytest.mark.fresh
@pytest.mark.parametrize("change", CORRECTIONS.values(), ids=CORRECTIONS)
def test_corrected_labels_make_another_victim_and_another_record(
    lesions: TableSet, tmp_path: Path, change: Callable[[TableSet], Any]
) -> None:
    """The same command, with --force and with another --out: what a fresh home gives."""
    OTHER_DATA["one task less"](lesions)
    lesions.rows = [
        row | {"second": {"ok": "sick", "sick": "ok"}[row["label"]]} for row in lesions.rows
    ]
    run = [
        "run",
        "--model",
        "late",
        "--model-param",
        "width=4",
        "--recipe",
        "steps=3",
        "--size",
        32,
        "--limit",
        8,
        "--attack",
        "fgsm",
    ]
    run += [
        "--eps",
        "1/255",
        "--no-control",
        "--data",
        lesions.root / "lesions.yaml",
        "--data-root",
        lesions.root,
    ]

    def victims(out: str, *more: object) -> set[str]:
        lesions.write()
        medrobust(*run, "--out", tmp_path / out, *more)
        return {record.spec.victim.weights_sha256 for record in Store(tmp_path / out).records()}

    wrong = victims("out")
    change(lesions)
    right = victims("out") - wrong
    assert len(right) == 1
    assert victims("out", "--force") == wrong | right
    assert victims("other") == right
    shutil.rmtree(os.environ["MEDROBUST_HOME"])
    assert victims("fresh") == right


PARTS = st.lists(st.text(st.sampled_from("+%25Ba/"), min_size=1), min_size=1, max_size=3)


def ids_of(*parts: str) -> str:
    components = tuple(
        Component((), np.zeros((1, 1), np.int64), (part,), (part,)) for part in parts
    )
    return Samples(components, np.zeros((1, len(parts)), np.int64), ()).ids[0]


@given(PARTS)
def test_the_parts_of_a_sample_can_be_told_from_its_id(parts: list[str]) -> None:
    assert [unquote(part) for part in ids_of(*parts).split("+")] == parts


def test_ids_do_not_collide_and_ordinary_ones_stay() -> None:
    assert len({ids_of(name, "x") for name in ("a+b", "a%2Bb", "a%252Bb", "a%b", "a%25b")}) == 5
    assert (
        ids_of("heads/ring/image (3).png", "chests/é_1-2.png")
        == "heads/ring/image (3).png+chests/é_1-2.png"
    )


def test_images_shared_by_samples_are_found_whatever_their_names() -> None:
    pairs = [("a+b", "1"), ("a%2Bb", "2"), ("a+b", "3"), ("a%2Bb", "4")]
    arrays = {
        "ids": np.array([ids_of(*pair) for pair in pairs]),
        "labels": np.zeros((4, 1), np.int64),
    }
    assert (
        clusters(arrays).tolist()
        == np.unique([escaped(pair[0]) for pair in pairs], return_inverse=True)[1].tolist()
    )
