"""The rows of a comparison as a table: for files, for readers and for print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from robustbench_med.reports import paper
from robustbench_med.reports.comparison.rows import Row
from robustbench_med.store.record import CONTROL

GROUPED = ["data", "size", "norm", "eps"]
"""Columns in which rows must agree to stand in one table."""


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as the table of compare.csv, with costs relative to the undefended model."""
    return relative(pd.DataFrame([row.columns() for row in rows]))


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Adds costs relative to the undefended model: `training_x`, `inference_x` (FLOPs) and
    `latency_x` (a clock's).
    """
    keys = ["model", "data", "size", "norm", "eps"]
    base = table[table.defense == "none"].set_index(keys)[
        ["training_gflops", "gflops", "latency_ms"]
    ]
    plain = table[keys].merge(base, left_on=keys, right_index=True, how="left", validate="m:1")
    pairs_of = (
        ("training_x", "training_gflops"),
        ("inference_x", "gflops"),
        ("latency_x", "latency_ms"),
    )
    return table.assign(
        **{name: pd.to_numeric(table[key]) / pd.to_numeric(plain[key]) for name, key in pairs_of}
    )


def attacks(table: pd.DataFrame) -> list[str]:
    """The attacks of a comparison's table, a column each."""
    names = list(table.columns)
    return names[names.index("clean") + 1 : names.index("worst")]


def display(table: pd.DataFrame) -> pd.DataFrame:
    """The columns people read, as text."""
    shown = pd.DataFrame(
        {
            "model": table.model,
            "defence": table.defense,
            "data": table["data"],
            "threat": table.norm + " " + table.eps,
        }
    )
    for name in ("clean", *attacks(table)):
        shown[name] = table[name].map(number)
    shown["worst case [95 %]"] = [
        f"{w:.3f} [{low:.3f}, {high:.3f}]"
        for w, low, high in zip(table.worst, table.worst_low, table.worst_high, strict=True)
    ]
    if (table.trainings > 1).any():
        shown["sd over trainings"] = pd.to_numeric(table.worst_std).map(number)
    shown["naive"] = table.naive.map(number)
    shown["GFLOPs"] = table.gflops.map("{:.3g}".format)
    for name, key in (
        ("training x", "training_x"),
        ("FLOPs x", "inference_x"),
        ("latency x", "latency_x"),
    ):
        shown[name] = pd.to_numeric(table[key]).map(lambda v: "-" if pd.isna(v) else f"{v:.1f}")
    shown["trust"] = [
        f"{verdict}: {sign}" if sign else verdict
        for verdict, sign in zip(table.trust, table.worst_sign, strict=True)
    ]
    shown["marks"] = table.marks.where(table.marks != "", "-")
    return shown


def latex(table: pd.DataFrame) -> str:
    """The tables for a paper (package booktabs): one a data set and threat."""
    return "\n".join(
        paper.latex(printed(keys, group)) for keys, group in table.groupby(GROUPED, sort=False)
    )


def printed(keys: tuple[Any, ...], group: pd.DataFrame) -> paper.Table:
    """One comparison as papers print it: the best figure bold, the second underlined; what failed
    or is trivial ranks nowhere.
    """
    first = group.iloc[0]
    real = [
        attack for attack in attacks(group) if attack != CONTROL and group[attack].notna().any()
    ]
    heads = [paper.Column(name) for name in ("model", "defence")] + [
        paper.Column(name, "high") for name in ("clean", *real)
    ]
    heads += [
        paper.Column("worst case", "high"),
        paper.Column("naive"),
        paper.Column("training x", digits=1),
        paper.Column("GFLOPs"),
    ]
    rows = [_printed_row(row, real) for _, row in group.iterrows()]
    behind = f", mean of {first.trainings} trainings" if first.trainings > 1 else ""
    caption = (
        f"Defences on {paper.data_name(first)}, {keys[1]} px, {keys[2]} {keys[3]}, protocol"
        f" {first.protocol}, n = {first.n}{behind}; worst case: per sample the attack that hurts"
        " most; naive: an attack that ignores the defence"
    )
    return paper.Table("compare", caption, heads, rows)


def _printed_row(row: Any, real: Sequence[str]) -> list[paper.TableCell]:
    """A row of the table in print; `real`: the attacks that have a column."""
    trivial = row.is_trivial
    judged = paper.judgement(row.trust, trivial=trivial)
    return [
        paper.TableCell(row.model, mark=paper.TRIVIAL if trivial else ""),
        paper.TableCell(row.defense),
        paper.TableCell(row.clean, ranked=not trivial),
        *(paper.TableCell(row[attack], **judged) for attack in real),
        paper.TableCell(row.worst, (row.worst_high - row.worst_low) / 2, **judged),
        paper.TableCell(row.naive),
        paper.TableCell(row.training_x),
        paper.TableCell(row.gflops),
    ]


def number(value: float | None) -> str:
    """A share with three digits; a dash where there is none."""
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"
