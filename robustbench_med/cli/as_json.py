"""Results as JSON: the option `--json` of every command that shows something."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_med.runs.options import WHERE

if TYPE_CHECKING:
    import pandas as pd  # slow to import

    from robustbench_med.reports.comparison.entries import LeftOut
    from robustbench_med.reports.comparison.write import Judged
    from robustbench_med.reports.write import Shown

AsJson = Annotated[
    bool, typer.Option("--json", help="Results as JSON on standard output.", rich_help_panel=WHERE)
]


def show_json(results: Any) -> None:
    """Results on standard output; a number that is none (NaN) is null."""
    print(json.dumps(_plain(results), indent=1, allow_nan=False, default=str))


def board(shown: Shown) -> dict[str, Any]:
    """The leaderboard's rows with the columns of leaderboard.csv, the cells with those of
    cells.csv, and what is odd about the records.
    """
    from robustbench_med.reports import floors

    return {
        "rows": rows(floors.with_floors(shown.board)),
        "cells": rows(floors.with_floors(shown.cells)),
        "corruptions": rows(shown.corruptions),
        "own_threats": rows(shown.own_threats),
        "warnings": shown.warnings,
    }


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows, with the columns that its CSV file has."""
    from robustbench_med.reports import tables

    written = tables.written(frame).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in written]


def comparison(judged: Judged, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """A comparison: its table, its victims two by two, what follows, and what is missing."""
    from robustbench_med.reports.comparison import pairs

    return {
        "rows": rows(judged.table),
        "pairs": rows(pairs.frame(judged.pairs)),
        "verdict": list(judged.verdict),
        "left_out": [asdict(missing) for missing in left_out],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        value = value.item()  # a number of NumPy's
    return None if isinstance(value, float) and not math.isfinite(value) else value
