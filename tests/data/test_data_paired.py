"""Truly paired sets: several images, a record, what some patients miss, outlines as labels."""

from pathlib import Path

import numpy as np
import pytest
from support.paired_miniatures import PAIRED_TREES

from robustbench_med.data import Files, card, ids, suites
from robustbench_med.data.listing import SPLITS
from robustbench_med.data.source import Source, read
from robustbench_med.data.splits import make_manifest
from robustbench_med.errors import UserError


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def read_paired(name: str, tmp_path: Path) -> Source:
    """A miniature of a paired set as it is read at 8 pixels."""
    PAIRED_TREES[name](folder(tmp_path / name))
    return read(card(name), size=8, files=Files(data_root=tmp_path))


def test_brats_has_four_sequences_of_one_slice_the_outline_and_the_grade(tmp_path: Path) -> None:
    source = read_paired("brats2020", tmp_path)
    assert len(source.images) == 4
    rows = np.arange(len(source.ids))
    flair, t1 = source.images[0][rows], source.images[1][rows]
    assert not np.array_equal(flair, t1)
    grade = {
        sample.split("/")[1]: int(label[1])
        for sample, label in zip(source.ids, source.labels, strict=True)
    }
    assert grade["BraTS20_Training_001"] == 1
    assert grade["BraTS20_Training_004"] == 0
    assert set(source.labels[:, 0]) == {0, 1}
    manifest = make_manifest(source, 0)
    patients = [{sample.split("/")[1] for sample in getattr(manifest, split)} for split in SPLITS]
    assert not patients[0] & patients[2]
    assert not patients[0] & patients[1]
    (tmp_path / "brats2020/MICCAI_BraTS2020_TrainingData/BraTS20_Training_001").joinpath(
        "BraTS20_Training_001_seg.nii"
    ).rename(tmp_path / "brats2020/W39_1998.09.19_Segm.nii")
    again = read(card("brats2020"), size=8, files=Files(data_root=tmp_path))
    assert len(again.ids) == len(source.ids) - 12
    assert "1 rows without their files: BraTS20_Training_001" in " ".join(again.notes)


def test_a_study_without_a_lateral_view_is_a_sample_that_misses_it(tmp_path: Path) -> None:
    source = read_paired("chexpert", tmp_path)
    lateral = source.images[1][np.arange(len(source.ids))]
    has = {
        sample.split("/", 1)[1]: bool(x.any())
        for sample, x in zip(source.ids, lateral, strict=True)
    }
    assert not has["train/patient00001/study1/view1_frontal"]
    assert has["train/patient00001/study2/view1_frontal"]
    assert 0.6 < np.mean(list(has.values())) < 0.72
    table = source.images[2][np.arange(len(source.ids))][:, :, 0, 0]
    assert table.min() >= 0
    assert set(table[:, 1:].sum(1)) == {1.0}
    assert source.labels.shape[1] == 14
    masked = (source.labels == -1).mean(0)  # uncertain and not mentioned: half of each finding
    assert (np.abs(masked - 0.5) < 0.05).all()
    manifest = make_manifest(source, 0)  # a tenth for validation, by the rarest finding
    assert 2 <= len(manifest.val) <= 6


def test_the_record_beside_two_photographs_is_read_with_its_unknown_cells(tmp_path: Path) -> None:
    source = read_paired("derm7pt", tmp_path)
    table = source.images[2][np.arange(len(source.ids))][:, :, 0, 0]
    assert table.shape[1] == 2 + 3 + 8
    places = table[:, 5:].sum(1)
    assert places.sum() == 40  # of a third nobody wrote the place
    assert set(places) == {0.0, 1.0}
    before = source.content
    meta = tmp_path / "derm7pt/release_v0/meta/meta.csv"
    meta.write_text(meta.read_text().replace("palpable", "nodular", 1))
    assert read(card("derm7pt"), size=8, files=Files(data_root=tmp_path)).content != before
    meta.write_text(meta.read_text().replace("nodular", "hovering", 1))
    with pytest.raises(UserError, match="'hovering' is none of its values"):
        read(card("derm7pt"), size=8, files=Files(data_root=tmp_path))


def test_two_images_of_one_eye_are_read_and_faulty_tables_named(tmp_path: Path) -> None:
    source = read_paired("gamma", tmp_path)
    assert [images[np.arange(3)].shape[1] for images in source.images] == [3, 1]
    path = tmp_path / "gamma/glaucoma_grading_training_GT.csv"
    path.write_text(path.read_text().replace("0001,1,0,0", "0001,1,1,0"))
    with pytest.raises(UserError, match="one of non, early, mid_advanced must be 1"):
        read(card("gamma"), size=8, files=Files(data_root=tmp_path))


def test_every_set_of_the_suite_paired_is_of_one_patient() -> None:
    found = suites.suite("paired")
    assert found is not None
    for name in found.pairings:
        assert len(card(name).modalities) > 1
        assert "+" not in name
    others = {name for name in ids() if len(card(name).modalities) > 1}
    assert others == {*found.pairings, "phantoms"}
