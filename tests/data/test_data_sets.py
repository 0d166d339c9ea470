"""Every card against a miniature of its published archive: what is a sample, its label, its group,
its split.
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.files import ROOT
from support.miniatures import TREES, medmnist
from support.paired_miniatures import PAIRED_TREES

from robustbench_med.data import Files, card, ids, load, suites
from robustbench_med.data.archive import import_files
from robustbench_med.data.cards import CARDS, MedMNISTReader
from robustbench_med.data.listing import SPLITS
from robustbench_med.data.source import read
from robustbench_med.data.splits import make_manifest
from robustbench_med.errors import UserError

MEDMNIST = [name for name in ids() if isinstance(card(name).reader, MedMNISTReader)]


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_the_registry_holds_the_twenty_and_the_extras_and_each_has_a_miniature() -> None:
    assert {*TREES, *PAIRED_TREES, *MEDMNIST, "phantoms", "phantoms-paired"} == set(ids())
    twenty = [name for name in ids() if card(name).twenty]
    assert len(twenty) == 20
    extras = {
        "breastmnist",
        "chestmnist",
        "pneumoniamnist",
        "dermamnist",
        "retinamnist",
        "organcmnist",
        "organsmnist",
        "phantoms",
        "phantoms-paired",
        *PAIRED_TREES,
    }
    assert set(ids()) - set(twenty) == extras


@pytest.mark.parametrize("name", ids())
def test_a_card_is_complete(name: str) -> None:
    each, fields = card(name), yaml.safe_load((CARDS / f"{name}.yaml").read_text())
    assert each.id == name
    if name.startswith("phantoms"):
        return
    wanted = {
        "title",
        "description",
        "tasks",
        "counts",
        "url",
        "licence",
        "access",
        "citation",
        "obtain",
        "tree",
        "split",
        "provenance",
        "known_defects",
    }
    assert wanted <= set(fields)
    assert any(
        step.startswith(("medrobust data import", "medrobust data fetch"))
        or "medrobust data import" in step
        for step in each.obtain
    )


@pytest.mark.parametrize("name", MEDMNIST)
def test_a_medmnist_card_names_the_published_file_of_each_resolution(name: str) -> None:
    reader = card(name).reader
    assert isinstance(reader, MedMNISTReader)
    assert reader.flag == name
    assert {size: file.url for size, file in reader.files.items()} == {
        size: f"https://zenodo.org/records/10519652/files/{name}{suffix}.npz?download=1"
        for size, suffix in ((28, ""), (64, "_64"), (128, "_128"), (224, "_224"))
    }
    others = [card(other).reader for other in MEDMNIST if other != name]
    known = {file.md5 for other in others for file in other.files.values()}
    assert len(known | {file.md5 for file in reader.files.values()}) == 4 * len(MEDMNIST)


def medmnist_info() -> dict[str, Any]:
    """What the package `medmnist` would hold, made of the cards."""
    info = {}
    for name in MEDMNIST:
        each = card(name)
        assert isinstance(each.reader, MedMNISTReader)
        names = [text.removeprefix("grade ") for text in each.tasks[0].classes]
        names = [task.name for task in each.tasks] if each.multilabel else names
        info[name] = {
            "n_samples": dict(each.counts),
            "n_channels": each.modalities[0].channels,
            "license": each.licence,
            "label": {str(k): text for k, text in enumerate(names)},
        }
        for size, file in each.reader.files.items():
            suffix = "" if size == 28 else f"_{size}"
            info[name] |= {f"url{suffix}": file.url, f"MD5{suffix}": file.md5}
    return info


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("MD5_64", "0" * 32, "md5 of 64 px"),
        ("url", "https://elsewhere/x.npz", "url of 28 px"),
        ("n_samples", {"train": 1, "val": 1, "test": 1}, "counts"),
        ("label", {"0": "normal, benign", "1": "malignant"}, "classes"),
        ("n_channels", 3, "channels"),
    ],
)
def test_the_script_that_compares_the_cards_with_medmnists_package_tells_a_difference(
    tmp_path: Path, key: str, value: object, named: str
) -> None:
    def compared(info: dict[str, Any]) -> tuple[int, str]:
        (tmp_path / "info.py").write_text(f"INFO = {info!r}\n")
        done = subprocess.run(
            [sys.executable, ROOT / "benchmarks/medmnist_facts.py", "--info", tmp_path / "info.py"],
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    info = medmnist_info()
    info["breastmnist"][key] = value
    code, said = compared(info)
    assert code == 1
    assert len(said.splitlines()) == 1
    assert said.startswith(f"breastmnist: {named}: ")
    if key == "url":
        del info["retinamnist"], info["breastmnist"]
        assert compared(medmnist_info())[0] == 0
        assert compared(info)[1].count("MedMNIST has no set") == 2


@pytest.mark.parametrize("name", [*TREES, *PAIRED_TREES])
def test_a_published_archive_is_imported_and_read_as_it_is_meant(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {**TREES, **PAIRED_TREES}[name](folder(tmp_path / "archive"))
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "archive")
    (tmp_path / "root").mkdir()
    files = Files(data_root=tmp_path / "root")
    import_files(card(name), [Path(archive)], files)
    source = read(card(name), size=8, files=files)
    found = {
        sample.removeprefix(f"{name}/"): (
            int(label),
            None if group == sample else group.removeprefix(f"{name}/"),
            split,
        )
        for sample, label, group, split in zip(
            source.ids, source.labels[:, 0], source.groups, source.published, strict=True
        )
    }
    # a table's group is the table's; a folder's is its own where no group is published
    assert found == {
        key: (label, group if group != key else None, split)
        for key, (label, group, split) in expected.items()
    }
    assert source.unreadable == ()
    assert source.images[0][np.arange(len(source.ids))].shape == (
        len(expected),
        card(name).modalities[0].channels,
        8,
        8,
    )

    manifest = make_manifest(source, 0)
    part = {sample: split for split in SPLITS for sample in getattr(manifest, split)}
    assert len(part) == len(expected) == sum(len(getattr(manifest, split)) for split in SPLITS)
    if any(source.published):
        assert {s for s in part if part[s] == "test"} == {
            s for s, p in zip(source.ids, source.published, strict=True) if p == "test"
        }
    else:
        groups = {
            (group, part[sample]) for sample, group in zip(source.ids, source.groups, strict=True)
        }
        assert len(groups) == len(set(source.groups))

    walk = os.walk

    def shuffled(*given, **options):
        for top, folders, names in walk(*given, **options):
            random.Random(1).shuffle(folders)
            random.Random(2).shuffle(names)
            yield top, folders, names

    monkeypatch.setattr(os, "walk", shuffled)
    again = read(card(name), size=8, files=files)
    assert again.ids == source.ids
    assert make_manifest(again, 0).hash == manifest.hash


@pytest.mark.parametrize("name", MEDMNIST)
def test_a_medmnist_file_is_read_in_its_published_order(name: str, tmp_path: Path) -> None:
    expected = medmnist(tmp_path, name)
    source = read(card(name), size=28, files=Files(data_root=tmp_path, accept_unverified=True))
    assert [sample.removeprefix(f"{name}/") for sample in source.ids] == list(expected)
    assert source.labels[:, 0].tolist() == [label for label, _, _ in expected.values()]
    arrays = np.load(tmp_path / f"{name}.npz")
    images = np.concatenate([arrays[f"{split}_images"] for split in SPLITS])
    found = source.images[0][np.arange(len(images))]
    assert np.array_equal(found, images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1))


def test_the_dicom_download_of_cbis_ddsm_is_read_too(tmp_path: Path) -> None:
    from support.scans import write_dicom

    root = tmp_path / "cbis-ddsm"
    expected = TREES["cbis-ddsm"](folder(root))
    for series in (root / "jpeg").iterdir():
        shutil.rmtree(series)
    for key in expected:
        case = root / "CBIS-DDSM" / key.split("/")[0]
        write_dicom(
            case / "08-07-2016-DDSM-NA-1/1.000000-full mammogram images-2/1-1.dcm",
            np.full((6, 5), len(key)),
        )
        write_dicom(
            case / "08-07-2016-DDSM-NA-1/1.000000-ROI mask images-3/1-2.dcm", np.full((6, 5), 0)
        )
    source = read(card("cbis-ddsm"), size=8, files=Files(data_root=tmp_path))
    assert {s.removeprefix("cbis-ddsm/") for s in source.ids} == set(expected)
    assert source.unreadable == ()


def test_rows_without_files_are_counted_and_unknown_labels_refused(tmp_path: Path) -> None:
    root = tmp_path / "ham10000"
    TREES["ham10000"](folder(root))
    for path in root.rglob("ISIC_0024330.*"):
        path.unlink()
    source = read(card("ham10000"), size=8, files=Files(data_root=tmp_path))
    assert len(source.ids) == 83
    assert any("1 rows without their files: ISIC_0024330" in note for note in source.notes)
    table = root / "HAM10000_metadata.csv"
    table.write_text(table.read_text().replace(",mel,", ",melanoma,", 1))
    with pytest.raises(UserError, match=r"line \d+: dx is 'melanoma', expected one of akiec"):
        read(card("ham10000"), size=8, files=Files(data_root=tmp_path))


def test_a_paired_tree_of_volumes_gives_slices_of_every_sequence(tmp_path: Path) -> None:
    """As BraTS is laid out: a folder a patient, a file a sequence, a table with the grade; one
    patient lacks a sequence.
    """
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    lines = ["Grade,BraTS_2020_subject_ID,Survival"]
    for i in range(1, 26):
        subject = f"BraTS20_Training_{i:03d}"
        lines.append(
            f"{'HGG' if i % 2 else 'LGG'},{subject},{'' if i == 4 else ('short', 'long')[i % 3 == 0]}"
        )
        study = tmp_path / "brats" / "MICCAI_BraTS2020_TrainingData" / subject
        study.mkdir(parents=True)
        for sequence in ("flair", "t1ce", "seg"):
            if (i, sequence) != (7, "t1ce"):
                volume = rng.random((6, 5, 9)).astype(np.float32)
                nibabel.save(
                    nibabel.Nifti1Image(volume, np.diag([-1, -1, 1, 1])),
                    study / f"{subject}_{sequence}.nii.gz",
                )
    (tmp_path / "brats" / "name_mapping.csv").write_text("\n".join(lines) + "\n")
    own = {
        "id": "brats",
        "title": "x",
        "modalities": [{"name": "flair", "channels": 1}, {"name": "t1ce", "channels": 1}],
        "tasks": [
            {"name": "grade", "classes": ["LGG", "HGG"]},
            {"name": "survival", "classes": ["short", "long"]},
        ],
        "counts": {"total": 50},
        "url": "x",
        "licence": "x",
        "access": "x",
        "citation": "x",
        "provenance": "x",
        "reader": {
            "kind": "table",
            "tables": [{"file": "name_mapping.csv"}],
            "images": {m: [f"{{BraTS_2020_subject_ID}}_{m}.nii*"] for m in ("flair", "t1ce")},
            "labels": {"grade": "Grade", "survival": "Survival"},
            "id": "{BraTS_2020_subject_ID}",
            "group": "{BraTS_2020_subject_ID}",
            "slices": [0.4, 0.6],
        },
    }
    (tmp_path / "brats.yaml").write_text(yaml.safe_dump(own))
    paired = load(str(tmp_path / "brats.yaml"), size=16, files=Files(data_root=tmp_path))
    assert (paired.modalities, paired.tasks) == (("flair", "t1ce"), ("grade", "survival"))
    assert sum(len(split) for split in paired.splits.values()) == 48
    said = (
        "brats: 1 rows without their files: BraTS20_Training_007; name_mapping.csv line 8 looks for"
        " 'BraTS20_Training_007_t1ce.nii*'"
    )
    assert said in paired.notes
    for split in paired.splits.values():
        patients = {sample.split("/")[1] for sample in split.ids}
        assert len(split) == 2 * len(patients)  # both slices of a patient stay together
        for sample, (grade, survival) in zip(split.ids, split.labels.tolist(), strict=True):
            number = int(sample.split("/")[1][-3:])
            assert grade == number % 2
            assert survival == (-1 if number == 4 else int(number % 3 == 0))
    x = paired.splits["test"].batch([0])
    assert x[0].shape == x[1].shape == (1, 1, 16, 16)
    assert not np.array_equal(x[0], x[1])


def test_all20_pairs_each_of_the_twenty_once_the_released_pair_first(tmp_path: Path) -> None:
    found = suites.suite("all20")
    assert found is not None
    assert found.pairings[0] == "ham10000+sipakmed"
    parts = [part for pairing in found.pairings for part in pairing.split("+")]
    assert sorted(parts) == sorted(name for name in ids() if card(name).twenty)

    with pytest.raises(UserError, match="none of the pairings"):
        suites.expand(["all20"], tmp_path)
    for name in ("octmnist", "tissuemnist", "organamnist"):
        medmnist(tmp_path, name)
    chosen, skipped = suites.expand(["phantoms", "all20", "phantoms"], tmp_path)
    assert chosen == ["phantoms", "octmnist+tissuemnist"]
    assert len(skipped) == 9
    assert any("organamnist+bloodmnist, not on disk: bloodmnist" in line for line in skipped)

    (tmp_path / "mine.yaml").write_text("suite: mine\npairings: [phantoms, octmnist]\n")
    assert suites.expand([str(tmp_path / "mine.yaml")], tmp_path)[0] == ["phantoms", "octmnist"]
    (tmp_path / "bad.yaml").write_text("suite: mine\npairing: [phantoms]\n")
    with pytest.raises(UserError, match="pairing"):
        suites.expand([str(tmp_path / "bad.yaml")], tmp_path)
