"""What the terminal shows of a gate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from robustbench_med.reports.gate import Row, Verdict

STYLES = {"holds": "green", "fails": "red", "no answer": "yellow"}
WORDS = {
    0: ("all bounds hold", "green"),
    1: ("a bound fails", "red"),
    3: ("no answer: the bounds that have one hold", "yellow"),
}


def shown(verdict: Verdict) -> RenderableType:
    """A row a bound, victim and threat, and the answer."""
    table = Table(title="gate", title_justify="left", show_lines=True)
    table.add_column("victim, bound", overflow="fold")
    table.add_column("figure [95 %]", no_wrap=True)
    table.add_column("answer", overflow="fold")
    for row in verdict.rows:
        where = [" on ".join(filter(None, [row.victim, row.data])), row.threat, row.bound]
        answer = "\n".join(filter(None, [row.answer, row.why]))
        texts = ("\n".join(filter(None, where)), _figure(row), answer)
        table.add_row(*map(escape, texts), style=STYLES[row.answer])
    said, style = WORDS[verdict.code]
    return Group(table, Text(f"{said} (exit code {verdict.code})", style))


def _figure(row: Row) -> str:
    if math.isnan(row.value):
        return "-"
    return f"{row.value:.3f}" + ("" if math.isnan(row.low) else f" [{row.low:.3f}, {row.high:.3f}]")
