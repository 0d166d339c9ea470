"""Sets whose CSV files name images, labels and groups; several images a row make a paired set, a
volume gives slices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from robustbench_med.data import subgroups
from robustbench_med.data.cards import Card, Table, TableReader, Window
from robustbench_med.data.listing import Cells, Listing
from robustbench_med.data.preprocessing import ImageFile, Raw
from robustbench_med.data.readers.files import Found, candidates, composed, missing, pattern, walk
from robustbench_med.data.readers.rows import Row, filled, has_empty, rows
from robustbench_med.data.readers.search import Search
from robustbench_med.data.readers.tags import tags_of
from robustbench_med.data.scans import read_nifti
from robustbench_med.data.subgroups import Parted
from robustbench_med.errors import UserError
from robustbench_med.formats.files import data_of, reason_of

BLACK: Raw = np.zeros((1, 1), np.uint8)
"""What stands for an image that is missing."""
ABOVE_ZERO = Window(center=0.5, width=1)
"""Shows what is outlined, 1 and above, as white, the rest as black."""


@dataclass(frozen=True)
class Sample:
    """A row that has its files: labels of T tasks, the group, the published split, M images (a
    black one for what is missing), cells of its clinical tables, subgroups by other columns.
    """

    labels: list[int]
    group: str
    split: str
    images: tuple[Raw, ...]
    cells: Cells
    parted: Parted


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
        wanted = rows_of(files, table, base)
        for number, (line, row) in enumerate(rows(base / source.name)):
            if wanted is None or number in wanted:
                collected.add(row, f"{source.name} line {line}", table.split)
    samples = collected.samples
    _check_parts(card, reader, base, samples, collected.why_absent)
    if reader.tag:
        collected.group_by(reader.tag)
    ids = tuple(sorted(samples))
    parted = tuple(samples[sample].parted for sample in ids)
    return Listing(
        card,
        base,
        ids,
        np.array([samples[sample].labels for sample in ids], np.int64),
        tuple(f"{card.id}/{samples[sample].group}" for sample in ids),
        tuple(samples[sample].split for sample in ids),
        lambda: (samples[sample].images for sample in ids),
        notes=(*collected.notes(), *subgroups.told(card, parted)),
        cells=(
            tuple(samples[sample].cells for sample in ids)
            if len(card.pictures) < len(card.modalities)
            else ()
        ),
        parted=parted if subgroups.of_listing(card) else (),
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
        if any(row.get(column, "") != cell for column, cell in self.reader.only.items()):
            return
        if parts := self.reader.parts:
            if parts.column not in row:
                raise UserError(f"{where}: no column {parts.column!r}; columns: {', '.join(row)}")
            if (part := parts.of(composed(row[parts.column]))) is None:
                return
            split = part
        pictures = self.card.pictures
        templates = [self.reader.images[modality.name] for modality in pictures]
        files = [_file_of(self.search, options, row, where) for options in templates]
        key = filled(self.reader.id, row, where)
        needed = [f for f, modality in zip(files, pictures, strict=True) if not modality.optional]
        outlines = {
            task: _file_of(self.search, options, row, where)
            for task, options in self.reader.outlines.items()
        }
        looked_for = [f for f in (*needed, *outlines.values()) if isinstance(f, str)]
        if looked_for or not any(isinstance(file, Found) for file in files):
            missing_file = [*looked_for, *(f for f in files if isinstance(f, str))][0]
            self.absent[key] = f"{where} looks for {missing_file}"
            return
        group = group_of(self.reader, row, where)
        if self.reader.group and not group:
            self.alone.append(key)
        positions = self.reader.slices or (None,)
        marked = {
            task: marked_slices(self.base / file.name, self.reader.slices)
            for task, file in outlines.items()
            if isinstance(file, Found)
        }
        cells = cells_of(self.card, self.reader, row, where)
        parted = parted_of(self.card, self.reader, row, where)
        for number, position in enumerate(positions):
            labels = [
                int(marked[task.name][number])
                if task.name in marked
                else label_of(self.card, self.reader, t, row, where)
                for t, task in enumerate(self.card.tasks)
            ]
            sample = f"{self.card.id}/{key}" + ("" if position is None else f"/z{position:.3f}")
            if sample in self.samples:
                raise UserError(
                    f"{self.card.id}: {where}: the id {sample} occurs twice; the card's `id` must"
                    " be unique"
                )
            images = tuple(
                ImageFile(self.base / file.name, position, modality.window, modality.unit == "HU")
                if isinstance(file, Found)
                else BLACK
                for file, modality in zip(files, pictures, strict=True)
            )
            self.samples[sample] = Sample(labels, group or key, split, images, cells, parted)

    def group_by(self, tag: str) -> None:
        """Groups the samples by an element of the first of their files; a sample whose file does
        not have it is its own group.
        """
        firsts = [
            next(raw.path for raw in sample.images if isinstance(raw, ImageFile))
            for sample in self.samples.values()
        ]
        said = tags_of(self.card.id, self.base, firsts, tag)
        if not any(said):
            raise UserError(f"{self.card.id}: no DICOM file has the card's tag {tag}")
        for (name, sample), group in zip([*self.samples.items()], said, strict=True):
            self.samples[name] = replace(sample, group=group or sample.group)
            if not group:
                self.alone.append(name.removeprefix(f"{self.card.id}/"))

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
    for name in column if isinstance(column, tuple) else (column,):
        if name not in row:
            raise UserError(f"{where}: no column {name!r}; columns: {', '.join(row)}")
    if isinstance(column, tuple):
        return one_of(column, row, where)
    cell = composed(row[column])
    value = "" if cell in reader.unknown else reader.values.get(cell, cell)
    if value and value not in task.classes:
        raise UserError(
            f"{where}: {column} is {row[column]!r}, expected one of"
            f" {', '.join([*task.classes, *reader.values])}"
        )
    return task.classes.index(value) if value else -1


def one_of(columns: tuple[str, ...], row: Row, where: str) -> int:
    """Which of a task's columns holds 1; -1 where all cells are empty."""
    cells = [row[name] for name in columns]
    ones = [number for number, cell in enumerate(cells) if cell in ("1", "1.0")]
    if len(ones) != 1 and any(cells):
        raise UserError(f"{where}: one of {', '.join(columns)} must be 1, got {', '.join(cells)}")
    return ones[0] if ones else -1


