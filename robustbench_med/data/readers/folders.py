"""Sets whose folders or file names tell the class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robustbench_med.data.cards import Card, FolderReader
from robustbench_med.data.listing import Listing
from robustbench_med.data.preprocessing import ImageFile
from robustbench_med.data.readers.files import (
    Found,
    candidates,
    composed,
    is_image,
    is_other,
    missing,
    natural,
    pattern,
    walk,
)
from robustbench_med.data.readers.tags import tags_of
from robustbench_med.errors import UserError
from robustbench_med.formats.patterns import search


def list_folders(card: Card, reader: FolderReader, data_root: Path | None) -> Listing:
    """The samples of a folder set, ordered by split, class and name."""
    base = find_folder(card, reader, data_root)
    if base is None:
        raise missing(card, data_root, f"the folders {', '.join(top_folders(card, reader))}")
    placed = sorted(
        match(card, reader, walk(base)),
        key=lambda sample: (sample[0], sample[1], natural(sample[2].name)),
    )
    samples = [sample for sample in placed if is_image(base / sample[2].name)]
    names = [file.name for _, _, file in samples]
    left = sorted({file.name for _, _, file in placed}.difference(names), key=natural)
    notes = (
        [f"{card.id}: {len(left)} files are no images that can be read: {', '.join(left[:5])}"]
        if left
        else []
    )
    _check_classes(card, reader, base, samples, notes)
    ids = tuple(f"{card.id}/{name}" for name in names)
    published = tuple(
        list(reader.splits)[split] if reader.splits else "" for split, _, _ in samples
    )
    groups = (
        tags_of(card.id, base, [base / name for name in names], reader.tag)
        if reader.tag
        else [group_of(reader, split, file.name) for split, _, file in samples]
    )
    alone = [
        below_split(reader, split, file.name)
        for (split, _, file), group in zip(samples, groups, strict=True)
        if group is None
    ]
    if reader.tag and len(alone) == len(samples):
        raise UserError(f"{card.id}: no DICOM file has the card's tag {reader.tag}")
    if reader.group and len(alone) == len(samples):
        raise UserError(
            f"{card.id}: the card's group {reader.group!r} matches no file, such as {alone[0]}; it"
            " is searched in the path below the split folder"
        )
    if (reader.group or reader.tag) and alone:
        notes.append(
            f"{card.id}: {len(alone)} images without a group are each their own:"
            f" {', '.join(alone[:5])}"
        )
    (modality,) = card.modalities
    shown, unit = modality.window, modality.unit == "HU"

    def images() -> Iterator[tuple[ImageFile]]:
        return ((ImageFile(base / name, None, shown, unit),) for name in names)

    return Listing(
        card,
        base,
        ids,
        np.array([label for _, label, _ in samples], np.int64)[:, None],
        tuple(group or sample for sample, group in zip(ids, groups, strict=True)),
        published,
        images,
        notes=tuple(notes),
    )


def _check_classes(
    card: Card,
    reader: FolderReader,
    base: Path,
    samples: list[tuple[int, int, Found]],
    notes: list[str],
) -> None:
    """Every published part holds images of every class, else a UserError."""
    classes = card.tasks[0].classes
    parts: list[tuple[str, str]] = [*reader.splits.items()] or [("", ".")]
    for split, (name, inner) in enumerate(parts):
        labels = {label for s, label, _ in samples if s == split}
        folder = base / inner
        if name and not labels:
            raise UserError(
                "; ".join(
                    [
                        (
                            f"{card.id}: the published {name} part is empty, {folder} holds no"
                            " image of any class"
                        ),
                        *notes,
                    ]
                )
            )
        for label in sorted(set(range(len(classes))) - labels):
            where = folder / class_folders(reader, classes[label])[0]
            fault = f"{card.id}: no image of the class {classes[label]} in {where}"
            raise UserError(
                "; ".join([fault, *(notes or ["the class folder is missing or empty"])])
            )


def match(card: Card, reader: FolderReader, files: list[Found]) -> Iterator[tuple[int, int, Found]]:
    """(number of the split, label, file) of every file that lies where a sample does and may be
    one.
    """
    exclude = re.compile(
        "|".join(pattern(text) for text in reader.exclude) or r"(?!)", re.IGNORECASE
    )
    rules = [
        (
            s,
            label,
            re.compile(
                "".join(f"{pattern(part)}/" for part in (*split, folder) if part != ".") + names,
                re.IGNORECASE,
            ),
        )
        for s, split in enumerate([(folder,) for folder in reader.splits.values()] or [()])
        for label, name in enumerate(card.tasks[0].classes)
        for folder in class_folders(reader, name)
        for names in (pattern(reader.names.get(name, "*")),)
    ]
    for file in files:
        name = composed(file.name)
        if not is_other(name) and not exclude.fullmatch(name.rpartition("/")[2]):
            for split, label, rule in rules:
                if rule.fullmatch(name):
                    yield split, label, file
                    break


def class_folders(reader: FolderReader, name: str) -> tuple[str, ...]:
    """Patterns of a class's folder, the published spelling first."""
    folders = reader.folders.get(name, name)
    return (folders,) if isinstance(folders, str) else folders


def group_of(reader: FolderReader, split: int, name: str) -> str | None:
    """The group of a file: what the card's expression brackets in its path below the split folder;
    None where that is nothing.
    """
    if not reader.group:
        return None
    match = search(reader.group, below_split(reader, split, name))
    if match is None:
        return None
    return "/".join(part for part in match.groups() if part is not None) or None


def below_split(reader: FolderReader, split: int, name: str) -> str:
    """The path of a file below the folder of its split."""
    folders = [
        part
        for folder in list(reader.splits.values())[split : split + 1]
        for part in folder.split("/")
        if part != "."
    ]
    return composed(name).split("/", len(folders))[-1]


def find_folder(card: Card, reader: FolderReader, data_root: Path | None) -> Path | None:
    """The folder that holds the split or class folders."""
    wanted = [
        re.compile("|".join(map(pattern, names)), re.IGNORECASE) for names in _top(card, reader)
    ]
    for folder in candidates(card, reader.roots, data_root):
        entries = [path for path in folder.iterdir() if reader.names or path.is_dir()]
        if all(any(rule.fullmatch(composed(entry.name)) for entry in entries) for rule in wanted):
            return folder
    return None


def top_folders(card: Card, reader: FolderReader) -> list[str]:
    """What must lie in the data set's folder: one folder a published split, else one a class, else
    files by name.
    """
    return list(dict.fromkeys(names[0] for names in _top(card, reader)))


def _top(card: Card, reader: FolderReader) -> list[tuple[str, ...]]:
    """For each split or class the spellings of its topmost folder, or of its files where they lie
    in the folder itself.
    """
    if reader.splits:
        return [(folder.split("/")[0],) for folder in reader.splits.values()]
    classes = card.tasks[0].classes
    return [
        tuple(
            reader.names.get(name, "*") if folder == "." else folder.split("/")[0]
            for folder in class_folders(reader, name)
        )
        for name in classes
    ]
