"""The table of missing modalities: accuracy with all, without each, with each replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from robustbench_med.reports.columns import COLUMNS
from robustbench_med.reports.paper import Column, Table, TableCell, data_name
from robustbench_med.store.absence import Absence
from robustbench_med.store.record import Record

WORDS = {"zero": "missing", "mean": "the mean", "another patient": "another patient's"}
"""What readers call what takes the place of a modality."""
CHANGE = "change of "
"""How the heading of a column begins whose figures belong to those before it."""


def frame(found: Sequence[Absence]) -> pd.DataFrame:
    """A row a victim, modality, replacement and task; `change` is against all modalities."""
    rows = []
    for each in found:
        usual = {row.task: row.accuracy for row in each.rows if row.modality is None}
        for row in each.rows:
            rows.append(
                {
                    "model": each.spec.victim.model,
                    "train_seed": each.spec.victim.train_seed,
                    "seed": each.spec.seed,
                    "data": each.spec.data.label,
                    "size": each.spec.data.size,
                    "synthetic": each.synthetic,
                    "modality": row.modality or "all there",
                    "replaced_by": WORDS.get(row.by, row.by) if row.by else "",
                    "task": row.task,
                    "n": row.n,
                    "accuracy": row.accuracy,
                    "low": row.interval[0],
                    "high": row.interval[1],
                    "change": row.accuracy - usual[row.task],
                    "balanced_accuracy": row.balanced_accuracy,
                    "auc": row.auc,
                    "coverage": row.coverage,
                    "answered": row.answered,
                    "absence": each.hash,
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS["missing"]))


def of_victims(long: pd.DataFrame, records: Sequence[Record]) -> pd.DataFrame:
    """The rows whose victim and data set some records have."""
    asked = {(record.spec.victim.model, record.spec.data.label) for record in records}
    return long[[pair in asked for pair in zip(long.model, long["data"], strict=True)]]


def tables(long: pd.DataFrame) -> Iterator[Table]:
    """A table a victim and data set: modality and what is in its place down, tasks across, and
    behind them the coverage of each of a victim that may abstain.
    """
    keys = ["model", "train_seed", "seed", "data", "size"]
    for _, group in long.groupby(keys, sort=False, dropna=False):
        first: Any = group.iloc[0]
        tasks = list(dict.fromkeys(group.task))
        silent = tasks if group.coverage.notna().any() else []
        rows = []
        for place, mine in group.groupby(["modality", "replaced_by"], sort=False):
            cells = [TableCell(str(part)) for part in place]
            by_task: dict[Any, Any] = {row.task: row for row in mine.itertuples()}
            for task in tasks:
                row = by_task[task]
                cells.append(TableCell(row.accuracy, (row.low, row.high)))
                cells.append(TableCell(row.change if row.replaced_by else None))
            rows.append(cells + [TableCell(by_task[task].coverage) for task in silent])
        headings = [part for task in tasks for part in (task, f"{CHANGE}{task}")]
        headings += [f"coverage of {task}" for task in silent]
        yield Table(
            "missing",
            f"Accuracy of {first.model} with all modalities, and with one replaced in every sample,"
            f" on {data_name(first)}, {first['size']} px, training seed {first.train_seed}, seed"
            f" {first.seed}, n = {first.n}",
            [Column("modality"), Column("in its place"), *map(Column, headings)],
            rows,
        )
