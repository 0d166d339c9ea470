"""Folders, groups and cards as the clinic has them: links, accents, parts without images, class
names.
"""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.readers import CLASSES, opened, put, rows_of, table, write_card
from support.scans import write_dicom

from robustbench_med.data import Files, card, load
from robustbench_med.data.readers.files import walk
from robustbench_med.data.source import Source, list_samples, read
from robustbench_med.errors import UserError


def folders(root: Path, per_class: int = 20, names: str = "{i}.png") -> Path:
    for label, name in enumerate(CLASSES):
        for i in range(per_class):
            put(root, f"{name}/{names.format(i=i)}", 50 + 100 * label)
    return write_card(root, "{kind: folders}")


def names_of(source: Source) -> set[str]:
    return {sample.removeprefix("scans/") for sample in source.ids}


# files that are no images, links


@pytest.mark.parametrize("name", ["IM_0001", "a.ima", "A.IMA", "1.2.840.113619.2.55.3", "b.img"])
@pytest.mark.parametrize("kind", ["folders", "table"])
def test_dicom_of_any_name_is_a_sample(tmp_path: Path, kind: str, name: str) -> None:
    path = folders(tmp_path)
    if kind == "table":
        path = table(tmp_path, rows_of(40, "{i}.png").replace("\n", f"\nwell/{name},well\n", 1))
        for i in range(20):
            (tmp_path / f"scans/sick/{i}.png").rename(tmp_path / f"scans/sick/{20 + i}.png")
    write_dicom(tmp_path / "scans/well" / name, np.full((4, 4), 2048))
    source = opened(path)
    assert f"well/{name}" in names_of(source)
    assert source.unreadable == ()
    assert len(source.ids) == 41


def test_a_folder_of_dicom_without_suffixes_alone_is_a_class(tmp_path: Path) -> None:
    for label in CLASSES:
        for i in range(20):
            write_dicom(tmp_path / "scans" / label / f"IM_{i}", np.full((4, 4), 50 * i))
    assert len(opened(write_card(tmp_path, "{kind: folders}")).ids) == 40


def test_files_that_are_no_images_are_named_and_what_no_image_is_called_is_not(
    tmp_path: Path,
) -> None:
    path = folders(tmp_path)
    for name in ("notes.txt", "list.csv", "README", "info.JSON", "DICOMDIR", "x.xml"):
        (tmp_path / "scans/well" / name).write_bytes(b"\0" * 128 + b"DICM")
    assert [note for note in opened(path).notes if "no images" in note] == []
    (tmp_path / "scans/well/volume.mha").write_text("ObjectType = Image")
    (note,) = [note for note in opened(path).notes if "no images" in note]
    assert "1 files" in note
    assert "well/volume.mha" in note
    for image in (tmp_path / "scans/sick").iterdir():
        image.rename(image.with_suffix(".mha"))
    with pytest.raises(
        UserError,
        match=r"no image of the class sick .*21 files are no images that can be read: .*\.mha",
    ):
        opened(path)


@pytest.mark.parametrize("name", ["x.png", "x", "x.ima"])
@pytest.mark.parametrize("target", ["/nowhere/annex/object", "x.png", "../sick/nothing"])
@pytest.mark.parametrize("kind", ["folders", "table"])
def test_a_link_to_nothing_is_counted_and_named(
    tmp_path: Path, kind: str, target: str, name: str
) -> None:
    path = folders(tmp_path)
    if kind == "table":
        path = table(tmp_path, rows_of(image="well/{i}.png") + f"well/{name},well\n")
    (tmp_path / "scans/well" / name).symlink_to(target)
    source = opened(path)
    assert [sample for sample, _ in source.unreadable] == [f"scans/well/{name}"]
    assert any(f"1 unreadable images skipped: well/{name}" in note for note in source.notes)
    with pytest.raises(UserError, match="cannot be read"):
        opened(path, strict=True)


