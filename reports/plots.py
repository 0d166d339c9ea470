"""Figures out of records: robust accuracy against radius."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from robustbench_med.paths import write_atomically
from robustbench_med.reports.tables import families, leaderboard
from robustbench_med.store import Record

# Okabe & Ito's palette: told apart by colour-blind readers and in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "medrobust",
}
CONTROL = "noise"


def robust_against_radius(records: Sequence[Record], path: Path) -> None:
    """One panel a data set, norm, protocol and attack; one line a model with Wilson 95 % intervals; its noise control dashed.

    The point at radius 0 is clean accuracy. Where modalities have different radii the axis shows the largest.
    """
    points = _points(records)
    panels = sorted({(str(p), str(a)) for p, a in zip(points.panel, points.attack, strict=True) if a != CONTROL})
    panels = panels or [(str(points.panel.iloc[0]), CONTROL)]
    colour = {model: COLOURS[i % len(COLOURS)] for i, model in enumerate(sorted(points.model.unique()))}
    columns = min(3, len(panels))
    height = -(-len(panels) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            height, columns, figsize=(5.2 * columns, 4.4 * height), squeeze=False, sharey=True, layout="constrained"
        )
        for axis, (panel, attack) in zip(axes.flat, panels, strict=False):
            _panel(axis, points[points.panel == panel], attack, colour)
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy (mean over attacked tasks)")
        entries = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(2 * columns, 4), frameon=False)
        try:
            write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150, format="png", metadata={"Software": None}))
        finally:
            plt.close(figure)


def _panel(axis: Axes, points: pd.DataFrame, attack: str, colour: dict[str, str]) -> None:
    for i, model in enumerate(sorted(colour)):
        for name, style in ((attack, "-"), (CONTROL, "--")):
            line = points[(points.model == model) & (points.attack == name)].sort_values("radius")
            if line.empty or (attack == CONTROL and style == "--"):
                continue
            line = pd.concat([line.iloc[:1].assign(radius=0.0, robust=line.clean, low=line.clean_low, high=line.clean_high), line])
            label = f"{model}, {'noise control' if style == '--' else 'attacked'}"
            axis.plot(
                line.radius,
                line.robust,
                style,
                color=colour[model],
                marker=MARKERS[i % len(MARKERS)] if style == "-" else None,
                label=label,
            )
            if style == "-":
                axis.fill_between(line.radius, line.low, line.high, color=colour[model], alpha=0.15, linewidth=0)
    first = points.iloc[0]
    axis.set_title(f"{attack} on {first.title}", fontsize=11)
    axis.set_xlabel(f"{first.norm} radius" + (" (grey levels of 255)" if first.norm == "Linf" else ""))
    axis.set_ylim(0, 1.03)


def _points(records: Sequence[Record]) -> pd.DataFrame:
    """One row a family of records, as plotted."""
    rows: list[dict[str, Any]] = []
    for family in families(records):
        spec, names = family[0]["spec"], family[0]["names"]
        row = leaderboard(family).iloc[0]
        radii = spec["threat"]["radii"]
        scale = 255 if spec["threat"]["norm"] == "Linf" else 1
        trusted = [name for name, r in zip(names["modalities"], radii, strict=True) if r == 0]
        trust = f", {'+'.join(trusted)} trusted" if trusted and max(radii) > 0 else ""
        target = "" if row.target == "joint" else f", target {row.target}"
        title = f"{row.data}{' (synthetic)' if row.synthetic else ''}\n{row.norm}{trust}{target}, protocol {row.protocol}, n = {row.n}"
        rows.append(
            {
                "panel": f"{title}/{row['size']}",
                "title": title,
                "model": row.model,
                "attack": row.attack,
                "norm": row.norm,
                "radius": max(radii) * scale,
                "robust": row.robust,
                "low": row.robust_low,
                "high": row.robust_high,
                "clean": row.clean,
                "clean_low": row.clean_low,
                "clean_high": row.clean_high,
            }
        )
    return pd.DataFrame(rows)
