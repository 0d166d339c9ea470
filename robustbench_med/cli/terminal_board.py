"""What the terminal shows of the leaderboard: a row a victim and threat."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.terminal import cells
from robustbench_med.cli.terminal_records import TRUST_STYLE, number
from robustbench_med.naming import BY_INDEX, nature
from robustbench_med.reports import absence, corruptions, floors, own_threats, paper
from robustbench_med.reports import findings as of_findings
from robustbench_med.reports.board import AUC, COMPARABLE, named
from robustbench_med.reports.tables import each
from robustbench_med.store.words import MEANINGS, WORDS

if TYPE_CHECKING:
    from robustbench_med.reports.write import Shown

TABLED = [key for key in COMPARABLE if key not in ("eps", "eps_value")]
"""Columns whose values a table has in common."""


def shown(found: Shown, *, attacks: bool = False) -> RenderableType:
    """The leaderboard, with what is odd about its records below; the cells where no attack was run.

    Args:
        attacks: show the cells, a row an attack.
    """
    warnings = [Text(f"warning: {warning}", "yellow") for warning in found.warnings]
    degraded = [corruptions_table(found.corruptions)] if len(found.corruptions) else []
    if len(found.own_threats):
        degraded.append(own_threats_table(found.own_threats))
    if found.cells.empty and degraded:
        return Group(*degraded, *warnings)
    if attacks or found.board.empty:
        return Group(cells(found.cells), *degraded, *warnings)
    return Group(board(found.board), *degraded, *warnings)


def corruptions_table(degraded: pd.DataFrame) -> Table:
    """A row a victim under corruptions."""
    table = Table(title="corruptions: mean error over kinds and severities", title_justify="left")
    table.add_column("victim, data", overflow="fold")
    table.add_column("errors", no_wrap=True)
    for row in corruptions.told(degraded):
        against = f"against {row['baseline']}" if row["baseline"] != "-" else "no baseline"
        victim = [row["victim"], row["data"], f"worst: {row['worst kind']}", against]
        figures = [
            f"mean  {row['mean error']}",
            f"clean {row['clean error']}",
            f"mCE   {row['mCE']}",
            f"rel.  {row['relative mCE']}",
        ]
        table.add_row(escape("\n".join(victim)), "\n".join(figures), end_section=True)
    return table


def own_threats_table(found: pd.DataFrame) -> Table:
    """A row a victim and threat of its own."""
    title = "threats of their own: not compared with those of the leaderboard"
    table = Table(title=title, title_justify="left")
    table.add_column("victim, data, threat, trust", overflow="fold")
    table.add_column("accuracy [95 %]", no_wrap=True)
    for row in own_threats.told(found):
        victim = [row[key] for key in ("victim", "data", "threat", "trust")]
        figures = [f"worst {row['robust']}", f"bal.  {row['balanced']}", f"clean {row['clean']}"]
        table.add_row(escape("\n".join(victim)), "\n".join(figures), end_section=True)
    return table


def board(frame: pd.DataFrame) -> RenderableType:
    """One table a setting, real data first; within it by radius and rank, the constant answer
    last.
    """
    return Group(*(_table(group) for _, group in named(frame).groupby(TABLED, sort=False)))


def missing(long: pd.DataFrame) -> RenderableType:
    """What victims make of missing modalities, a table each (`absence.frame`)."""
    return Group(*map(_missing, absence.tables(long)))


def _missing(one: paper.Table) -> Table:
    table = Table(title=escape(one.caption), title_justify="left")
    for column in one.columns[:2]:
        table.add_column(escape(column.heading), overflow="fold")
    changes = [j for j, c in enumerate(one.columns) if c.heading.startswith(absence.CHANGE)]
    alone = range(changes[-1] + 1, len(one.columns))
    for j in (*(j - 1 for j in changes), *alone):
        table.add_column(escape(one.columns[j].heading), justify="right")
    for row in one.rows:
        figures = []
        for j in changes:
            rate, change = row[j - 1], row[j]
            low, high = rate.interval or (0.0, 1.0)
            by = "" if change.value is None else f" {change.value:+.3f}"
            figures.append(f"{rate.value:.3f} [{low:.3f}, {high:.3f}]{by}")
        figures += [f"{row[j].value:.3f}" for j in alone]
        table.add_row(*(escape(str(cell.value)) for cell in row[:2]), *map(escape, figures))
    return table


def findings(found: pd.DataFrame) -> RenderableType:
    """The worst case of each finding of multi-label sets, a table each (`findings.frame`)."""
    return Group(*map(_findings, of_findings.tables(found)))


def _findings(one: paper.Table) -> Table:
    table = Table(title=escape(one.caption), title_justify="left")
    for j, column in enumerate(one.columns):
        table.add_column(escape(column.heading), justify="right" if j else "left")
    for row in one.rows:
        cells = [cell.value for cell in row]
        shown = [f"{value:.3f}" if isinstance(value, float) else value or "-" for value in cells]
        table.add_row(*map(escape, shown))
    return table


def _table(group: pd.DataFrame) -> Table:
    first: Any = group.iloc[0]
    kind = nature(first["data"], synthetic=first.synthetic)
    title = (
        f"{first.benchmark or 'no benchmark'}: {first['data']}{kind}, {first['size']} px,"
        f" {first.norm}, target {first.target}, protocol {first.protocol}, n = {first.n}"
    )
    table = Table(title=escape(title), title_justify="left", show_lines=True)
    table.add_column("victim, attacks, trust", overflow="fold")
    by_area = first.main_figure == AUC
    table.add_column(f"{'AUC, ' * by_area}accuracy [95 %]", no_wrap=True)
    for row in each(group):
        texts = (_victim(row), _accuracy(row))
        lines = (escape("\n".join(filter(None, text))) for text in texts)
        table.add_row(*lines, style=TRUST_STYLE.get(row.trust))
    for floor in each(floors.rows(group)):
        constant = [
            *([f"AUC   worst {number(floor.worst_auc)}"] * by_area),
            f"worst {number(floor.worst)}",
            f"bal.  {number(floor.worst_balanced_accuracy)}",
        ]
        table.add_row(floor.model, "\n".join(constant), style="dim")
    return table


def _accuracy(row: Any) -> list[str]:
    spread = "" if pd.isna(row.worst_std) else f"± {row.worst_std:.3f} ({row.trainings} trainings)"
    areas = [f"AUC   worst {number(row.worst_auc)}", f"AUC   clean {number(row.clean_auc)}"]
    return [
        *(areas if row.main_figure == AUC else []),
        f"worst {number(row.worst)} [{row.worst_low:.3f}, {row.worst_high:.3f}]",
        spread,
        f"bal.  {number(row.worst_balanced_accuracy)}",
        f"clean {number(row.clean)} [{row.clean_low:.3f}, {row.clean_high:.3f}]",
        "" if pd.isna(row.noise) else f"noise {number(row.noise)}",
    ]


def _victim(row: Any) -> list[str]:
    """Who was attacked, by what, and how far that can be believed."""
    place = "no rank" if pd.isna(row.rank) else f"rank {row.rank}"
    reported = ""
    if pd.notna(row.reported):
        reported = f"reported {row.reported:.3f}, {row.difference:+.3f} here"
    size = f"{row.parameters / 1e6:.3g} M, {row.gflops:.3g} GFLOPs"
    if row.parameters == 0:
        size = "a black box"
    marks = [mark for mark in row.marks.split("; ") if mark not in ("", "synthetic data", BY_INDEX)]
    return [
        row.model,
        f"{row.norm} {row.eps}: {place}{row.unranked and f' ({row.unranked})'}",
        row.each_attack.replace("; ", ", ")
        + (f"; search {row.convergence}" if row.convergence else ""),
        ": ".join(filter(None, [row.trust, row.sign])),
        reported,
        "; ".join(marks),
        size,
    ]


def ending(board_rows: pd.DataFrame, models: Sequence[str]) -> Iterator[str]:
    """What a run ends with: the worst sign of the rows in words, and the one command that would
    help most.

    Args:
        models: names of the victims as `--model` takes them, where the board shortens them.
    """
    judged = [row for row in each(named(board_rows)) if row.trust in WORDS]
    if not judged:
        return
    worst = min(judged, key=lambda row: WORDS.index(row.trust))
    why = f": {worst.why}" if worst.why else ""
    yield f"least to be believed: {worst.model} at {worst.eps} is {worst.trust}{why}"
    said = [word for word in WORDS if any(row.trust == word for row in judged)]
    yield "trust: " + "; ".join(f"{word}: {MEANINGS[word]}" for word in said)
    if command := _next(worst, models):
        yield f"next: {command}"


def _next(row: Any, models: Sequence[str]) -> str:
    """The command that would help a row most; empty where nothing does."""
    architecture = next((m for m in models if m.endswith(row.family)), row.family)
    victim = f"--model {shlex.quote(architecture)}"
    if row.defense != "none":
        victim += f" --defense {row.defense}"
    if "lifted by" in row.sign:
        return f"the same with {row.sign.split('lifted by ')[1]}"
    if row.trust in ("failed", "doubtful") and "adaptive" not in row.each_attack and row.parameters:
        return "the same with --attack adaptive"
    if row.unranked.startswith("lacks "):
        return f"medrobust run --benchmark {row.benchmark} {victim}"
    return ""
