"""`data new`: the card of a folder as it is, out of what lies in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from robustbench_med.data.readers.files import CLUTTER, Found, is_image, walk
from robustbench_med.data.readers.rows import Row, rows
from robustbench_med.data.readers.search import Search
from robustbench_med.data.readers.tags import tag_of
from robustbench_med.data.subgroups import MOST, UNKNOWN
from robustbench_med.errors import UserError, unknown

LOOKED_AT = 40
"""Images that are opened to see whether they are colour, and rows by which columns are guessed."""
PARTS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "ts"),
}
"""Names of folders and values of a column that say which part it is."""
PATIENT = ("patient", "patient_id", "patientid", "subject", "subject_id", "person", "case_id")
LABEL = ("label", "diagnosis", "class", "target", "dx", "finding", "outcome", "category")
SPLIT = ("split", "part", "fold", "subset", "set")
PARTING = (
    *("sex", "gender", "patient_sex", "patient_gender", "age", "patient_age", "age_years"),
    *("scanner", "device", "manufacturer", "vendor", "site", "centre", "center", "hospital"),
)
"""Columns by which figures are given apart."""
AGES, NUMBER = (45, 65), re.compile(r"[0-9]+([.][0-9]+)?")
GROUPS = (r"((?:patient|person|subject|case|pat|p)[-_]?\d+)",)
"""Where a file's name may say whose it is."""


@dataclass(frozen=True)
class Given:
    """What a user says of a folder; None: what can be seen.

    Attributes:
        table: a CSV file below the folder.
        patient, label, split: its columns.
        train_on, test_on: values of `split`, such as sites.
        modality: what the images are called.
    """

    table: Path | None = None
    patient: str | None = None
    label: str | None = None
    split: str | None = None
    train_on: tuple[str, ...] = ()
    test_on: tuple[str, ...] = ()
    modality: str = "image"


@dataclass(frozen=True)
class Draft:
    """A card as it is to be written: its fields, and what was seen for each of them."""

    fields: dict[str, Any]
    seen: dict[str, str]

    def text(self) -> str:
        """Commented YAML."""
        lines = ["# Written by `medrobust data new`; every line may be changed."]
        for name, value in self.fields.items():
            lines += [f"# {line}" for line in self.seen.get(name, "").splitlines()]
            flat = isinstance(value, str)
            dumped = yaml.safe_dump(
                {name: value}, sort_keys=False, allow_unicode=True, default_flow_style=False
            )
            lines.append(f"{name}: {value}" if flat else dumped.rstrip())
        return "\n".join([*lines, ""])


def draft(folder: Path, given: Given) -> Draft:
    """The card of a folder.

    Raises:
        UserError: no images, no classes, a table whose columns cannot be told.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; expected the one that holds the images")
    files = walk(folder)
    pictures = [file for file in files if is_image(folder / file.name)]
    if not pictures:
        raise UserError(f"{folder} holds no image (PNG, JPEG, TIFF, DICOM, NIfTI, ...)")
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._") or "data"
    channels = channels_of(folder, pictures)
    found = (
        of_table(folder, files, given)
        if given.table is not None
        else of_folders(folder, [file.name for file in pictures])
    )
    fields = {
        "id": name,
        "modalities": [{"name": given.modality, "channels": channels}],
        **found.fields,
    }
    kind = "grey" if channels == 1 else "colour"
    seen = {
        "id": f"{len(pictures)} images in {folder.name}; use it as --data-root.",
        "modalities": f"Images are {kind}. CT needs a window: window: {{center: 40, width: 400}}.",
        **found.seen,
    }
    return Draft(fields, seen)


def channels_of(folder: Path, pictures: Sequence[Found]) -> int:
    """1 where the images looked at are grey, else 3."""
    step = max(len(pictures) // LOOKED_AT, 1)
    for file in pictures[::step]:
        try:
            with Image.open(folder / file.name) as image:
                if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
                    continue
                plain = image.convert("RGB").resize((32, 32))
        except OSError:
            continue  # DICOM, NIfTI, or what `verify` will call unreadable
        red, green, blue = plain.split()
        if red.tobytes() != green.tobytes() or red.tobytes() != blue.tobytes():
            return 3
    return 1


def part_of(word: str) -> str | None:
    """The part that a folder's name or a cell says."""
    return next((part for part, words in PARTS.items() if word.strip().lower() in words), None)