def cells_of(card: Card, reader: TableReader, row: Row, where: str) -> Cells:
    """The cells of each clinical table by column; None where all of one that may be missing are
    empty.
    """
    found: list[dict[str, str] | None] = []
    for modality in card.modalities:
        if not modality.columns:
            continue
        headers = reader.cells.get(modality.name, {})
        cells = {}
        for column in modality.columns:
            header = headers.get(column.name, column.name)
            if header not in row:
                raise UserError(f"{where}: no column {header!r}; columns: {', '.join(row)}")
            cell = composed(row[header])
            cells[column.name] = "" if cell in reader.unknown else cell
        found.append(cells if any(cells.values()) or not modality.optional else None)
    return tuple(found)


def parted_of(card: Card, reader: TableReader, row: Row, where: str) -> Parted:
    """The subgroup of a row in each column that its card parts by and no table has."""
    found = []
    for name, cuts in subgroups.of_listing(card).items():
        if name not in row:
            raise UserError(f"{where}: no column {name!r}; columns: {', '.join(row)}")
        cell = composed(row[name])
        try:
            said = subgroups.subgroup_of(name, "" if cell in reader.unknown else cell, cuts)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        found.append(said)
    return tuple(found)


def marked_slices(path: Path, positions: tuple[float, ...]) -> list[bool]:
    """Whether an outline, a volume of which what is outlined is above 0, has any of it in each
    slice.
    """
    try:
        data = data_of(path, "image_bytes")
        planes = [read_nifti(data, position, ABOVE_ZERO).values for position in positions]
    except UserError:
        raise
    except Exception as error:  # nibabel has no common ancestor for a faulty file
        raise UserError(f"cannot read the outline {path}: {reason_of(error)}") from error
    return [bool(plane.any()) for plane in planes]


def rows_of(files: list[Found], table: Table, base: Path) -> set[int] | None:
    """The numbers of the rows that a table's part is; None: all.

    Raises:
        UserError: the file of numbers is missing or holds something else.
    """
    if table.rows is None:
        return None
    source = table_file(files, table.rows.file)
    if source is None:
        raise UserError(f"{base} holds no {table.rows.file}, the rows of the {table.split} part")
    numbers = set()
    for line, row in rows(base / source.name):
        cell = row.get(table.rows.column, "")
        if not (cell.isascii() and cell.isdecimal()):
            raise UserError(
                f"{source.name} line {line}: {table.rows.column} must be the number of a row, got"
                f" {cell!r}; columns: {', '.join(row)}"
            )
        numbers.add(int(cell))
    return numbers


def table_file(files: list[Found], name: str) -> Found | None:
    """The CSV file of a name, wherever it lies."""
    rule = re.compile(f"(?:.*/)?{pattern(name)}", re.IGNORECASE)
    return next((file for file in files if rule.fullmatch(composed(file.name))), None)


def find_tables(card: Card, reader: TableReader, data_root: Path | None) -> Path | None:
    """The folder that holds all tables, at any depth below <root>/<id> or directly in the root."""
    for folder in candidates(card, (), data_root):
        names = [Found(path.name) for path in folder.iterdir() if path.is_file()]
        files = walk(folder) if folder.name == card.id else names
        if all(
            table_file(files, name)
            for table in reader.tables
            for name in (table.file, *([table.rows.file] if table.rows else []))
        ):
            return folder
    return None
