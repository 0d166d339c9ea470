"""Rows of a CSV file as text, and templates filled with them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from string import Formatter

from robustbench_med.data.readers.files import composed
from robustbench_med.errors import UserError

Row = dict[str, str]


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
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=separator(header), strict=True)
            names = _columns(next(reader, []))
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
        raise UserError(f"cannot read the table {path}: line {reader.line_num}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read the table {path}: {error.strerror or error}") from error


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
    """A template with a row's cells in it; backslashes of a path are slashes."""
    try:
        return template.format_map(
            {name: PathCell(value.replace("\\", "/")) for name, value in row.items()}
        )
    except (KeyError, AttributeError, IndexError, ValueError) as error:
        raise UserError(
            f"{where}: cannot fill {template!r} ({error}); columns: {', '.join(row)}"
        ) from error


def has_empty(template: str, row: Row) -> bool:
    """Whether a cell that a template names is empty."""
    return any(
        not row.get(re.split(r"[.\[]", field)[0], field)
        for _, field, _, _ in Formatter().parse(template)
        if field
    )
