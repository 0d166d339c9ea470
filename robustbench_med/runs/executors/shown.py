"""What the terminal shows of several workers: the cells of the grid, and what each worker does.
Into a pipe or a file it is a line a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from robustbench_med.progress import Display, Left, Lines
from robustbench_med.runs.units import Unit
from robustbench_med.store.claim import Claim


class Board:
    """A line for the cells of the grid, and one for each worker."""

    def __init__(self, display: Display, units: Sequence[Unit]) -> None:
        self.display = display
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            Left(),
            TextColumn("{task.fields[note]}"),
            console=display.console,
            disable=display.quiet,
            refresh_per_second=4,
        )
        cells, victims = sum(len(unit.cells) for unit in units), f"of {len(units)} victims"
        self.grid = self.progress.add_task(f"cells {victims}", total=cells, note="")
        self.lines: Lines | None = None
        if not (display.quiet or display.console.is_terminal):
            self.lines = Lines(f"{cells} cells {victims}", cells, display.say)
        self.workers: dict[int, TaskID] = {}
        self.claimed: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def finished(self) -> None:
        """A cell has come to something."""
        self.progress.advance(self.grid)
        self._passed(1)

    def _passed(self, cells: int) -> None:
        if self.lines is not None:
            self.lines.advance(cells)

    def receive(self, worker: int, kind: str, content: dict[str, Any]) -> None:
        """Shows a message of a worker: a line, or how far its work is."""
        self._passed(0)
        if kind == "say":
            self.display.say(content["line"])
        elif kind == "warn":
            self.display.warn(content["line"])
        elif kind == "advance" and worker in self.workers:
            self.progress.update(
                self.workers[worker], advance=content["n"], note=escape(content["note"])
            )
        elif kind == "bar":
            if worker in self.workers:
                self.progress.remove_task(self.workers.pop(worker))
            if content["total"]:
                description = f"worker {worker + 1}: {escape(content['description'])}"
                self.workers[worker] = self.progress.add_task(
                    description, total=content["total"], note=""
                )

    def show(self, claims: Sequence[Claim]) -> None:
        """Shows workers that tell what they do in the claims of their units."""
        self._passed(0)
        for who in set(self.claimed) - {str(claim.owner) for claim in claims}:
            self.progress.remove_task(self.claimed.pop(who))
        for claim in claims:
            who, about = str(claim.owner), claim.about
            if who not in self.claimed:
                self.claimed[who] = self.progress.add_task("", note="")
            self.progress.update(
                self.claimed[who],
                description=escape(f"{who}: {about.get('doing', '')}"),
                completed=about.get("done", 0),
                total=about.get("total") or None,
            )