def of_folders(folder: Path, names: Sequence[str]) -> Draft:
    """Tasks and reader of class folders, with parts above them or none."""
    paths = [name.split("/") for name in names]
    inner: tuple[str, ...] = ()
    while all(len(path) > 2 for path in paths) and len({path[0] for path in paths}) == 1:
        inner, paths = (*inner, paths[0][0]), [path[1:] for path in paths]
    parts = {path[0]: part for path in paths if len(path) > 2 and (part := part_of(path[0]))}
    if parts and all(path[0] in parts for path in paths):
        paths = [path[1:] for path in paths]
    else:
        parts = {}
    if any(len(path) < 2 for path in paths):
        raise UserError(
            "the images lie in no class folders; put those of each class into a folder of its name,"
            " or name a table that says the classes: --table labels.csv"
        )
    classes = sorted({path[0] for path in paths if path[0].lower() not in CLUTTER})
    if len(classes) < 2:
        raise UserError(f"there is one class folder, {classes[0]!r}; a task has two or more")
    reader: dict[str, Any] = {"kind": "folders"}
    if inner:
        reader["roots"] = ["/".join(inner)]
    if parts:
        reader["splits"] = {part: word for word, part in parts.items()}
    below = ["/".join(path) for path in paths]
    group = next((rule for rule in GROUPS if shares(rule, below)), None)
    tag = patients_in(folder, names)
    if tag:
        reader["tag"] = tag
    elif group:
        reader["group"] = group
    counts = Counter(path[0] for path in paths)
    return Draft(
        {"tasks": [{"name": "class", "classes": classes}], "reader": reader},
        {
            "tasks": "Images: " + ", ".join(f"{name} {counts[name]}" for name in classes) + ".",
            "reader": (
                f"DICOM files say whose they are ({tag}): no patient is torn apart by the split."
                if tag
                else "Names seem to say whose an image is: no patient is torn apart by the split."
                if group
                else "No patients seen in the names. If there are any, name them:\n"
                r"group: '(p\d+)_' is searched in the path, the brackets hold the patient."
            ),
        },
    )


