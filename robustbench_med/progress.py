"""What a user sees while work goes on: lines and progress bars with the time left, on standard
error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Tick = Callable[[int, int, str], None]
"""Called with (done, in all, a note) as work goes on."""
Advance = Callable[[int], None]
"""Called with the number of samples that have just been finished."""


class Display:
    """Lines and bars; a quiet one shows warnings only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = _console(stderr=True)
        self.results = _console(stderr=False)
        self.warned: set[str] = set()

    def show(self, results: RenderableType) -> None:
        """Results, on standard output."""
        self.results.print(results)

    def say(self, line: str) -> None:
        """One line about what is going on."""
        if not self.quiet:
            self.console.print(line, markup=False, highlight=False)

    def warn(self, line: str) -> None:
        """One line the user must not miss, shown once: a comparison loads data and victims many
        times.
        """
        if line in self.warned:
            return
        self.warned.add(line)
        self.console.print(f"[bold yellow]warning:[/] {_escaped(line)}", highlight=False)

    @contextlib.contextmanager
    def bar(self, description: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """A progress bar; the yielded function advances it by n and shows a note."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(
            *columns, console=self.console, disable=self.quiet, refresh_per_second=4
        ) as progress:
            task = progress.add_task(_escaped(description), total=total, note="")

            def advance(n: int, note: str = "") -> None:
                progress.update(task, advance=n, note=_escaped(note))

            yield advance

    def lazy_bar(self, description: str) -> LazyBar:
        """A progress bar that appears with its first step."""
        return LazyBar(self, description)


class LazyBar:
    """A progress bar that appears with its first step."""

    def __init__(self, display: Display, description: str) -> None:
        self.display, self.description = display, description
        self._stack = contextlib.ExitStack()
        self._advance: Callable[[int, str], None] | None = None
        self._done = 0

    def __enter__(self) -> LazyBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int, note: str) -> None:
        if self._advance is None:
            self._advance = self._stack.enter_context(self.display.bar(self.description, total))
        self._advance(done - self._done, note)
        self._done = done


def _console(*, stderr: bool) -> Console:
    """A console; into a pipe or a file it is wide, so that lines and tables are not folded to 80
    columns.
    """
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
