"""Every input of a data set is in its hash: folders, MedMNIST, phantoms, corrected labels, ids."""

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
from support.files import SHARED_DATA, needs_real_data
from support.medmnist import medmnist_arrays
from support.table_sets import (
    CARD,
    OTHER_DATA,
    TableSet,
    hashes,
    in_card,
)

from robustbench_med.data import Files, card, ids, load, phantoms, source
from robustbench_med.data.samples import Component, Samples, escaped
from robustbench_med.reports.comparison.rows import clusters
from robustbench_med.store.store import Store

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


CONTENTS = {
    "phantoms": "30cb6a0fd83f282c",
    "phantoms-paired": "7ea933a100dfaf8a",
    "brats2020": "cf5a6d6ac75f3be9",
    "brats2021": "b1dae54f03209e3e",
    "chexpert": "3b8e239d6eeed5b3",
    "derm7pt": "c9793c2dfe5cdccf",
    "gamma": "503c49e161783f73",
    "ham10000-clinic": "a360e5f5c958aaf6",
    "bloodmnist": "0aed86b837d0eaf7",
    "br35h": "45911e838eea8c9c",
    "breastmnist": "0f7277f8dc7ed60b",
    "busi": "2d5b6148fff705b0",
    "c-nmc-2019": "a80e1a27bfc2e3d2",
    "cbis-ddsm": "0e556adbc9a06828",
    "chestmnist": "2981776fd0ed65f7",
    "covid-cxr": "242aa52b9db8b414",
    "cxr-pneumonia": "3d7b3f228782b4a8",
    "dermamnist": "31f94452d9d7f3f3",
    "ham10000": "c6349dabdc58fa72",
    "iq-othnccd": "64cede1dbe6635f7",
    "nickparvar-mri": "0f930db3c5eec5ec",
    "octmnist": "5f2622ebf598749c",
    "organamnist": "fcc1666bd13ab91f",
    "organcmnist": "b546283b6e22a21d",
    "organsmnist": "34e0181bf3e76bc7",
    "pathmnist": "98949af269f25830",
    "pneumoniamnist": "bbfb0d161bd4ee60",
    "retinamnist": "b2cbc2a802ec47b1",
    "sars-cov-2-ct": "dc380a0e52e4fc34",
    "sartaj-mri": "39e13fca1595d96c",
    "shenzhen-tb": "b611db934de477d8",
    "sipakmed": "3c80c06674f529e8",
    "skin-cancer-isic": "f14e9f5231a7a731",
    "tissuemnist": "89d960fb428ee255",
    "wce-colon": "0f64962224f141a8",
}
"""The first 16 digits of the content hash of six samples under each shipped card."""


@pytest.mark.parametrize("name", ids())
def test_what_the_hashes_take_from_a_shipped_card_does_not_change(name: str) -> None:
    each, rows = card(name), tuple(f"{name}/{i}" for i in range(6))
    labels = np.zeros((6, len(each.tasks)), np.int64)
    made = source.Source(each, rows, (), labels, rows, ("",) * 6, "drawn by a test")
    assert made.content[:16] == CONTENTS[name]


@needs_real_data
def test_the_hashes_of_real_files_do_not_change() -> None:
    files = Files(data_root=SHARED_DATA, accept_unverified=True)
    paired = load("breastmnist+pneumoniamnist", size=28, files=files)
    assert paired.manifest_hash[:16] == "033e77eac35a2b8c"
    assert paired.content[:16] == "7c9299073a21f987"


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


@pytest.mark.slow
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
