"""The leaderboard as a paper prints it: a table a setting and radius, a row a victim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from robustbench_med.reports import floors
from robustbench_med.reports.board import AUC, COMPARABLE, named
from robustbench_med.reports.comparison.metrics import METRICS
from robustbench_med.reports.paper import (
    AREA,
    TRIVIAL,
    Column,
    Table,
    TableCell,
    data_name,
    judgement,
)
from robustbench_med.reports.tables import each


def boards(board: pd.DataFrame) -> Iterator[Table]:
    """A table a data set and threat, real data first, the constant answer last.

    Bold is what has a rank: rows without one say below the table what they lack.
    """
    for _, group in named(board).groupby(COMPARABLE, sort=False):
        yield _board(group)


def _board(group: pd.DataFrame) -> Table:
    first: Any = group.iloc[0]
    metric = METRICS[first.judged_on]
    several = bool(group.worst_std.notna().any())
    noise = bool(group.noise.notna().any())
    by_area = first.main_figure == AUC
    columns = [
        Column("", digits=0),
        Column("victim"),
        *([Column("clean AUC", "high"), Column("worst case, robust AUC", "high")] * by_area),
        Column(metric.clean_name, "high"),
        Column(f"worst case, {metric.name}", "high"),
        *([Column("± over trainings")] if several else []),
        Column("decided by"),
        Column("attacks", digits=0),
        *([Column("noise")] if noise else []),
        Column("trust"),
        Column("parameters, M", digits=2),
        Column("GFLOPs"),
    ]
    rows = []
    for row in each(group):
        marks = judgement(
            row.trust, trivial=row.is_trivial, naive=row.is_naive, below=row.is_below_floor
        ) | {"ranked": row.unranked == ""}
        worst = getattr(row, metric.worst)
        ends = getattr(row, metric.worst_low), getattr(row, metric.worst_high)
        cells = [
            TableCell(_known(row.rank)),
            TableCell(row.model, mark=TRIVIAL if row.is_trivial else ""),
            *([TableCell(row.clean_auc, ranked=row.unranked == "")] * by_area),
            *([TableCell(row.worst_auc, **marks)] * by_area),
            TableCell(getattr(row, metric.clean), ranked=row.unranked == ""),
            TableCell(worst, ends, **marks),
            *([TableCell(_known(row.worst_std))] if several else []),
            TableCell(row.decided_by),
            TableCell(float(row.attacks)),
            *([TableCell(_known(row.noise))] if noise else []),
            TableCell(row.trust or "-"),
            TableCell(row.parameters / 1e6),
            TableCell(row.gflops),
        ]
        rows.append(cells)
    for floor in each(floors.rows(group)):
        areas = [TableCell(floor.worst_auc, ranked=False)] * (2 * by_area)
        constant = TableCell(getattr(floor, metric.worst), ranked=False)
        figures = [TableCell(floor.model), *areas, constant, constant]
        blank = [TableCell("-")] * (len(columns) - 1 - len(figures))
        rows.append([TableCell(None), *figures, *blank])
    return Table("leaderboard", _caption(group, first), columns, rows)


def _caption(group: pd.DataFrame, first: Any) -> str:
    title = f"{first.benchmark}: " if first.benchmark else ""
    caption = (
        f"{title}{data_name(first)}, {first['size']} px, {first.norm} {first.eps}, target"
        f" {first.target}, protocol {first.protocol}, n = {first.n}; worst case: every sample under"
        " the attack that harms it most"
    )
    if first.main_figure == AUC:
        caption += f", {AREA} findings: their mean, under the attack that leaves least of it"
    reasons: dict[str, list[str]] = {}
    for row in each(group[group.unranked != ""]):
        reasons.setdefault(row.unranked, []).append(row.model)
    lacking = [f"{', '.join(models)} ({reason})" for reason, models in reasons.items()]
    return caption + (f". Without a rank: {'; '.join(lacking)}" if lacking else "")


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
