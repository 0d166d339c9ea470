"""Sets whose CSV files name images, labels and groups; several images a row make a paired set, a volume gives slices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from robustbench_med.data.preprocessing import ImageFile
from robustbench_med.data.readers.files import Found, candidates, is_image, missing, pattern, walk
from robustbench_med.data.readers.listing import Listing
from robustbench_med.data.registry import Card, TableReader
from robustbench_med.errors import UserError


def list_table(card: Card, reader: TableReader, data_root: Path | None) -> Listing:
    """The samples of a table set in the order of its tables' rows, sorted by id."""
    base = find_tables(card, reader, data_root)
    if base is None:
        raise missing(card, data_root, f"the tables {', '.join(table.file for table in reader.tables)} and the images they name")
    files = walk(base)
    search = Search(files)
    samples: dict[str, tuple[list[int], str, str, tuple[ImageFile, ...]]] = {}
    absent: list[str] = []
    for table in reader.tables:
        source = table_file(files, table.file)
        assert source is not None
        for line, row in enumerate(rows(base / source.name), 2):
            where = f"{source.name} line {line}"
            found = [search.first(filled(t, row, where) for t in reader.images[m.name]) for m in card.modalities]
            key = filled(reader.id, row, where)
            present = [file for file in found if file is not None]
            if len(present) < len(found):
                absent.append(key)
                continue
            group = filled(reader.group, row, where) if reader.group else key
            labels = [label_of(card, reader, t, row, where) for t in range(len(card.tasks))]
            for position in reader.slices or (None,):
                sample = f"{card.id}/{key}" + ("" if position is None else f"/z{position:.3f}")
                if sample in samples:
                    raise UserError(f"{card.id}: {where}: the id {sample} occurs twice; the card's `id` must be unique")
                samples[sample] = labels, group, table.split, tuple(ImageFile(base / file.name, position) for file in present)
    if not samples:
        raise UserError(f"{base} holds the tables of {card.id}, but none of the images they name")
    ids = tuple(sorted(samples))
    notes = (f"{card.id}: {len(absent)} rows without their files: {', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}",)

    def images() -> Iterator[tuple[ImageFile, ...]]:
        return (samples[sample][3] for sample in ids)

    return Listing(
        card,
        base,
        ids,
        np.array([samples[sample][0] for sample in ids], np.int64),
        tuple(f"{card.id}/{samples[sample][1]}" for sample in ids),
        tuple(samples[sample][2] for sample in ids),
        images,
        notes=notes if absent else (),
    )


class Search:
    """Finds a file by the end of its path; patterns allowed, letter case as the files have it."""

    def __init__(self, files: list[Found]) -> None:
        self.by_part: dict[str, list[Found]] = {}
        for file in files:
            if is_image(file.name):
                parts = file.name.split("/")
                for key in {*parts[:-1], parts[-1].partition(".")[0]}:
                    self.by_part.setdefault(key, []).append(file)

    def first(self, ends: Iterator[str]) -> Found | None:
        """The first file, by name, that ends as the earliest of the patterns does."""
        for end in ends:
            *folders, name = end.split("/")
            literal = [part for part in (*folders, name.partition(".")[0]) if not re.search(r"[*?]", part)]
            rule = re.compile(f"(?:.*/)?{pattern(end)}")
            for file in self.by_part.get(literal[-1], []) if literal else []:
                if rule.fullmatch(file.name):
                    return file
        return None


class Cell(PurePosixPath):
    """A cell of a table; `{column.parent.name}` in a template is a part of the path in it."""


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file as text, spaces and line ends around a cell removed."""
    try:
        frame = pd.read_csv(path, sep="\t" if path.suffix in (".tab", ".tsv") else ",", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the table {path}: {' '.join(str(error).split())}") from error
    names = [str(name).strip() for name in frame.columns]
    for values in frame.itertuples(index=False, name=None):
        yield {name: str(value).strip() for name, value in zip(names, values, strict=True)}


def filled(template: str, row: dict[str, str], where: str) -> str:
    """A template with a row's cells in it."""
    try:
        return template.format_map({name: Cell(value) for name, value in row.items()})
    except (KeyError, AttributeError, IndexError, ValueError) as error:
        raise UserError(f"{where}: cannot fill {template!r} ({error}); columns: {', '.join(row)}") from error


def label_of(card: Card, reader: TableReader, t: int, row: dict[str, str], where: str) -> int:
    """Class number of a row in task t; -1 for an empty cell."""
    task, column = card.tasks[t], reader.labels[card.tasks[t].name]
    if column not in row:
        raise UserError(f"{where}: no column {column!r}; columns: {', '.join(row)}")
    value = reader.values.get(row[column], row[column])
    if value and value not in task.classes:
        raise UserError(f"{where}: {column} is {row[column]!r}, expected one of {', '.join([*task.classes, *reader.values])}")
    return task.classes.index(value) if value else -1


def table_file(files: list[Found], name: str) -> Found | None:
    """The CSV file of a name, wherever it lies."""
    rule = re.compile(f"(?:.*/)?{pattern(name)}", re.IGNORECASE)
    return next((file for file in files if rule.fullmatch(file.name)), None)


def find_tables(card: Card, reader: TableReader, data_root: Path | None) -> Path | None:
    """The folder that holds all tables, at any depth below <root>/<id> or directly in the root."""
    for folder in candidates(card, (), data_root):
        names = [Found(path.name, 0, 0) for path in folder.iterdir() if path.is_file()]
        files = walk(folder) if folder.name == card.id else names
        if all(table_file(files, table.file) for table in reader.tables):
            return folder
    return None
