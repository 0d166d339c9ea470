"""The rows of a comparison as a table: for files, for readers and for print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from robustbench_med.reports import paper
from robustbench_med.reports.comparison.metrics import METRICS, Metric, metric_of
from robustbench_med.reports.comparison.rows import Row
from robustbench_med.reports.floors import CONSTANT, Floor
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


def with_constant(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a row more a data set and threat: what always answering the most frequent
    class reaches on the same samples, under whatever attack; its other fields are empty.
    """
    whole = dict.fromkeys(table.select_dtypes("int64").columns, "Int64")  # takes empty fields
    parts = [
        part
        for _, group in table.groupby(GROUPED, sort=False)
        for part in (group.astype(whole), pd.DataFrame([_constant(group)]))
    ]
    return pd.concat(parts, ignore_index=True)[list(table.columns)]


def _constant(group: pd.DataFrame) -> dict[str, object]:
    """The row of the constant answer beside these."""
    first = group.iloc[0]
    shared = [*GROUPED, "synthetic", "protocol", "n", "n_distinct", "judged_on"]
    shared += ["floor_accuracy", "floor_balanced_accuracy"]
    accuracies = ["clean", *attacks(group), "worst"]
    return (
        {"model": CONSTANT, "defense": "", "victim": ""}
        | {name: first[name] for name in shared}
        | dict.fromkeys(accuracies, first.floor_accuracy)
        | {f"{name}_balanced_accuracy": first.floor_balanced_accuracy for name in accuracies}
        | {f"{name}_auc": Floor.auc for name in accuracies if f"{name}_auc" in group}
        | {"trust": "", "why": "", "marks": ""}
        | {"is_trivial": False, "is_under_trained": False, "is_below_floor": True}
    )


def attacks(table: pd.DataFrame) -> list[str]:
    """The attacks of a comparison's table, a column each."""
    names = list(table.columns)
    return names[names.index("clean") + 1 : names.index("worst")]


def display(table: pd.DataFrame) -> pd.DataFrame:
    """The columns people read, as text; the constant answer's row is the last of its table."""
    table = with_constant(table)
    shown = pd.DataFrame(
        {
            "model": table.model,
            "defence": table.defense.replace("", "-"),
            "data": table["data"],
            "threat": table.norm + " " + table.eps,
        }
    )
    for name in ("clean", *attacks(table)):
        shown[name] = table[name].map(number)
    rows = [row for _, row in table.iterrows()]
    shown["worst case [95 %]"] = [interval(row, METRICS["robust"]) for row in rows]
    shown["balanced accuracy, worst case [95 %]"] = [
        interval(row, METRICS["balanced_accuracy"]) for row in rows
    ]
    shown["AUC, worst case"] = pd.to_numeric(table.worst_auc).map(number)
    if (table.trainings > 1).any():
        shown["sd over trainings"] = pd.to_numeric(table.worst_std).map(number)
    shown["naive"] = table.naive.map(number)
    shown["GFLOPs"] = table.gflops.map(lambda v: "-" if pd.isna(v) else f"{v:.3g}")
    for name, key in (
        ("training x", "training_x"),
        ("FLOPs x", "inference_x"),
        ("latency x", "latency_x"),
    ):
        shown[name] = pd.to_numeric(table[key]).map(lambda v: "-" if pd.isna(v) else f"{v:.1f}")
    shown["trust"] = [
        f"{word}: {why}" if why else word or "-"
        for word, why in zip(table.trust, table.why, strict=True)
    ]
    shown["marks"] = table.marks.where(table.marks != "", "-")
    return shown


def latex(table: pd.DataFrame) -> str:
    """The tables for a paper (package booktabs): one a data set and threat."""
    return "\n".join(map(paper.latex, papers(table)))


def papers(table: pd.DataFrame) -> list[paper.Table]:
    """The tables as papers print them: one a data set and threat."""
    return [printed(keys, group) for keys, group in table.groupby(GROUPED, sort=False)]


def printed(keys: tuple[Any, ...], group: pd.DataFrame) -> paper.Table:
    """One comparison as papers print it: the best figure bold, the second underlined; what failed
    or is trivial ranks nowhere.
    """
    first = group.iloc[0]
    real = [
        attack for attack in attacks(group) if attack != CONTROL and group[attack].notna().any()
    ]
    metric = metric_of(first)
    by_accuracy: paper.Better = "high" if metric == METRICS["robust"] else None
    heads = [paper.Column(name) for name in ("model", "defence")]
    heads += [paper.Column("clean", "high")]
    heads += [paper.Column(name, by_accuracy) for name in (*real, "worst case")]
    heads += [
        paper.Column("balanced accuracy", None if by_accuracy else "high"),
        paper.Column("AUC"),
        paper.Column("naive"),
        paper.Column("training x", digits=1),
        paper.Column("GFLOPs"),
    ]
    rows = [_printed_row(row, real) for _, row in with_constant(group).iterrows()]
    behind = f", mean of {first.trainings} trainings" if first.trainings > 1 else ""
    caption = (
        f"Defences on {paper.data_name(first)}, {keys[1]} px, {keys[2]} {keys[3]}, protocol"
        f" {first.protocol}, n = {first.n}{behind}; worst case: per sample the attack that hurts"
        " most, balanced accuracy and AUC likewise; naive: an attack that ignores the defence;"
        f" ranked by {metric.name}, never at or below {CONSTANT}"
    )
    return paper.Table("compare", caption, heads, rows)


def _printed_row(row: Any, real: Sequence[str]) -> list[paper.TableCell]:
    """A row of the table in print; `real`: the attacks that have a column."""
    trivial = row.is_trivial
    judged = paper.judgement(row.trust, trivial=trivial)
    judged["ranked"] &= not row.is_below_floor
    return [
        paper.TableCell(row.model, mark=paper.TRIVIAL if trivial else ""),
        paper.TableCell(row.defense),
        paper.TableCell(row.clean, ranked=not trivial and row.model != CONSTANT),
        *(paper.TableCell(row[attack], **judged) for attack in real),
        *(
            paper.TableCell(row[metric.worst], _ends(row, metric), **judged)
            for metric in METRICS.values()
        ),
        paper.TableCell(row.worst_auc),
        paper.TableCell(row.naive),
        paper.TableCell(row.training_x),
        paper.TableCell(row.gflops),
    ]


def _ends(row: Any, metric: Metric) -> tuple[float, float] | None:
    """The ends of a worst case's interval; the constant answer has none."""
    low, high = row[metric.worst_low], row[metric.worst_high]
    return None if pd.isna(low) else (low, high)


def interval(row: Any, metric: Metric) -> str:
    """A worst case with its interval; the constant answer has none."""
    ends = f" [{row[metric.worst_low]:.3f}, {row[metric.worst_high]:.3f}]"
    return f"{row[metric.worst]:.3f}" + ("" if pd.isna(row[metric.worst_low]) else ends)


def number(value: float | None) -> str:
    """A share with three digits; a dash where there is none."""
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"
