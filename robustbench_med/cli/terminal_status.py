"""What the terminal shows of a run that goes on, or has ended."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.terminal_plan import duration
from robustbench_med.naming import label
from robustbench_med.runs.status import Status, Worker

SHOWN = 10
"""Failures that are shown."""
EARLIER = 3
"""Runs before the last one that are shown."""


def shown(status: Status, now: float) -> RenderableType:
    """`medrobust status`."""
    parts: list[RenderableType] = [Text(line) for line in sentences(status)]
    if status.workers:
        parts.append(_workers(status.workers, now))
    for failure in status.failures[:SHOWN]:
        parts.append(Text(f"failed: {failure.name}: {failure.error}", "red"))
    if len(status.failures) > SHOWN:
        parts.append(Text(f"and {len(status.failures) - SHOWN} more", "red"))
    return Group(*parts)


def sentences(status: Status) -> list[str]:
    """The sums, a line each."""
    how = "goes on" if status.running else "has ended"
    running = len(status.workers)
    if status.handed_to and status.running and not running:
        how = "waits, starts or was cancelled (squeue tells)"
    who = status.handed_to or status.owner
    lines = [
        f"the run of {who} {how}, {duration(status.seconds)}",
        f"trainings: {status.trained} of {status.trainings} done, {status.training} running",
        f"cells: {status.done} of {status.cells} done ({status.before} before),"
        f" {status.failed} failed, {running} running, {status.waiting} waiting",
    ]
    if status.per_minute is not None:
        left = "" if status.left is None else f", about {duration(status.left)} left"
        lines.append(f"rate: {status.per_minute:.3g} cells a minute{left}")
    for each in status.earlier[:EARLIER]:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.started))
        rest = each.cells - each.done - each.failed
        lines.append(
            f"before it, the run of {each.owner} from {began}: {each.done} of {each.cells} cells"
            f" done, {each.failed} failed, {rest} not begun"
        )
    if len(status.earlier) > EARLIER:
        lines.append(f"and {len(status.earlier) - EARLIER} runs before these")
    return lines


def _workers(workers: tuple[Worker, ...], now: float) -> Table:
    """Who works on what."""
    table = Table(title="running", title_justify="left")
    for name in ("worker", "victim", "for", "cells", "doing", "of it"):
        table.add_column(name, overflow="fold")
    for each in workers:
        victim = each.victim
        name = label(str(victim.get("model", "")))
        if victim.get("defense", "none") != "none":
            name += f"+{victim['defense']}"
        share = f"{each.done / each.total:.0%}" if each.total else ""
        table.add_row(
            escape(each.who),
            escape(f"{name} on {victim.get('data', '')}"),
            duration(max(now - each.since, 0.0)),
            f"{each.finished}/{each.cells}",
            escape(each.doing),
            share,
        )
    return table
