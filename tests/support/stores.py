"""Stores of made-up records."""

from pathlib import Path

import pandas as pd

from robustbench_med.reports import (
    floors,
    tables,
)
from robustbench_med.store.store import Store
from support.records import fill, record


def store_of(tmp_path: Path, *records, images: bool = False) -> Store:
    return fill(Store(tmp_path), *records, images=images)


def board() -> pd.DataFrame:
    figures = {"late": 0.7, "mail": 0.5, "gmu": 0.6, "tied": 0.7}
    return tables.cells(
        [record(m, r) for m, r in figures.items()]
        + [record("mail", 0.4, eot=16), record(attack="noise", robust=0.9)]
    )


def cells_csv(folder: Path) -> pd.DataFrame:
    """The rows of a folder's cells.csv, but for the floors behind them."""
    written = pd.read_csv(folder / "cells.csv")
    return written[written.model != floors.CONSTANT]
