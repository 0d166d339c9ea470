"""Readers, splits, pairings, phantoms and cards: what is read, what is refused, what does not
change.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support.files import write_folder_set
from support.medmnist import medmnist_arrays

from robustbench_med.data import Files, card, catalogue, facts, ids, load, phantoms
from robustbench_med.data.preprocessing import fit, to_uint8
from robustbench_med.data.samples import Component, Samples
from robustbench_med.data.source import read
from robustbench_med.data.splits import make_manifest
from robustbench_med.errors import UserError


def write_npz(folder: Path, name: str = "breastmnist", **changes: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{name}.npz", **medmnist_arrays(**changes))
    return folder


def open_set(name: str, root: Path, **given):
    return load(name, size=28, files=Files(data_root=root, accept_unverified=True), **given)


def test_medmnist_is_read_as_published_and_said_to_be_unverified(tmp_path: Path) -> None:
    dataset = open_set("breastmnist", write_npz(tmp_path / "d"))
    arrays = medmnist_arrays()
    assert [len(dataset.splits[s]) for s in ("train", "val", "test")] == [24, 8, 12]
    assert dataset.unverified
    assert any(note.startswith("unverified") for note in dataset.notes)
    assert any("12 images, published 156" in note for note in dataset.notes)
    test = dataset.splits["test"]
    row = [i for i, sample in enumerate(test.ids) if sample == "breastmnist/test/000005"]
    assert np.array_equal(
        (test.batch(row)[0][0, 0] * 255).numpy().round(), arrays["test_images"][5]
    )
    assert test.labels[row[0], 0] == arrays["test_labels"][5, 0]


def test_flat_labels_are_labels_too(tmp_path: Path) -> None:
    flat = {f"{s}_labels": medmnist_arrays()[f"{s}_labels"][:, 0] for s in ("train", "val", "test")}
    a = open_set("breastmnist", write_npz(tmp_path / "a"))
    b = open_set("breastmnist", write_npz(tmp_path / "b", **flat))
    assert a.splits["train"].ids == b.splits["train"].ids
    assert a.manifest_hash != b.manifest_hash  # the same samples out of another file
    assert np.array_equal(a.splits["train"].labels, b.splits["train"].labels)


def test_a_wrong_md5_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--accept-unverified"):
        load("breastmnist", size=28, files=Files(data_root=write_npz(tmp_path / "d")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": np.full((12, 1), 7)}, r"hold 7..7, breastmnist has classes 0..1"),
        ({"train_labels": np.full((24, 1), -1)}, "hold -1"),
        ({"val_labels": np.zeros((8, 1), float)}, "whole number"),
        ({"val_labels": np.zeros((9, 1), int)}, "as many val_labels"),
        ({"test_images": np.zeros((12, 28, 28))}, "uint8"),
    ],
)
def test_a_faulty_npz_is_refused_with_what_is_wrong(tmp_path: Path, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        open_set("breastmnist", write_npz(tmp_path / "d", **changes))


def test_a_truncated_npz_and_one_without_arrays_are_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "d") / "breastmnist.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="truncated"):
        open_set("breastmnist", tmp_path / "d")
    np.savez(path, train_images=np.zeros(3))
    with pytest.raises(UserError, match="lacks the arrays train_labels"):
        open_set("breastmnist", tmp_path / "d")


def test_a_missing_root_file_or_name_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        open_set("breastmnist", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no breastmnist\.npz"):
        open_set("breastmnist", tmp_path)
    with pytest.raises(UserError, match="did you mean breastmnist"):
        open_set("breastmnst", tmp_path)
    with pytest.raises(UserError, match="--data-root"):
        open_set("sartaj-mri", tmp_path)
    with pytest.raises(UserError, match="twice"):
        open_set("phantoms+phantoms", tmp_path)


def test_a_file_in_the_users_medmnist_folder_is_found(tmp_path: Path) -> None:
    write_npz(tmp_path / "user", "x").joinpath(".medmnist").mkdir()
    write_npz(tmp_path / "user" / ".medmnist")
    dataset = load("breastmnist", size=28, files=Files(accept_unverified=True))
    assert len(dataset.splits["test"]) == 12


def test_class_folders_of_a_users_own_card(drawn_root: Path) -> None:
    dataset = load(str(drawn_root / "heads.yaml"), size=32, files=Files(data_root=drawn_root))
    assert {s: len(x) for s, x in dataset.splits.items()} == {"train": 56, "val": 8, "test": 16}
    assert dataset.classes == (phantoms.MRI_CLASSES,)
    everything = [i for split in dataset.splits.values() for i in split.ids]
    assert len(everything) == len(set(everything)) == 80
    for split in dataset.splits.values():  # the label is the folder's
        for sample, label in zip(split.ids, split.labels[:, 0], strict=True):
            assert sample.split("/")[1] == phantoms.MRI_CLASSES[int(label)]
    shares = [
        np.bincount(split.labels[:, 0], minlength=4) / len(split)
        for split in dataset.splits.values()
    ]
    assert all(np.allclose(share, 0.25, atol=0.13) for share in shares)


def test_the_split_depends_on_seed_and_names_alone(
    drawn_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(drawn_root / "heads.yaml")
    first = load(name, size=32, files=Files(data_root=drawn_root))
    listing = Path.iterdir
    monkeypatch.setattr(
        Path,
        "iterdir",
        lambda self: iter(
            sorted(listing(self), key=lambda p: hashlib.md5(p.name.encode()).hexdigest())
        ),
    )
    shuffled = load(name, size=32, files=Files(data_root=drawn_root))
    assert first.manifest_hash == shuffled.manifest_hash
    assert first.splits["test"].ids == shuffled.splits["test"].ids
    assert (
        load(name, size=32, files=Files(data_root=drawn_root), split_seed=1).manifest_hash
        != first.manifest_hash
    )


def test_the_folds_of_a_cross_validation_test_every_image_once(drawn_root: Path) -> None:
    files = Files(data_root=drawn_root)
    folds = [
        load(str(drawn_root / "heads.yaml"), size=32, fold=(k, 4), files=files) for k in range(4)
    ]
    tested = [sample for fold in folds for sample in fold.splits["test"].ids]
    assert len(tested) == len(set(tested)) == 80
    assert len({fold.manifest_hash for fold in folds}) == 4


def test_a_published_test_part_is_kept_and_validation_comes_out_of_training(tmp_path: Path) -> None:
    path = write_folder_set(tmp_path, "split-heads", "mri", split=True)
    dataset = load(str(path), size=32, files=Files(data_root=tmp_path))
    assert all("/Testing/" in i for i in dataset.splits["test"].ids)
    assert all("/Training/" in i for s in ("train", "val") for i in dataset.splits[s].ids)
    assert len(dataset.splits["val"]) == 8


def test_groups_never_straddle_splits(drawn_root: Path) -> None:
    from dataclasses import replace

    source = read(card(str(drawn_root / "chests.yaml")), size=32, files=Files(data_root=drawn_root))
    groups = tuple(f"person{i // 3}" for i in range(len(source.ids)))
    manifest = make_manifest(replace(source, groups=groups), seed=0)
    group_of = dict(zip(source.ids, groups, strict=True))
    found = [{group_of[i] for i in part} for part in (manifest.train, manifest.val, manifest.test)]
    assert sum(map(len, found)) == len(set(groups))


def test_corrupt_images_are_counted_or_with_strict_refused(tmp_path: Path) -> None:
    path = write_folder_set(tmp_path, "heads", "mri")
    (tmp_path / "heads" / "ring" / "image(3).png").write_bytes(b"")
    broken = tmp_path / "heads" / "solid" / "image(4).png"
    broken.write_bytes(broken.read_bytes()[:100])
    dataset = load(str(path), size=32, files=Files(data_root=tmp_path))
    assert sum(len(s) for s in dataset.splits.values()) == 78
    assert any(
        note.startswith("2 unreadable images skipped") and "image(4).png" in note
        for note in dataset.notes
    )
    assert any("78 images, published 80" in note for note in dataset.notes)
    with pytest.raises(UserError, match="cannot be read"):
        load(str(path), size=32, files=Files(data_root=tmp_path, strict=True))


def test_samples_of_a_pairing_have_as_many_parts_as_it_has_sets_whatever_their_names() -> None:
    components = tuple(
        Component((), np.zeros((1, 1), np.int64), (name,), (name,))
        for name in ("left+right.png", "b.png")
    )
    assert Samples(components, np.zeros((1, 2), np.int64), ()).ids == ["left%2Bright.png+b.png"]


def test_a_pairing_joins_by_a_seeded_permutation_and_counts_distinct_images(
    drawn_root: Path,
) -> None:
    pair = load(
        f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}",
        size=32,
        files=Files(data_root=drawn_root),
    )
    assert pair.name == "heads+chests"
    assert (pair.modalities, pair.tasks) == (("mri", "xray"), ("mri-task", "xray-task"))
    test = pair.splits["test"]
    assert len(test) == 16
    assert test.distinct == [16, 12]
    assert test.distinct_labels == [16, 12]
    own_order = [int(i.split("image(")[1].split(")")[0]) for i in test.ids]
    assert own_order != sorted(own_order)
    a, b = test.batch([0, 3])
    assert a.shape == b.shape == (2, 1, 32, 32)
    assert 0 <= float(a.min()) <= float(a.max()) <= 1


def test_grey_is_repeated_only_where_the_model_asks(drawn_root: Path) -> None:
    name = str(drawn_root / "heads.yaml")
    grey, rgb = (
        load(name, size=32, channels=c, files=Files(data_root=drawn_root)) for c in (None, 3)
    )
    assert (grey.channels, rgb.channels) == ((1,), (3,))
    x, y = grey.splits["test"].batch([0])[0], rgb.splits["test"].batch([0])[0]
    assert all(np.array_equal(x[0, 0], y[0, c]) for c in range(3))


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert (
        np.ptp(fit(Image.fromarray(stripes), 16).astype(int)) < 80
    )  # without antialiasing: 255 or a constant by luck
    assert fit(Image.fromarray(stripes), 16).mean() == pytest.approx(127.5, abs=2)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(np.full((4, 4), 32768, np.uint16)), 128),
        (Image.new("RGBA", (4, 4), (90, 90, 90, 10)), 90),
        (Image.new("CMYK", (4, 4), (0, 0, 0, 0)), 255),
        (Image.new("P", (4, 4), 0), 0),
        (Image.new("1", (4, 4), 1), 255),
        (Image.new("LA", (4, 4), (77, 3)), 77),
    ],
)
def test_unusual_pixel_formats(image: Image.Image, expected: int) -> None:
    for channels, mode in ((1, "L"), (3, "RGB")):
        converted = to_uint8(image, channels)
        assert converted.mode == mode
        assert abs(int(np.asarray(converted).max()) - expected) <= 1


def test_phantoms_are_the_same_everywhere_balanced_and_black_around_the_head() -> None:
    studies, again = phantoms.Studies(size=64), phantoms.Studies(size=64)
    val = np.arange(2048, 2304)
    mri, xray = (phantoms.Drawing(studies, m)[val] for m in (0, 1))
    for row in val[::-51]:  # one by one and backwards: an image depends on its number alone
        assert np.array_equal(phantoms.Drawing(again, 1)[np.array([row])][0], xray[row - 2048])
        assert np.array_equal(phantoms.Drawing(again, 0)[np.array([row])][0], mri[row - 2048])
    assert [np.bincount(studies.labels[val, t]).tolist() for t in (0, 1)] == [
        [64] * 4,
        [86, 85, 85],
    ]
    assert (mri[:, 0, :4, :4] == 0).all()
    assert 0.3 < (mri == 0).mean() < 0.7
    assert len({image.tobytes() for image in mri}) == len(mri)
    assert not studies.pixels[:, :2048].any()  # training images nobody asked for are not drawn


def test_phantoms_are_the_ones_the_zoo_was_trained_on() -> None:
    test = load("phantoms", size=32).splits["test"]
    pixels = [
        (m * 255).round().to(dtype=torch.uint8).numpy().tobytes() for m in test.batch(range(16))
    ]
    assert hashlib.sha256(b"".join(pixels)).hexdigest()[:16] == "c24098d838d8c964"


@pytest.mark.slow
def test_phantoms_are_beyond_a_linear_model_on_pixels() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    dataset = load("phantoms", size=64)
    train, test = dataset.splits["train"], dataset.splits["test"]
    x, z = (
        np.concatenate([m.flatten(1).numpy() for m in s.batch(range(len(s)))], 1)
        for s in (train, test)
    )
    for t in (0, 1):
        scores = [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200))
            .fit(x, train.labels[:, t])
            .score(z, test.labels[:, t])
            for c in (1e-4, 1e-3)
        ]
        assert max(scores) < 0.8
        assert max(scores) > 0.4  # and not hopeless either


def test_every_card_is_complete_and_listed(tmp_path: Path) -> None:
    assert ids()[0] == "phantoms"
    rows = {row["id"]: row for row in catalogue(None)}
    assert set(rows) == set(ids()) >= {"breastmnist", "pneumoniamnist", "sartaj-mri"}
    for name in ids():
        told = facts(card(name), None)
        assert all(
            told[key]
            for key in ("title", "source", "licence", "citation", "provenance", "where to put it")
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 3}, "Extra inputs"),
        ({"tasks": []}, "tasks"),
        ({"id": "Bad Name"}, "id"),
        ({"reader": {"kind": "magic"}}, "reader"),
    ],
)
def test_a_faulty_card_is_one_line(drawn_root: Path, tmp_path: Path, change, message) -> None:
    content = yaml.safe_load((drawn_root / "heads.yaml").read_text()) | change
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message) as caught:
        card(str(tmp_path / "bad.yaml"))
    assert "\n" not in str(caught.value)