@pytest.mark.parametrize("where", ["scans", "scans/well", "scans/else"])
def test_a_link_to_nothing_that_is_no_sample_does_no_harm(tmp_path: Path, where: str) -> None:
    path = folders(tmp_path)
    (tmp_path / where).mkdir(exist_ok=True)
    for name in ("gone", "gone.txt") if where != "scans/well" else ("gone.txt", "README"):
        (tmp_path / where / name).symlink_to("/nowhere")
    source = opened(path)
    assert (len(source.ids), source.unreadable) == (40, ())


@pytest.mark.parametrize("target", [".", "..", "../..", "../sick", "/"])
def test_every_folder_is_entered_once_and_by_its_own_name(tmp_path: Path, target: str) -> None:
    root = tmp_path / "above"
    path = folders(root)
    plain = [file.name for file in walk(root)]
    link = root / "scans/well/link"
    link.symlink_to(tmp_path if target == "/" else target)
    (root / "scans/sick/back").symlink_to("../well")
    assert [file.name for file in walk(root)] == plain
    assert len(opened(path).ids) == 40
    assert (
        len(
            opened(
                table(
                    root,
                    rows_of(image="{i}.png"),
                    "images: {xray: ['well/{image}']}, labels: {t: label}, id: '{image}'",
                )
            ).ids
        )
        == 20
    )


def test_a_linked_folder_from_elsewhere_is_followed(tmp_path: Path) -> None:
    path = folders(tmp_path)
    (tmp_path / "scans/sick").rename(tmp_path / "store")
    (tmp_path / "scans/sick").symlink_to("../store")
    assert len(opened(path).ids) == 40


# accents


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_may_be_written_either_way(tmp_path: Path, on_disk: str, written: str) -> None:
    def disk(text: str) -> str:
        return unicodedata.normalize(on_disk, text)

    def said(text: str) -> str:
        return unicodedata.normalize(written, text)

    for label, name in enumerate(("gesund", "Läsion")):
        for i in range(20):
            put(tmp_path, disk(f"Müller/{name}/é{i}.png"), 50 + 100 * label)
    classes = f"[gesund, {said('Läsion')}]"
    path = write_card(
        tmp_path,
        f"{{kind: folders, roots: [{said('Müller')}], group: '({said('é')}[0-9])'}}",
        classes=classes,
    )
    source = opened(path)
    assert np.bincount(source.labels[:, 0]).tolist() == [20, 20]
    assert len(set(source.groups)) == 10
    lines = [said(f"{name}/é{i}.png,{name},é") for name in ("gesund", "Läsion") for i in range(20)]
    reader = said("images: {xray: ['{Bïld}']}, labels: {t: Klässe}, id: '{Bïld}', group: '{Krank}'")
    table(
        tmp_path,
        disk("Bïld,Klässe,Krank\n") + "\n".join([*lines[:-1], disk(lines[-1])]) + "\n",
        reader,
    )
    card_text = (tmp_path / "scans.yaml").read_text().replace("[well, sick]", classes)
    path.write_text(card_text)
    source = opened(path)
    assert np.bincount(source.labels[:, 0]).tolist() == [20, 20]
    assert set(source.groups) == {"scans/é"}


