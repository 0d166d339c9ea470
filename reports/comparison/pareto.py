"""The figure of a comparison: worst-case robust against clean accuracy, balanced where classes are
imbalanced, the Pareto front, and the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustbench_med.naming import nature
from robustbench_med.reports import looks, style
from robustbench_med.reports.comparison.metrics import Metric, metric_of
from robustbench_med.reports.comparison.table import GROUPED
from robustbench_med.reports.floors import CONSTANT
from robustbench_med.statistics import tied

FIGURE = "pareto.png"
NARROWEST = 0.2
"""Least span of an axis of accuracies."""
MARGIN = 0.03
MARKERS = looks.MARKERS + "<>ph*dH8"
FRONT = "#999999"
FLOOR: dict[str, Any] = {"color": "#444444", "linestyle": "--", "linewidth": 1, "label": CONSTANT}


def pareto(table: pd.DataFrame, path: Path) -> None:
    """Draws worst-case robust against clean accuracy, as the table is judged: area by FLOPs, colour
    by model, marker by defence, the front as a line, the constant answer as a dashed one.

    Args:
        table: the rows of the comparison (`table.frame`).
        path: the PNG; an SVG of the same name goes beside it.
    """
    with style.styled():
        style.save(figure(table), path, path.with_suffix(".svg"))


def figure(table: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> Figure:
    """The same as a figure.

    Args:
        axes: of a figure of the user's, one a panel; None: a new figure.
    """
    panels = list(table.groupby(GROUPED, sort=False))
    columns = min(3, len(panels))
    if axes is None:
        height = -(-len(panels) // columns)
        drawn = style.new(6.2 * columns, 5.2 * height)
        every = list(drawn.subplots(height, columns, squeeze=False).flat)
    else:
        drawn, every, _ = style.panels(axes, len(panels))
    for axis, (_, group) in zip(every, panels, strict=False):
        _panel(axis, group, table)
    for axis in every[len(panels) :]:
        axis.set_visible(False)
    same = table.judged_on.nunique() == 1
    for i, (axis, (_, group)) in enumerate(zip(every, panels, strict=False)):
        if not same or i % columns == 0:
            axis.set_ylabel(f"{metric_of(group.iloc[0]).name}, worst case")
    how: dict[str, Any] = {"handles": _handles(table), "frameon": False, "title": "area: FLOPs"}
    if axes is None:
        ncols = 3 if columns == 1 else 5
        drawn.legend(loc="outside lower center", ncols=ncols, columnspacing=1.2, **how)
    else:
        every[-1].legend(fontsize="small", **how)
    return drawn


def span(shares: pd.Series) -> tuple[float, float]:
    """Limits of an axis of shares: at least 0.2 apart so that small differences look small, room
    for the marks at 0 and 1.
    """
    low, high = float(shares.min()) - MARGIN, float(shares.max()) + MARGIN
    missing = max(0.0, NARROWEST - (high - low)) / 2
    low, high = low - missing, high + missing
    shift = max(0.0, -MARGIN - low) - max(0.0, high - 1 - MARGIN)
    return max(-MARGIN, low + shift), min(1 + MARGIN, high + shift)


def on_front(group: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The victims that none beats in both figures, by the counts behind them, best clean first."""
    shown = group.assign(**{key: tied(group[key]) for key in (metric.clean, metric.worst)})
    shown = shown.sort_values([metric.clean, metric.worst], ascending=False)
    highest = shown[metric.worst].cummax().shift(fill_value=-1)
    return shown[shown[metric.worst] > highest]


def _panel(axis: Any, group: pd.DataFrame, table: pd.DataFrame) -> None:
    """One data set and threat; the whole table gives colours, markers and areas."""
    metric = metric_of(group.iloc[0])
    front = on_front(group, metric)
    axis.plot(
        front[metric.clean],
        front[metric.worst],
        color=FRONT,
        linewidth=1,
        zorder=1,
        label="_front",
    )
    axis.axhline(group.iloc[0][metric.floor], **FLOOR, zorder=1)
    small_over_large = group.sort_values("gflops", ascending=False, kind="stable")
    for _, row in small_over_large.iterrows():
        _victim(axis, row, metric, table)
    heights = pd.concat([group[metric.worst_low], group[metric.worst_high], group[metric.floor]])
    axis.set(xlim=span(group[metric.clean]), ylim=span(heights))
    axis.set(title=_title(group), xlabel=metric.clean_name)


def _victim(axis: Any, row: Any, metric: Metric, table: pd.DataFrame) -> None:
    """One victim's point with its interval."""
    defences = list(table.defense.unique())
    colour = looks.looks(table.model)[row.model].colour
    clean, worst = row[metric.clean], row[metric.worst]
    below, above = worst - row[metric.worst_low], row[metric.worst_high] - worst
    arms = [[max(below, 0)], [max(above, 0)]]  # rounding below 0 taken out
    axis.errorbar(clean, worst, yerr=arms, color=colour, alpha=0.25, linewidth=1)
    axis.scatter(
        clean,
        worst,
        s=style.area(row.gflops, table.gflops.max()),
        marker=MARKERS[defences.index(row.defense) % len(MARKERS)],
        **style.outlined(colour),
        zorder=2,
    )


def _title(group: pd.DataFrame) -> str:
    first = group.iloc[0]
    kind = nature(first["data"], synthetic=bool(group.synthetic.any()))
    return (
        f"{first['data']}{kind}, {first['size']} px\n{first.norm}, {first.eps}, protocol"
        f" {first.protocol}, n = {first.n}"
    )


def _handles(table: pd.DataFrame) -> Sequence[Line2D]:
    """The entries of the legend: models by colour, defences by marker, the front, the floor."""
    look = looks.looks(table.model)
    models = [
        Line2D([], [], color=look[model].colour, marker="o", linestyle="", label=model)
        for model in table.model.unique()
    ]
    defences = [
        Line2D(
            [], [], color="#555555", marker=MARKERS[i % len(MARKERS)], linestyle="", label=defense
        )
        for i, defense in enumerate(table.defense.unique())
    ]
    lines = [Line2D([], [], color=FRONT, label="Pareto front"), Line2D([], [], **FLOOR)]
    return [*models, *defences, *lines]
