"""Units of a grid: one victim each, its training, its clean pass and its cells, so that nothing is
loaded or trained twice. They are plain data, which any process can be given.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from robustbench_med.data.splits import fold_label
from robustbench_med.errors import UserError
from robustbench_med.naming import canonical_hash, label
from robustbench_med.parsing import STRICT
from robustbench_med.runs.requests import victim_request
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec


class Unit(BaseModel):
    """Cells of one victim.

    Attributes:
        key: hash of the victim and its data as they are known before its training.
        spec: the whole run, narrowed to the data of these cells.
        cells: what is to be evaluated.
        numbers: which cells of the grid they are, from 1.
        of: cells of the whole grid.
    """

    model_config = STRICT

    key: str
    spec: RunSpec
    cells: list[Cell]
    numbers: list[int]
    of: int

    @property
    def victim(self) -> dict[str, Any]:
        """The victim's place in the grid."""
        return self.cells[0].model_dump(
            include={"model", "defense", "data", "fold", "train_seed"}, mode="json"
        )

    @property
    def label(self) -> str:
        """What it is called on the display."""
        cell = self.cells[0]
        defended = "" if cell.defense == "none" else f"+{cell.defense}"
        seed = f", train seed {cell.train_seed}" if cell.train_seed else ""
        return f"{label(cell.model)}{defended} on {cell.data}{fold_label(cell.fold)}{seed}"

    def numbered(self) -> Iterator[tuple[int, Cell]]:
        """Its cells with their numbers."""
        return zip(self.numbers, self.cells, strict=True)

    def without(self, done: set[int]) -> Unit | None:
        """What is left of it once cells of these numbers are done; None where nothing is."""
        rest = [(number, cell) for number, cell in self.numbered() if number not in done]
        if not rest:
            return None
        numbers, cells = zip(*rest, strict=True)
        return self.model_copy(update={"numbers": list(numbers), "cells": list(cells)})

    def written(self) -> str:
        """Its JSON.

        Raises:
            UserError: a parameter that is no plain value.
        """
        try:
            return json.dumps(self.model_dump(mode="json"))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"a parameter of the run is no plain value and cannot be given to another process"
                f" ({error}); take --jobs 1"
            ) from error


class Outcome(BaseModel):
    """What became of a cell: the hash of its record, or of the request that failed."""

    model_config = STRICT

    number: int
    record: str | None = None
    failure: str | None = None


def units_of(
    grid: Sequence[Cell], session: Session[RunSpec], *, before: int = 0, of: int | None = None
) -> list[Unit]:
    """The units of a planned grid, in its order.

    Args:
        before: cells of other grids that are counted before these.
        of: cells of all grids that are counted together; None: of this one.
    """
    units = []
    numbered = enumerate(grid, before + 1)
    for _, group in itertools.groupby(numbered, key=lambda each: _victim_of(each[1])):
        numbers, cells = zip(*group, strict=True)
        first = cells[0]
        narrowed: dict[str, Any] = {"data": [first.data]}
        if first.fold is not None:
            narrowed["fold"] = [first.fold[0]]
        units.append(
            Unit(
                key=canonical_hash(victim_request(first, session)),
                spec=session.spec.model_copy(update=narrowed),
                cells=list(cells),
                numbers=list(numbers),
                of=of or len(grid),
            )
        )
    return units


def _victim_of(cell: Cell) -> tuple[object, ...]:
    return cell.data, cell.fold, cell.model, cell.defense, cell.train_seed


def shard_of(text: str | None) -> tuple[int, int]:
    """The numbers of `2/5`: the second of five parts; the only one where there is no text.

    Raises:
        UserError: it is none.
    """
    if text is None:
        return 1, 1
    i, slash, n = text.partition("/")
    if not (slash and i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise UserError(f"--shard takes i/n with i from 1 to n, such as 2/5, got {text!r}")
    return int(i), int(n)


def of_shard(units: Sequence[Unit], text: str | None) -> list[Unit]:
    """The units whose hash falls to a shard: every one falls to exactly one of n, on every
    machine.
    """
    i, n = shard_of(text)
    return [unit for unit in units if int(unit.key[:16], 16) % n == i - 1]
