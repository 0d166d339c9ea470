"""A search for the strongest attack, shown in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.listings import assigned
from robustbench_med.reports.tables import told
from robustbench_med.store.attacks import SearchRan


def rounds(ran: SearchRan) -> RenderableType:
    """The rounds of a search, and how it ended; of a black box's who was left out too, and what it
    cannot know. 80 columns hold it.
    """
    left_out = [f"left out: {name}, {why}" for name, why in ran.left_out.items()]
    unknown = [f"cannot know: {line}" for line in ran.cannot_know]
    return Group(_table(ran), *map(Text, (*left_out, *unknown)))


def _table(ran: SearchRan) -> Table:
    table = Table(
        title=f"rounds, {told(ran)}",
        title_justify="left",
        caption="Passes and queries: asked for until the round's end, an attacked sample.",
        caption_justify="left",
    )
    table.add_column("round", overflow="fold")
    for name in ("passes", "queries", "takes", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in ran.rounds:
        error = f" (s.e. {one.error:.3f})" if one.error else ""
        table.add_row(
            escape(f"{one.kind}\n{called(one.attack, one.parameters)}"),
            *(f"{one.passes:,.0f}", f"{one.queries:,.0f}"),
            *(f"{one.taken:.3f}{error}", f"{one.left:.3f}"),
        )
    return table


def called(attack: str, params: Mapping[str, Any]) -> str:
    """An attack with its parameters, where it has some."""
    return f"{attack} ({assigned(params)})" if params else attack
