"""`data new`: a card out of a folder as it is, which is then read as any other."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.cli import medrobust
from support.scans import write_dicom

from robustbench_med.data import Files, card, load
from robustbench_med.data.new import Given, draft
from robustbench_med.data.readers import tags
from robustbench_med.data.readers.tags import tag_of
from robustbench_med.errors import UserError
from robustbench_med.provenance import hashes


def picture(path: Path, seed: int, *, colour: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), np.uint8)
    Image.fromarray(pixels if colour else pixels[:, :, 0]).save(path)


def clinic(root: Path, n: int = 60) -> Path:
    """Images of 30 patients in one folder, and a table with a site column."""
    lines = ["File,Patient ID,Diagnosis,site"]
    for i in range(n):
        picture(root / "images" / f"scan{i:03d}.png", i, colour=True)
        lines.append(f"scan{i:03d},P{i // 2},{('benign', 'malignant')[i // 2 % 2]},{'ABC'[i % 3]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def written(tmp_path: Path, folder: Path, **given: object) -> str:
    path = tmp_path / "card.yaml"
    path.write_text(draft(folder, Given(**given)).text())
    return str(path)


def test_class_folders_with_parts_and_patients_in_the_names(tmp_path: Path) -> None:
    root = tmp_path / "My Scans"
    for part, n in (("Training", 24), ("Testing", 6)):
        for c in ("ill", "well"):
            for i in range(n):
                number = i // 2 + (100 if part == "Testing" else 0) + (50 if c == "ill" else 0)
                picture(root / "data" / part / c / f"p{number:03d}_{i}.png", len(c) * 1000 + i)
    path = written(tmp_path, root)
    found = card(path)
    assert found.id == "my-scans"
    assert found.modalities[0].channels == 1
    data = load(path, size=8, files=Files(data_root=root))
    assert data.classes == (("ill", "well"),)
    assert [len(data.splits[part]) for part in ("train", "test")][1] == 12
    groups = data.splits["train"].components[0].groups
    assert len(set(groups)) < len(groups)


def test_dicom_files_say_whose_they_are(tmp_path: Path) -> None:
    root, rng = tmp_path / "ct", np.random.default_rng(0)
    for i in range(48):
        patient = {} if i >= 46 else {"PatientID": f"anon{i // 4}"}
        path = root / ("ill", "well")[i // 4 % 2] / f"{rng.integers(10**9)}.dcm"
        write_dicom(path, rng.integers(0, 4096, (8, 8)), **patient)
    said = draft(root, Given()).fields["reader"]
    assert "tag" not in said  # two files, which are looked at, say nothing
    for path in (root / "ill").iterdir(), (root / "well").iterdir():
        for file in path:
            if tag_of(file, "PatientID") is None:
                write_dicom(file, np.zeros((8, 8)), PatientID="anon11")
    path = written(tmp_path, root)
    assert card(path).reader.tag == "PatientID"
    data = load(path, size=8, files=Files(data_root=root))
    parts = [set(data.splits[part].components[0].groups) for part in ("train", "val", "test")]
    assert set().union(*parts) == {f"anon{i}" for i in range(12)}
    assert sum(map(len, parts)) == 12
    empty = tmp_path / "none.yaml"
    empty.write_text(Path(path).read_text())
    for file in root.rglob("*.dcm"):
        write_dicom(file, np.zeros((8, 8)))
    with pytest.raises(UserError, match="no DICOM file has the card's tag PatientID"):
        load(str(empty), size=8, files=Files(data_root=root))


def test_headers_are_read_once_and_name_the_patients_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, lines, opened = tmp_path / "ct", ["File,Diagnosis"], list[str]()
    for i in range(40):
        write_dicom(root / f"IM{i:04d}", np.full((8, 8), i), PatientID=f"anon{i // 4}")
        lines.append(f"IM{i:04d},{('ill', 'well')[i // 4 % 2]}")
    (root / "labels.csv").write_text("\n".join(lines))
    plain = tags._said
    monkeypatch.setattr(
        tags, "_said", lambda file, tag: (opened.append(file.name), plain(file, tag))[1]
    )
    monkeypatch.setattr(hashes, "SETTLED", -60.0)
    path = written(tmp_path, root, table=Path("labels.csv"))
    assert card(path).reader.tag == "PatientID"
    opened.clear()
    for expected in (40, 0):
        data = load(path, size=8, files=Files(data_root=root))
        groups = [set(data.splits[p].components[0].groups) for p in ("train", "val", "test")]
        assert set().union(*groups) == {f"ct/anon{i}" for i in range(10)}
        assert sum(map(len, groups)) == 10
        assert len(opened) == expected
        opened.clear()
    write_dicom(root / "IM0000", np.zeros((8, 8)))  # says nothing any more
    data = load(path, size=8, files=Files(data_root=root))
    assert opened == [str(root / "IM0000")]
    assert "1 rows without a group are each their own: IM0000" in " ".join(data.notes)
    twice = tmp_path / "twice.yaml"
    twice.write_text(Path(path).read_text().replace("  tag:", "  group: '{File}'\n  tag:"))
    with pytest.raises(UserError, match="both group and tag"):
        card(str(twice))


def test_a_table_says_images_labels_and_patients_by_usual_names(tmp_path: Path) -> None:
    root = clinic(tmp_path / "clinic")
    path = written(tmp_path, root, table=Path("labels.csv"))
    data = load(path, size=8, files=Files(data_root=root))
    assert data.classes == (("benign", "malignant"),)
    assert data.channels == (3,)
    parts = [set(data.splits[part].components[0].groups) for part in ("train", "val", "test")]
    assert not parts[0] & parts[2]
    assert not parts[0] & parts[1]
    assert sum(len(samples) for samples in data.splits.values()) == 60
    assert card(path).subgroups == {"site": ()}


def test_usual_columns_part_the_figures_with_bands_of_ages(tmp_path: Path) -> None:
    root = clinic(tmp_path / "clinic")
    head, *lines = (root / "labels.csv").read_text().splitlines()
    cells = [f"{('F', 'M', '')[i % 3]},{20 + i},{i:03d}Y,one" for i in range(60)]
    text = "\n".join(
        [
            f"{head},Patient Sex,age,Patient Age,scanner",
            *map(",".join, zip(lines, cells, strict=True)),
        ]
    )
    (root / "labels.csv").write_text(text)
    path = written(tmp_path, root, table=Path("labels.csv"))
    assert card(path).subgroups == {"site": (), "Patient Sex": (), "age": (45, 65)}
    data = load(path, size=8, files=Files(data_root=root))
    assert [each.name for each in data.subgroups] == ["site", "Patient Sex", "age"]
    shown = medrobust("data", "show", path).stdout
    assert "age: below 45, 45 to 65, from 65" in " ".join(shown.split())
    given = {"table": Path("labels.csv"), "split": "site", "test_on": ("C",)}
    assert "site" not in draft(root, Given(**given)).fields["subgroups"]  # it is the split


def test_a_site_column_makes_the_test_part(tmp_path: Path) -> None:
    root = clinic(tmp_path / "clinic")
    given = {"table": Path("labels.csv"), "split": "site", "test_on": ("C",)}
    data = load(written(tmp_path, root, **given), size=8, files=Files(data_root=root))
    assert len(data.splits["test"]) == 20
    assert {int(sample.split("scan")[1]) % 3 for sample in data.splits["test"].ids} == {2}
    chosen = {**given, "train_on": ("A",)}
    data = load(written(tmp_path, root, **chosen), size=8, files=Files(data_root=root))
    assert sum(len(samples) for samples in data.splits.values()) == 40  # nobody asked for B
    with pytest.raises(UserError, match="say which is which"):
        draft(root, Given(table=Path("labels.csv"), split="site"))
    with pytest.raises(UserError, match="unknown value of site 'D'"):
        draft(root, Given(table=Path("labels.csv"), split="site", test_on=("D",)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "lie in no class folders.*--table"),
        ({"table": Path("labels.csv"), "label": "diagnosi"}, "did you mean"),
        ({"table": Path("labels.csv"), "label": "File"}, "has 60 values, no classes"),
        ({"table": Path("other.csv")}, "cannot read the table"),
    ],
)
def test_what_cannot_be_told_is_asked_for(tmp_path: Path, given: dict, said: str) -> None:
    root = clinic(tmp_path / "clinic")
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    if given.get("label") == "diagnosi":
        given = {**given, "label": "Diagnosi"}
    with pytest.raises(UserError, match=said):
        draft(root, Given(**given))


def test_from_the_shell_it_writes_shows_and_never_overwrites(tmp_path: Path) -> None:
    root = clinic(tmp_path / "clinic")
    done = medrobust("data", "new", root, "--table", "labels.csv")
    assert "Written by `medrobust data new`" in done.stdout
    assert "Patients are those of the column Patient ID" in done.stdout
    assert (tmp_path / "clinic.yaml").is_file()
    again = medrobust("data", "new", root, "--table", "labels.csv", check=2)
    assert "is there already" in again.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no image" in medrobust("data", "new", empty, check=2).stderr


def test_a_card_needs_little_and_names_all_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text("title: mine\n")
    with pytest.raises(UserError, match="fields are missing: id, modalities, tasks, reader"):
        card(str(path))
