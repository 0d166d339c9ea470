"""Sets whose folders or file names tell the class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robustbench_med.data.preprocessing import ImageFile
from robustbench_med.data.readers.files import Found, candidates, is_image, missing, natural, pattern, walk
from robustbench_med.data.readers.listing import Listing
from robustbench_med.data.registry import Card, FolderReader
from robustbench_med.errors import UserError


def list_folders(card: Card, reader: FolderReader, data_root: Path | None) -> Listing:
    """The samples of a folder set, ordered by split, class and name."""
    base = find_folder(card, reader, data_root)
    if base is None:
        raise missing(card, data_root, f"the folders {', '.join(top_folders(card, reader))}")
    samples = sorted(match(card, reader, walk(base)), key=lambda sample: (sample[0], sample[1], natural(sample[2].name)))
    classes = card.tasks[0].classes
    for split in range(max(len(reader.splits), 1)):
        for label in sorted(set(range(len(classes))) - {s[1] for s in samples if s[0] == split}):
            folder = Path(base, *list(reader.splits.values())[split : split + 1], class_folders(reader, classes[label])[0])
            raise UserError(f"{card.id}: no image of the class {classes[label]} in {folder}; the class folder is missing or empty")
    names = [file.name for _, _, file in samples]
    ids = tuple(f"{card.id}/{name}" for name in names)
    published = tuple(list(reader.splits)[split] if reader.splits else "" for split, _, _ in samples)

    def images() -> Iterator[tuple[ImageFile]]:
        return ((ImageFile(base / name),) for name in names)

    return Listing(
        card,
        base,
        ids,
        np.array([label for _, label, _ in samples], np.int64)[:, None],
        tuple(group_of(reader, sample, name) for sample, name in zip(ids, names, strict=True)),
        published,
        images,
    )


def match(card: Card, reader: FolderReader, files: list[Found]) -> Iterator[tuple[int, int, Found]]:
    """(number of the split, label, file) of every file that is a sample."""
    exclude = re.compile("|".join(pattern(text) for text in reader.exclude) or r"(?!)", re.IGNORECASE)
    rules = [
        (s, label, re.compile("".join(f"{pattern(part)}/" for part in (*split, folder) if part != ".") + names, re.IGNORECASE))
        for s, split in enumerate([(folder,) for folder in reader.splits.values()] or [()])
        for label, name in enumerate(card.tasks[0].classes)
        for folder in class_folders(reader, name)
        for names in (pattern(reader.names.get(name, "*")),)
    ]
    for file in files:
        if is_image(file.name) and not exclude.fullmatch(file.name.rpartition("/")[2]):
            for split, label, rule in rules:
                if rule.fullmatch(file.name):
                    yield split, label, file
                    break


def class_folders(reader: FolderReader, name: str) -> tuple[str, ...]:
    """Patterns of a class's folder, the published spelling first."""
    folders = reader.folders.get(name, name)
    return (folders,) if isinstance(folders, str) else folders


def group_of(reader: FolderReader, sample: str, name: str) -> str:
    """The group of a file: what the card's expression brackets, else the sample itself."""
    found = re.search(reader.group, name, re.IGNORECASE) if reader.group else None
    return "/".join(part for part in found.groups() if part is not None) if found else sample


def find_folder(card: Card, reader: FolderReader, data_root: Path | None) -> Path | None:
    """The folder that holds the split or class folders."""
    wanted = [re.compile("|".join(map(pattern, names)), re.IGNORECASE) for names in _top(card, reader)]
    for folder in candidates(card, reader.roots, data_root):
        entries = [path for path in folder.iterdir() if reader.names or path.is_dir()]
        if all(any(rule.fullmatch(entry.name) for entry in entries) for rule in wanted):
            return folder
    return None


def top_folders(card: Card, reader: FolderReader) -> list[str]:
    """What must lie in the data set's folder: one folder a published split, else one a class, else files by name."""
    return list(dict.fromkeys(names[0] for names in _top(card, reader)))


def _top(card: Card, reader: FolderReader) -> list[tuple[str, ...]]:
    """For each split or class the spellings of its topmost folder, or of its files where they lie in the folder itself."""
    if reader.splits:
        return [(folder.split("/")[0],) for folder in reader.splits.values()]
    classes = card.tasks[0].classes
    return [
        tuple(reader.names.get(name, "*") if folder == "." else folder.split("/")[0] for folder in class_folders(reader, name))
        for name in classes
    ]
