"""A clinical table as a modality: its columns, and cells as numbers in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from robustbench_med.errors import UserError

Values = NDArray[np.float32]
FLIPS = "flips"
"""What a radius calls the number of categorical columns that may change; no column bears the
name.
"""


class Column(BaseModel):
    """One column of a clinical table: numeric with a `range` (in `unit`), or categorical with its
    `values`.

    Attributes:
        range: what becomes 0 and 1; a value beyond it is taken as its nearest end.
        values: what a cell may say; one coordinate each, 1 where it does (one-hot).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    range: tuple[float, float] | None = None
    unit: str = Field("", max_length=40)
    values: tuple[str, ...] = ()

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, values: object) -> object:
        return tuple(map(str, values)) if isinstance(values, list | tuple) else values

    @model_validator(mode="after")
    def _of_one_kind(self) -> Column:
        if (self.range is None) == (not self.values):
            raise ValueError(f"column {self.name!r} needs either a range or values")
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"column {self.name!r}: the range {low:g} to {high:g} is none")
        elif len(set(self.values)) < max(len(self.values), 2):
            raise ValueError(f"column {self.name!r} needs two values or more, each once")
        if self.name == FLIPS:
            raise ValueError(f"a column cannot be called {FLIPS!r}: radii count them by that name")
        return self

    @property
    def width(self) -> int:
        """Coordinates that it takes."""
        return len(self.values) or 1

    @property
    def described(self) -> str:
        """As `data show` says it: `age 20 to 90 years`, `sex female/male`."""
        if self.range is None:
            return f"{self.name} {'/'.join(self.values)}"
        low, high = self.range
        return f"{self.name} {low:g} to {high:g} {self.unit}".rstrip()


def width_of(columns: Sequence[Column]) -> int:
    """Coordinates of a whole table, D."""
    return sum(column.width for column in columns)


def places(columns: Sequence[Column]) -> dict[str, tuple[int, int]]:
    """Of each column by name its first coordinate, and the one behind its last."""
    found, start = {}, 0
    for column in columns:
        found[column.name] = (start, start + column.width)
        start += column.width
    return found


def encode(columns: Sequence[Column], rows: Sequence[Mapping[str, str] | None]) -> Values:
    """Cells of n patients as (n, D) float32 in [0, 1]; a patient who is None has no table, and a
    row of zeros.

    An empty numeric cell becomes the mean of the column's others (the middle of its range where
    there are none), an empty categorical one a group of zeros.

    Raises:
        UserError: a cell that is no number, or none of the values.
    """
    table = np.zeros((len(rows), width_of(columns)), np.float32)
    present = [i for i, row in enumerate(rows) if row is not None]
    for column, (start, _stop) in zip(columns, places(columns).values(), strict=True):
        cells = [(rows[i] or {}).get(column.name, "").strip() for i in present]
        if column.range is None:
            for i, cell in zip(present, cells, strict=True):
                if cell:
                    table[i, start + _value(column, cell)] = 1
            continue
        low, high = column.range
        numbers = [(_number(column, cell) - low) / (high - low) if cell else None for cell in cells]
        known = [min(max(value, 0.0), 1.0) for value in numbers if value is not None]
        mean = float(np.mean(known)) if known else 0.5
        for i, value in zip(present, numbers, strict=True):
            table[i, start] = mean if value is None else min(max(value, 0.0), 1.0)
    return table


def _number(column: Column, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"column {column.name}: {cell[:40]!r} is no number; name the column's `values` if it is"
            " categorical, or leave the cell empty where nothing is known"
        )
    return value


def _value(column: Column, cell: str) -> int:
    if cell not in column.values:
        raise UserError(
            f"column {column.name}: {cell[:40]!r} is none of its values"
            f" ({', '.join(column.values)}); add it to the card, or leave the cell empty"
        )
    return column.values.index(cell)
