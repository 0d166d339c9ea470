"""Reports: tables, figures and what the terminal shows. They read the store and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import RenderableType

from robustbench_med.errors import UserError
from robustbench_med.paths import writable_folder, write_text
from robustbench_med.reports import plots, tables, terminal
from robustbench_med.store import Record, Store

FIGURE = "robust_accuracy.png"


def write(out: Path, *, only: Sequence[Record] | None = None) -> RenderableType:
    """Writes leaderboard.csv, records.csv, cost.csv and the figure from all records below `out`; returns the table to show.

    Args:
        only: show these records alone; the files always hold all of the store.
    """
    records = Store(out).records()
    if not records:
        raise UserError(f"{out} holds no records; `medrobust run --out {out}` makes some")
    writable_folder(out)
    for name, frame in (
        ("leaderboard", tables.leaderboard(records)),
        ("records", tables.long_form(records)),
        ("cost", tables.cost(records)),
    ):
        write_text(out / f"{name}.csv", csv(frame))
    plots.robust_against_radius(records, out / FIGURE)
    return terminal.leaderboard(tables.leaderboard(only or records))


def write_costs(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """model_cost.csv: one row a model."""
    write_text(writable_folder(out) / "model_cost.csv", csv(pd.DataFrame(rows)))


def csv(frame: pd.DataFrame) -> str:
    """CSV with figures to six digits: below that float32 kernels of different machines disagree."""
    return str(frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


__all__ = ["FIGURE", "csv", "plots", "tables", "terminal", "write", "write_costs"]
