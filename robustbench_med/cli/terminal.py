"""What the terminal shows of results: cells, a comparison, claims, certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.terminal_records import TRUST_STYLE, number
from robustbench_med.naming import nature
from robustbench_med.reports import floors
from robustbench_med.reports.claims import Finding
from robustbench_med.reports.comparison.metrics import METRICS
from robustbench_med.reports.comparison.table import attacks, interval, with_constant
from robustbench_med.reports.families import victim_name
from robustbench_med.reports.tables import by_engine, each, named
from robustbench_med.store.merge import Merged
from robustbench_med.store.record import CONTROL, SHORT

if TYPE_CHECKING:
    from robustbench_med.reports.comparison.page import Page  # it draws: slow to import


def cells(frame: pd.DataFrame) -> RenderableType:
    """One table a data set, threat and protocol; best first within each radius and attack, the
    constant answer last.
    """
    frame = named(frame)
    return Group(
        *(
            _cells(group)
            for _, group in frame.groupby(
                ["data", "size", "n", "norm", "target", "protocol"], sort=True
            )
        )
    )


def _cells(group: pd.DataFrame) -> Table:
    first = group.iloc[0]
    kind = nature(first["data"], synthetic=bool(group.synthetic.any()))
    title = (
        f"{first['data']}{kind}, {first['size']} px, {first.norm}, target {first.target},"
        f" protocol {first.protocol}, n = {first.n}"
    )
    table = Table(title=title, title_justify="left", show_lines=True)
    for name in ("attack, eps", "model", "clean", "robust", "trust, marks"):
        table.add_column(name, overflow="fold")
    group = group.assign(control=group.attack != CONTROL)
    group = group.sort_values(
        ["eps_value", "eps", "control", "attack", "rank", "model"], kind="stable"
    )
    for _, row in group.iterrows():
        spread = ""
        if pd.notna(row.robust_std):
            spread = f"± {row.robust_std:.3f} ({row.trainings} trainings)"
        by_area = floors.is_multilabel(row.floor)
        accuracy, *others = _stacked(row.robust, row.balanced_accuracy, row.auc)
        clean = _stacked(row.clean, row.clean_balanced_accuracy, row.clean_auc)
        areas = [others.pop(), clean.pop()] if by_area else ["", ""]  # the main figure goes first
        between = f"{row.robust_low:.3f} - {row.robust_high:.3f}"
        cells = [
            [by_engine(row.attack, row.engine), row.apart, row.eps],
            [row.model, f"{row.gflops:.3g} GFLOPs", f"{row.draws} draws"],
            [areas[1], *clean],
            [areas[0], accuracy, spread, between, *others, f"ASR {number(row.asr)}"],
            [row.trust or "-", row.brief, row.marks],
        ]
        table.add_row(
            *(escape("\n".join(filter(None, lines))) for lines in cells),
            style="dim" if row.attack == CONTROL else TRUST_STYLE.get(row.trust),
        )
    for floor in each(floors.rows(group)):
        clean = _stacked(floor.clean, floor.clean_balanced_accuracy, floor.clean_auc)
        robust = _stacked(floor.robust, floor.balanced_accuracy, floor.auc)
        shown = ("\n".join(clean), "\n".join(robust))
        table.add_row("-", floor.model, *shown, "", style="dim")
    return table


def _stacked(accuracy: float, balanced_accuracy: float, auc: float | None) -> list[str]:
    """Accuracy, and what stands below it in its cell."""
    return [
        number(accuracy),
        f"bal. {number(balanced_accuracy)}",
        f"AUC {number(auc)}",
    ]


def claims(findings: Sequence[Finding]) -> RenderableType:
    """`medrobust claims`."""
    table = Table(
        title="published claims",
        title_justify="left",
        caption="What decides a claim, and all numbers: claims.md, claims.csv.",
    )
    for name in ("claim", "verdict", "reported", "measured", "because"):
        table.add_column(name, justify="right" if name in ("reported", "measured") else "left")
    styles = {"reproduced": "green", "not reproduced": "red", "not testable here": "dim"}
    for f in findings:
        measured = f"{f.evidence[0].measured:.1%}" if f.evidence else "-"
        because = f"{f.reason}; {f.evidence[0].text}" if f.evidence else f.reason
        table.add_row(
            *map(escape, (f.claim.claim, f.verdict, f"{f.claim.reported:.1%}", measured, because)),
            style=styles[f.verdict],
        )
    return table


def merged(result: Merged, out: str) -> RenderableType:
    """`medrobust merge`."""
    line = (
        f"{result.copied} records and certificates copied to {out}, {result.same} were there with"
        " the same figures, "
    )
    line += f"{len(result.conflicts)} conflicts"
    if not result.conflicts:
        return Text(line)
    table = Table(
        title=(
            "conflicts: the same specification, measured differently; what the target has was kept"
        ),
        title_justify="left",
    )
    for name in ("record", "from", "figure", "kept", "not taken"):
        table.add_column(name)
    for c in result.conflicts:
        table.add_row(
            *map(
                escape, (c.hash[:SHORT], str(c.source), c.what, f"{c.ours:.4f}", f"{c.theirs:.4f}")
            )
        )
    return Group(Text(line), table)


def certificates(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """`medrobust certify`."""
    first = rows[0]
    title = f"certificates, n0 = {first['n0']}, n = {first['draws']}, alpha = {first['alpha']:g}"
    table = Table(title=title, title_justify="left")
    for name in (
        "model",
        "data",
        "sigma",
        "noise on",
        "task",
        "samples",
        "abstained",
        "certified right",
        "mean radius",
        "largest",
    ):
        table.add_column(
            name, justify="left" if name in ("model", "data", "noise on", "task") else "right"
        )
    for row in rows:
        texts = (
            victim_name(row["model"], row["variant"]),
            row["data"],
            f"{row['sigma']:g}",
            row["noised"],
            row["task"],
        )
        numbers = [
            f"{row[key]:.3f}"
            for key in ("abstained", "certified_accuracy", "average_radius", "largest_radius")
        ]
        table.add_row(*map(escape, texts), str(row["n"]), *numbers)
    doubts = [
        f"{row['model']}, sigma {row['sigma']:g}, {row['noised']}, {row['task']}: {row['trivial']}"
        for row in rows
        if row["trivial"]
    ]
    return Group(
        table,
        *(Text(f"trivial, its certificates mean nothing: {doubt}", "yellow") for doubt in doubts),
    )


def page(text: str) -> RenderableType:
    """A page of Markdown."""
    return Markdown(text)


def comparison(table: pd.DataFrame, page: Page) -> RenderableType:
    """A comparison in 80 columns: its table, a victim under one threat a row, then what its page
    says beside tables.
    """
    shown = Table(show_lines=True)
    for name in ("victim", "data, threat", "accuracy", "cost", "trust"):
        shown.add_column(name, overflow="fold")
    for _, row in with_constant(table).iterrows():
        constant = row.model == floors.CONSTANT
        figures = {
            "clean": number(row.clean),
            **{name: number(row[name]) for name in attacks(table)},
            "worst": interval(row, METRICS["robust"]),
            "worst, balanced": interval(row, METRICS["balanced_accuracy"]),
            "worst, AUC": number(row.worst_auc),
            "naive": number(row.naive),
        }
        costs = [] if constant else [f"{row.gflops:.3g} GFLOPs"]
        costs += [
            f"{row[key]:.1f} x {what}"
            for key, what in (("training_x", "training"), ("latency_x", "latency"))
            if pd.notna(row[key])
        ]
        cells = [
            row.model if constant else f"{row.model}\nwith {row.defense}",
            f"{row['data']}\n{row.norm} {row.eps}\nn {row.n}"
            + ("" if constant else f", trainings {row.trainings}")
            + ("\nsynthetic" if row.synthetic else ""),
            "\n".join(f"{name} {figure}" for name, figure in figures.items() if figure != "-"),
            "\n".join(costs),
            "\n".join(part for part in (row.trust, row.why, row.marks) if part),
        ]
        shown.add_row(*map(escape, cells), style=TRUST_STYLE.get(row.trust))
    return Group(Markdown(page.head), shown, Markdown(page.rest))
