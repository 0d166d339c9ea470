"""Rows of a CSV file as text, and templates filled with them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from string import Formatter

from robustbench_med.data.readers.files import composed
from robustbench_med.errors import UserError
from robustbench_med.formats.files import checked, reason_of
from robustbench_med.formats.limits import beyond, limit

Row = dict[str, str]
PARTS = ("name", "stem", "suffix", "suffixes", "parent", "parents", "parts")
"""What a template may take of a cell that is a path."""


class PathCell(PurePosixPath):
    """A cell of a table; `{column.parent.name}` in a template is a part of the path in it. An empty
    cell is empty text.
    """

    def __str__(self) -> str:
        return super().__str__() if self.parts else ""


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(number of the line, cells by column) of a CSV file, spaces and line ends around a cell
    removed, empty rows left out.

    Separators are commas, semicolons or tabs, whichever part the header most. More cells than
    columns are right where the surplus ones are empty.

    Raises:
        UserError: not readable, not UTF-8, or a row that does not fit the header.
    """
    reader = None
    try:
        checked(path, "table_bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=separator(header), strict=True)
            first = next(reader, [])
            if len(first) > limit("table_columns"):
                raise ValueError(f"it has {beyond('table_columns', len(first))}")
            names = _columns(first)
            start = reader.line_num + 1
            for cells in reader:
                line, start = start, reader.line_num + 1
                values = [cell.strip() for cell in cells]
                if any(values):
                    _check(path, line, values, names)
                    yield line, dict(zip(names, values, strict=False))
    except UnicodeDecodeError as error:
        raise UserError(
            f"cannot read the table {path}: it is not UTF-8 ({error.reason}); save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        place = f"line {reader.line_num}: " if reader else ""
        raise UserError(f"cannot read the table {path}: {place}{error}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the table {path}: {reason_of(error)}") from error


def separator(header: str) -> str:
    """What parts the columns of a header: the first of comma, semicolon and tab that gives the
    most.
    """
    return max(",;\t", key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _columns(header: list[str]) -> list[str]:
    """Names of the columns; one that occurs again gets a number."""
    names: list[str] = []
    for name in (composed(cell.strip()) for cell in header):
        names.append(
            name
            if name not in names
            else f"{name}.{sum(re.sub(r'[.][0-9]+$', '', n) == name for n in names)}"
        )
    return names


def _check(path: Path, line: int, values: list[str], names: list[str]) -> None:
    if len(values) < len(names) or any(values[len(names) :]):
        raise UserError(
            f"cannot read the table {path}: line {line} has {len(values)} cells, the header"
            f" {len(names)} columns ({', '.join(names)}); mend the row, or put a cell that holds"
            " the separator in quotes"
        )


def filled(template: str, row: Row, where: str) -> str:
    """A template with a row's cells in it; backslashes of a path are slashes.

    What it may say of a cell is `PARTS`; a card's text is no format of Python's, which has widths
    and reaches into objects.
    """
    try:
        pieces = Formatter().parse(template)
        return "".join(text + _filled(field, form, kind, row) for text, field, form, kind in pieces)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        said = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{where}: cannot fill {template!r} ({said}); columns: {', '.join(row)}"
        ) from error


def _filled(field: str | None, form: str | None, conversion: str | None, row: Row) -> str:
    if field is None:
        return ""
    if form or conversion:
        said = f":{form[:20]}" if form else f"!{conversion}"
        raise ValueError(f"a format such as {said!r} is not taken")
    name = next((n for n in sorted(row, key=len, reverse=True) if field.startswith(n)), field)
    cell: object = PathCell(row[name].replace("\\", "/"))
    rest = field[len(name) :]
    if not re.fullmatch(r"([.][a-z]+|\[\d{1,3}\])*", rest):
        raise ValueError(f"{rest[:40]!r} is no part of a path, such as .name or .parts[0]")
    for part in re.findall(r"[.]([a-z]+)|\[(\d+)\]", rest):
        if part[0] and not (part[0] in PARTS and isinstance(cell, PurePosixPath)):
            raise ValueError(f"{part[0]!r} is no part of a path; known: {', '.join(PARTS)}")
        if not part[0] and not isinstance(cell, Sequence):
            raise ValueError(f"[{part[1]}] is of parts, parents or suffixes")
        cell = getattr(cell, part[0]) if part[0] else cell[int(part[1])]  # type: ignore[index]
    if not isinstance(cell, str | PurePosixPath):
        raise ValueError(f"{rest} is a list; say which, as {rest}[0]")
    return str(cell)


def has_empty(template: str, row: Row) -> bool:
    """Whether a cell that a template names is empty; not of one that `filled` refuses."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field]
    except ValueError:
        return False
    return any(not row.get(re.split(r"[.\[]", field)[0], field) for field in fields)