def patients_in(folder: Path, names: Sequence[str]) -> str | None:
    """The element of DICOM files that says whose they are, where all looked at have it."""
    looked_at = names[:: max(len(names) // LOOKED_AT, 1)]
    return "PatientID" if all(tag_of(folder / name, "PatientID") for name in looked_at) else None


def shares(rule: str, names: Sequence[str]) -> bool:
    """Whether a rule finds a patient in every name, and some patient in several."""
    found = [re.search(rule, name, re.IGNORECASE) for name in names]
    who = {match.group(1) for match in found if match}
    return all(found) and len(who) < len(names)


def of_table(folder: Path, files: list[Found], given: Given) -> Draft:
    """Tasks and reader of a CSV file that names images, labels and patients."""
    assert given.table is not None
    path = given.table if given.table.is_file() else folder / given.table
    try:
        inside = path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError as error:
        raise UserError(f"{path} must lie in {folder}: a card finds it there") from error
    table = [row for _, row in rows(path)]
    if not table:
        raise UserError(f"{path} has no rows")
    columns = list(table[0])
    search = Search(folder, files)
    image, template = image_column(table, search, path)
    label = column_of(given.label, LABEL, columns, table, "label")
    if label is None:
        raise UserError(f"{path}: which column is the label? --label one of {', '.join(columns)}")
    classes = sorted({row[label] for row in table if row[label]})
    if not 2 <= len(classes) <= min(100, len(table) // 2):
        raise UserError(
            f"{path}: the column {label!r} has {len(classes)} values, no classes; --label names"
            " another"
        )
    patient = column_of(given.patient, PATIENT, columns, table, "patient")
    split = column_of(given.split, SPLIT, columns, table, "split")
    reader: dict[str, Any] = {
        "kind": "table",
        "tables": [{"file": Path(inside).name}],
        "images": {given.modality: [template]},
        "labels": {"label": label},
        "id": f"{{{image}}}",
    }
    tag = None
    if patient:
        reader["group"] = f"{{{patient}}}"
    else:
        tag = patients_in(folder, [file.name for file in files if is_image(folder / file.name)])
        reader |= {"tag": tag} if tag else {}
    parts = parts_of(split, table, given, path) if split else {}
    if parts:
        reader["parts"] = {"column": split, **parts}
    said = f"Patients are those of the column {patient}." if patient else "No column of patients."
    said += f" DICOM files say whose they are ({tag})." if tag else ""
    subgroups = subgroups_of(table, {image, label, patient, *([split] if parts else [])})
    return Draft(
        {"tasks": [{"name": "label", "classes": classes}], "reader": reader}
        | ({"subgroups": subgroups} if subgroups else {}),
        {
            "tasks": f"The column {label}.",
            "reader": f"{len(table)} rows; images by the column {image}. {said}",
            "subgroups": (
                "Columns by which figures are given apart, and where bands of numbers begin; no"
                " network sees them."
            ),
        },
    )


def subgroups_of(table: Sequence[Row], taken: Collection[str | None]) -> dict[str, list[int]]:
    """The columns with usual names that part the rows, with bands where they are ages."""
    found: dict[str, list[int]] = {}
    for column in (each for each in table[0] if each not in taken and as_usual(each) in PARTING):
        values = {row[column] for row in table} - {"", UNKNOWN}
        numbers = "age" in as_usual(column) and all(map(NUMBER.fullmatch, values))  # not 058Y
        ages = [float(value) for value in values] if numbers else []
        cuts = [cut for cut in AGES if ages and min(ages) < cut <= max(ages)]
        if cuts or 2 <= len(values) <= MOST:
            found[column] = cuts
    return found


def as_usual(column: str) -> str:
    """A column's name as usual ones are written: `Patient ID` as patient_id."""
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def column_of(
    given: str | None,
    usual: Sequence[str],
    columns: Sequence[str],
    table: Sequence[Row],
    what: str,
) -> str | None:
    """A column that a user names, or one that bears a usual name."""
    if given is not None:
        if given not in columns:
            raise unknown(f"{what} column", given, columns)
        return given
    found = {as_usual(column): column for column in columns}
    return next((found[name] for name in usual if name in found), None)


def image_column(table: Sequence[Row], search: Search, path: Path) -> tuple[str, str]:
    """The column that names the images, and the template of their files."""
    looked_at = table[:: max(len(table) // LOOKED_AT, 1)]
    found: dict[tuple[str, str], int] = {}
    for column in table[0]:
        for template in (f"{{{column}}}", f"{{{column}}}.*", f"{{{column}.name}}"):
            ends = [row[column].replace("\\", "/") for row in looked_at if row[column]]
            if template.endswith(".name}"):
                ends = [end.rpartition("/")[2] for end in ends]
            ends = [end + ".*" if template.endswith(".*") else end for end in ends]
            if len(set(ends)) < len(ends) // 2:
                continue  # labels name folders, not images
            found[column, template] = sum(finds(search, end, path) for end in ends)
    best = max(found, key=lambda key: found[key], default=None)
    if best is None or found[best] < 0.5 * len(looked_at):
        raise UserError(
            f"{path}: no column names the images of {search.base}; {search.example()}; a column"
            " must hold their names or paths"
        )
    return best


def finds(search: Search, end: str, path: Path) -> bool:
    """Whether one image has this end."""
    try:
        return search.find(end, end, path.name) is not None
    except UserError:
        return False


def parts_of(split: str, table: Sequence[Row], given: Given, path: Path) -> dict[str, list[str]]:
    """Which values of a column are which part."""
    values = sorted({row[split] for row in table if row[split]})
    parts: dict[str, list[str]] = {}
    named: Mapping[str, Sequence[str]] = {"train": given.train_on, "test": given.test_on}
    for part, chosen in named.items():
        for value in chosen:
            if value not in values:
                raise unknown(f"value of {split}", value, values)
            parts.setdefault(part, []).append(value)
    if not parts:
        for value in values:
            if word := part_of(value):
                parts.setdefault(word, []).append(value)
    elif "test" not in parts or "train" not in parts:
        taken = {value for chosen in parts.values() for value in chosen}
        rest = [value for value in values if value not in taken]
        parts.setdefault("train" if "test" in parts else "test", []).extend(rest)
    if given.split and not {"train", "test"} <= set(parts):
        raise UserError(
            f"{path}: the column {split!r} holds {', '.join(values[:8])}; say which is which:"
            " --train-on A,B --test-on C"
        )
    return parts if {"train", "test"} <= set(parts) else {}
