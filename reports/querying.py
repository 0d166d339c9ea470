"""Queries of black boxes: a table of how robust accuracy falls with them, and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from robustbench_med.reports import looks, style
from robustbench_med.store.record import Record

FIGURE = "queries.png"
LINE = ("model", "data", "n", "attack", "norm", "eps", "target", "seed")
COLUMNS = [*LINE, "cap", "surrogate", "queries", "robust", "record"]


def table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record of a black box x number of queries: robust accuracy as the attack saw it
    after so many queries of each sample.
    """
    rows = [
        [
            *_described(record),
            queries.cap,
            queries.surrogate,
            int(asked),
            robust,
            record.short,
        ]
        for record in records
        if (queries := record.figures.queries) is not None
        for asked, robust in queries.curve
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"cap": "Int64", "surrogate": "Int64"})
    return frame.sort_values([*LINE, "record", "queries"], ignore_index=True)


def _described(record: Record) -> list[object]:
    spec = record.spec
    return [
        spec.victim.model,
        spec.data.name,
        spec.data.n,
        record.attack_label,
        spec.threat.norm_label,
        record.eps,
        "+".join(record.targets),
        spec.seed,
    ]


def figure(rows: pd.DataFrame) -> Figure:
    """Robust accuracy against queries, a panel a data set and threat, a line a victim, attack and
    seed; the queries grow by powers of ten from one on.
    """
    look = looks.looks(rows.model)
    panels = list(rows.groupby(["data", "n", "norm", "eps", "target"], sort=True))
    drawn, axes = style.grid(len(panels))
    for axis, (key, panel) in zip(axes, panels, strict=True):
        attacks = sorted(set(panel.attack))
        for (model, attack, _, _), line in panel.groupby(["model", "attack", "seed", "record"]):
            dash = looks.DASHES[attacks.index(attack) % len(looks.DASHES)]
            axis.plot(
                line.queries,
                line.robust,
                color=look[str(model)].colour,
                marker=look[str(model)].marker,
                linestyle=dash,
                drawstyle="steps-post",
                label=f"{model}, {attack}",
            )
        data, n, norm, eps, target = key
        axis.set_xscale("symlog", linthresh=1)
        axis.xaxis.set_major_formatter(lambda queries, _: f"{queries:,.0f}")
        axis.set(title=f"{data}, {norm} {eps}, {target}, n = {n}", xlabel="queries of a sample")
        axis.set(ylim=(0, 1.03))
    for axis in axes[::3]:
        axis.set_ylabel("robust accuracy, as the attack saw it")
    style.finish(drawn, axes, "queries of black boxes")
    return drawn


def write(rows: pd.DataFrame, out: Path) -> None:
    """Writes the figure, or removes what no longer is."""
    if rows.empty:
        (out / FIGURE).unlink(missing_ok=True)
        return
    with style.styled():
        style.save(figure(rows), out / FIGURE)