def test_two_files_that_differ_by_the_writing_of_an_accent_alone_are_two(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    path = folders(tmp_path)
    for form, value in zip(forms, (11, 222), strict=True):
        put(tmp_path, f"well/{form}", value)
    if len(os.listdir(tmp_path / "scans/well")) < 22:
        pytest.skip("this file system takes both for one")
    assert {f"well/{form}" for form in forms} <= names_of(opened(path))
    both = opened(
        table(tmp_path, rows_of(image="well/{i}.png") + "".join(f"{form},well\n" for form in forms))
    )
    at = [both.ids.index(f"scans/{form}") for form in forms]
    assert [round(float(both.images[0][np.array([i])].mean()), -1) for i in at] == [10, 220]


# groups


@pytest.mark.parametrize("split", ["Train", "data/Train", "*/Train"])
@pytest.mark.parametrize("pattern", [r"^[^/]+/(p\d+)_", r"(p\d+)_"])
def test_a_group_is_searched_below_the_split_folder(
    tmp_path: Path, split: str, pattern: str
) -> None:
    for part in ("Train", "Test"):
        for label in CLASSES:
            for i in range(40):
                put(
                    tmp_path,
                    f"{split.replace('Train', part).replace('*', 'p99_x')}/{label}/p{i // 4:02d}_{i}.png",
                )
    splits = f"{{train: '{split}', test: '{split.replace('Train', 'Test')}'}}"
    path = write_card(
        tmp_path, f"{{kind: folders, splits: {splits}, group: '{pattern}'}}", total=160
    )
    if split.startswith("*"):
        path.write_text(path.read_text().replace("kind: folders", "kind: folders, roots: []"))
    source = opened(path)
    assert set(source.groups) == {f"p{i:02d}" for i in range(10)}
    parts = load(str(path), size=4, files=Files(tmp_path)).splits
    patients = [
        {sample.rpartition("/")[2][:3] for sample in parts[part].ids} for part in ("train", "val")
    ]
    assert not patients[0] & patients[1]


def test_a_group_that_matches_nothing_is_an_error_and_one_that_matches_some_is_said(
    tmp_path: Path,
) -> None:
    folders(tmp_path, names="p{i}.png")
    with pytest.raises(
        UserError,
        match=(
            r"group 'Train/\(p\\\\d\+\)' matches no file, such as \w+/p0.png; it is searched in the"
            r" path below"
        ),
    ):
        opened(write_card(tmp_path, r"{kind: folders, group: 'Train/(p\d+)'}"))
    source = opened(write_card(tmp_path, r"{kind: folders, group: '/(p1)\d*[.]'}"))
    assert sorted(set(source.groups) & {"p1"}) == ["p1"]
    assert source.groups.count("p1") == 22
    assert len(set(source.groups)) == 19
    assert any(
        "18 images without a group are each their own: well/p0.png" in note for note in source.notes
    )
    with pytest.raises(UserError, match="brackets nothing"):
        card(str(write_card(tmp_path, r"{kind: folders, group: 'p\d+'}")))


@pytest.mark.parametrize("template", ["{patient}", "{site}-{patient}", "{site}/{patient.name}"])
def test_a_row_without_a_patient_is_its_own_group(tmp_path: Path, template: str) -> None:
    for i in range(20):
        put(tmp_path, f"i{i}.png")
    lines = [f"i{i}.png,{CLASSES[i % 2]},A,{'' if i % 4 else f' p{i // 8} '}" for i in range(20)]
    reader = (
        "images: {xray: ['{image}']}, labels: {t: label}, id: '{image}', group:"
        f" '{template}'"
    )
    source = opened(table(tmp_path, "image,label,site,patient\n" + "\n".join(lines) + "\n", reader))
    assert len(set(source.groups)) == 15 + 3
    assert max(map(source.groups.count, source.groups)) == 2
    assert any(
        "15 rows without a group are each their own: i1.png, i2.png" in note
        for note in source.notes
    )


# parts, cards


@pytest.mark.parametrize("part", ["test", "train"])
@pytest.mark.parametrize("kind", ["folders", "no rows", "no files", "unreadable"])
def test_a_published_part_without_images_is_one_line(tmp_path: Path, kind: str, part: str) -> None:
    for split in ("train", "test"):
        for i in range(20):
            if (kind, split) != ("folders", part):
                put(tmp_path, f"{split}/{CLASSES[i % 2]}/{split}{i}.png")
    (tmp_path / "scans" / part).mkdir(exist_ok=True)
    if kind in ("folders", "unreadable"):
        path = write_card(tmp_path, "{kind: folders, splits: {train: train, test: test}}")
        for image in (tmp_path / "scans" / part).rglob("*.png"):
            image.write_bytes(b"")
    else:
        for split in ("train", "test"):
            n, wanted = (
                (0 if (kind, split) == ("no rows", part) else 20),
                "gone" if (kind, split) == ("no files", part) else split,
            )
            (tmp_path / f"scans/{split}.csv").write_text(rows_of(n, wanted + "{i}.png"))
        tables = "[{file: train.csv, split: train}, {file: test.csv, split: test}]"
        path = write_card(
            tmp_path,
            f"{{kind: table, tables: {tables}, images: {{xray: ['{{image}}']}}, labels: {{t:"
            " label}, id: '{image}'}",
        )
    with pytest.raises(UserError, match=f"published {part} part") as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_a_medmnist_file_with_an_empty_part_is_one_line(tmp_path: Path) -> None:
    from support.medmnist import medmnist_arrays

    arrays = medmnist_arrays(
        test_images=np.zeros((0, 28, 28), np.uint8), test_labels=np.zeros((0, 1), int)
    )
    np.savez(tmp_path / "breastmnist.npz", **arrays)
    with pytest.raises(UserError, match="the published test part is empty"):
        read(card("breastmnist"), size=28, files=Files(tmp_path, accept_unverified=True))


@pytest.mark.parametrize(
    "classes",
    [
        ("no", "yes"),
        ("off", "on"),
        ("0", "1"),
        ("null", "tumour"),
        ("1.0", "2.50"),
        ("010", "0x1F"),
        ("~", "2020-01-02"),
    ],
)
@pytest.mark.parametrize("kind", ["folders", "table"])
def test_class_names_are_the_text_that_was_written(
    tmp_path: Path, kind: str, classes: tuple[str, str]
) -> None:
    for i in range(20):
        put(tmp_path, f"{classes[i % 2]}/i{i}.png")
    path = write_card(tmp_path, "{kind: folders, group: null, splits: {}}")
    if kind == "table":
        text = "image,label\n" + "".join(f"i{i}.png,{'NY'[i % 2]}\n" for i in range(20))
        path = table(
            tmp_path,
            text,
            "images: {xray: ['{image}']}, labels: {t: label}, id: '{image}', values: {N:"
            f" {classes[0]}, Y: {classes[1]}}}",
        )
    path.write_text(
        path.read_text()
        .replace("[well, sick]", f"[{classes[0]}, {classes[1]}]")
        .replace(
            "{total: 40}", f"{{total: 20}}\nclass_counts: {{{classes[0]}: 10, {classes[1]}: 10}}"
        )
    )
    found = card(str(path))
    assert found.tasks[0].classes == classes
    source = opened(path)
    for sample, label in zip(source.ids, source.labels[:, 0], strict=True):
        assert int(sample.split("/i")[1].split(".")[0]) % 2 == label


def test_a_card_written_in_quotes_says_the_same(tmp_path: Path) -> None:
    path = folders(tmp_path)
    plain = card(str(path))
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()), default_style='"'))
    assert card(str(path)) == plain


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("{center: 40}", "window.width"),
        ("{center: 40, width: 0}", "greater than 0"),
        ("{center: .nan, width: 4}", "finite|number"),
        ("[40, 400]", "window"),
    ],
)
def test_a_faulty_window_is_one_line(tmp_path: Path, window: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        card(str(write_card(tmp_path, "{kind: folders}", window=f", window: {window}")))
    assert "\n" not in str(caught.value)


def test_the_cards_window_reaches_the_pixels_and_without_it_a_ct_is_noted(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (tmp_path / "scans" / label).mkdir(parents=True)
        for i in range(20):
            volume = rng.integers(-1000, 1000, (4, 4, 3)).astype(np.int16)
            nibabel.save(
                nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"scans/{label}/{i}.nii"
            )
    path = write_card(tmp_path, "{kind: folders}")
    without = load(str(path), size=4, files=Files(tmp_path))
    again = load(str(path), size=4, files=Files(tmp_path))
    for data in (without, again):
        assert any(
            "40 images: NIfTI with values below zero and no window" in note for note in data.notes
        )
    write_card(tmp_path, "{kind: folders}", window=", window: {centre: 0, width: 100}")
    windowed = load(str(path), size=4, files=Files(tmp_path))
    assert not any("NIfTI" in note for note in windowed.notes)
    x = windowed.splits["test"].batch(range(8))[0]
    assert (
        float(((x == 0) | (x == 1)).float().mean()) > 0.85
    )  # a narrow window: nearly all is black or white
    listing = list_samples(card(str(path)), 4, Files(tmp_path))
    assert {raw.window.center for raws in listing.images() for raw in raws} == {0}
