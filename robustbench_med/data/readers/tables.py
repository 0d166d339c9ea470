"""Sets whose CSV files name images, labels and groups; several images a row make a paired set, a
volume gives slices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robustbench_med.data.cards import Card, TableReader
from robustbench_med.data.listing import Listing
from robustbench_med.data.preprocessing import ImageFile
from robustbench_med.data.readers.files import Found, candidates, composed, missing, pattern, walk
from robustbench_med.data.readers.rows import Row, filled, has_empty, rows
from robustbench_med.data.readers.search import Search
from robustbench_med.errors import UserError


@dataclass(frozen=True)
class Sample:
    """A row that has its files: labels of T tasks, the group, the published split, M images."""

    labels: list[int]
    group: str
    split: str
    images: tuple[ImageFile, ...]


def list_table(card: Card, reader: TableReader, data_root: Path | None) -> Listing:
    """The samples of a table set in the order of its tables' rows, sorted by id."""
    base = find_tables(card, reader, data_root)
    if base is None:
        raise missing(
            card,
            data_root,
            f"the tables {', '.join(table.file for table in reader.tables)} and the images they"
            " name",
        )
    files = walk(base)
    collected = Collected(card, reader, base, Search(base, files))
    for table in reader.tables:
        source = table_file(files, table.file)
        assert source is not None
        for line, row in rows(base / source.name):
            collected.add(row, f"{source.name} line {line}", table.split)
    samples = collected.samples
    _check_parts(card, reader, base, samples, collected.why_absent)
    ids = tuple(sorted(samples))
    return Listing(
        card,
        base,
        ids,
        np.array([samples[sample].labels for sample in ids], np.int64),
        tuple(f"{card.id}/{samples[sample].group}" for sample in ids),
        tuple(samples[sample].split for sample in ids),
        lambda: (samples[sample].images for sample in ids),
        notes=tuple(collected.notes()),
    )


@dataclass
class Collected:
    """The samples that a table set's rows name, and what must be said of rows that name none."""

    card: Card
    reader: TableReader
    base: Path
    search: Search
    samples: dict[str, Sample] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """By key, what was looked for, of rows without their files."""
    alone: list[str] = field(default_factory=list)
    """Keys of rows without a group."""

    def add(self, row: Row, where: str, split: str) -> None:
        """The samples of one row: one, or one for each slice; `where`: its table and line."""
        templates = [self.reader.images[modality.name] for modality in self.card.modalities]
        files = [_file_of(self.search, options, row, where) for options in templates]
        key = filled(self.reader.id, row, where)
        present = [file for file in files if isinstance(file, Found)]
        if len(present) < len(files):
            looked_for = next(file for file in files if isinstance(file, str))
            self.absent[key] = f"{where} looks for {looked_for}"
            return
        group = group_of(self.reader, row, where)
        if self.reader.group and not group:
            self.alone.append(key)
        tasks = range(len(self.card.tasks))
        labels = [label_of(self.card, self.reader, t, row, where) for t in tasks]
        for position in self.reader.slices or (None,):
            sample = f"{self.card.id}/{key}" + ("" if position is None else f"/z{position:.3f}")
            if sample in self.samples:
                raise UserError(
                    f"{self.card.id}: {where}: the id {sample} occurs twice; the card's `id` must"
                    " be unique"
                )
            images = tuple(
                ImageFile(self.base / file.name, position, modality.window)
                for file, modality in zip(present, self.card.modalities, strict=True)
            )
            self.samples[sample] = Sample(labels, group or key, split, images)

    @property
    def looked_for(self) -> str:
        """What the first row without its files looks for."""
        return next(iter(self.absent.values()), "")

    @property
    def why_absent(self) -> str:
        """Why there may be no samples, for a message."""
        return f"{self.looked_for}; {self.search.example()}" if self.absent else ""

    def notes(self) -> list[str]:
        """What a reader of the results must know."""
        notes = []
        if self.absent:
            notes.append(
                f"{self.card.id}: {len(self.absent)} rows without their files:"
                f" {_named(list(self.absent))}; {self.looked_for}"
            )
        if self.alone:
            notes.append(
                f"{self.card.id}: {len(self.alone)} rows without a group are each their own:"
                f" {_named(self.alone)}"
            )
        return notes


def _check_parts(
    card: Card, reader: TableReader, base: Path, samples: dict[str, Sample], why: str
) -> None:
    """Every published part has samples, and so has the whole, else a UserError."""
    if not samples:
        raise UserError(
            f"{base} holds the tables of {card.id}, but none of the images they name:"
            f" {why or 'they have no rows'}"
        )
    with_samples = {sample.split for sample in samples.values()}
    for table in reader.tables:
        if table.split and table.split not in with_samples:
            raise UserError(
                f"{card.id}: the published {table.split} part is empty, {table.file}:"
                f" {why or 'no rows'}"
            )


def _file_of(search: Search, templates: tuple[str, ...], row: Row, where: str) -> Found | str:
    """The file a row names by the first template that finds one; else what was looked for."""
    looked_for = []
    for template in templates:
        if not has_empty(template, row):
            end = filled(template, row, where)
            file = search.find(end, template, where)
            if file is not None:
                return file
            looked_for.append(repr(end))
    return " or ".join(looked_for) or f"nothing, since cells of {templates[0]!r} are empty"


def _named(keys: list[str]) -> str:
    return f"{', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"


def group_of(reader: TableReader, row: Row, where: str) -> str:
    """The group of a row; empty where the card has none or a cell of it is empty."""
    return (
        composed(filled(reader.group, row, where))
        if reader.group and not has_empty(reader.group, row)
        else ""
    )


def label_of(card: Card, reader: TableReader, t: int, row: Row, where: str) -> int:
    """Class number of a row in task t; -1 for an empty cell."""
    task, column = card.tasks[t], reader.labels[card.tasks[t].name]
    if column not in row:
        raise UserError(f"{where}: no column {column!r}; columns: {', '.join(row)}")
    cell = composed(row[column])
    value = reader.values.get(cell, cell)
    if value and value not in task.classes:
        raise UserError(
            f"{where}: {column} is {row[column]!r}, expected one of"
            f" {', '.join([*task.classes, *reader.values])}"
        )
    return task.classes.index(value) if value else -1


def table_file(files: list[Found], name: str) -> Found | None:
    """The CSV file of a name, wherever it lies."""
    rule = re.compile(f"(?:.*/)?{pattern(name)}", re.IGNORECASE)
    return next((file for file in files if rule.fullmatch(composed(file.name))), None)


def find_tables(card: Card, reader: TableReader, data_root: Path | None) -> Path | None:
    """The folder that holds all tables, at any depth below <root>/<id> or directly in the root."""
    for folder in candidates(card, (), data_root):
        names = [Found(path.name) for path in folder.iterdir() if path.is_file()]
        files = walk(folder) if folder.name == card.id else names
        if all(table_file(files, table.file) for table in reader.tables):
            return folder
    return None
