"""What a user sees while work goes on, on standard error: lines, and bars with the time left; into
a pipe or a file a line a minute instead.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.segment import Segment
from rich.text import Text

from robustbench_med.formats.text import CONTROL, escaped

Tick = Callable[[int, int, str], None]
"""Called with (done, in all, a note) as work goes on."""
Advance = Callable[[float], None]
"""Called with the number of samples that have just been finished; parts of one count too."""
MINUTE = 60.0
"""Seconds between two lines of a bar that no terminal shows."""


class Display:
    """Lines and bars; a quiet one shows warnings only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = _console(stderr=True)
        self.results = _console(stderr=False)
        self.warned: set[str] = set()
        self.grid: _Shown | None = None
        """The bar of a whole grid, below which other bars come and go."""

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
        self.console.print(f"[bold yellow]warning:[/] {escape(line)}", highlight=False)

    @contextlib.contextmanager
    def bar(self, description: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """A progress bar; the yielded function advances it by n and shows a note."""
        if self.grid is not None and self.grid.progress is not None:
            task = self.grid.progress.add_task(escape(description), total=total, note="")
            yield _advancing(self.grid.progress, task)
            self.grid.progress.remove_task(task)
        elif self.quiet or not self.console.is_terminal:
            yield Lines(description, total, self.say).advance
        else:
            with bars(self.console, quiet=False) as progress:
                task = progress.add_task(escape(description), total=total, note="")
                yield _advancing(progress, task)

    @contextlib.contextmanager
    def overall(self, description: str, total: float) -> Iterator[Overall]:
        """One bar for a whole grid, with the time left, while the bars of its parts come and go."""
        if self.quiet or not self.console.is_terminal:
            yield Overall(total, Lines(description, total, self.say).set)
            return
        with bars(self.console, quiet=False) as progress:
            task = progress.add_task(escape(description), total=total, note="", as_share=True)
            self.grid = _Shown(progress, task)
            try:
                yield Overall(total, self.grid.set)
            finally:
                self.grid = None

    def ended(self) -> None:
        """Nothing more will be shown."""

    def lazy_bar(self, description: str) -> LazyBar:
        """A progress bar that appears with its first step."""
        return LazyBar(self, description)


class Notebook(Display):
    """One bar in a notebook's output that ends; lines are notes beside it."""

    def __init__(self, show: Callable[..., Any], *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.show_first = show
        self.shown: Any = None
        self.begun, self.said, self.depth = time.monotonic(), 0.0, 0
        self.overall_of: tuple[float, float] | None = None

    def say(self, line: str) -> None:
        """One line beside the bar, in the place of the last."""
        self._draw(line)

    def warn(self, line: str) -> None:
        """One line that stays, once."""
        if line not in self.warned:
            self.warned.add(line)
            print(f"warning: {line}", file=sys.stderr)

    @contextlib.contextmanager
    def bar(self, description: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """The bar of one part; that of the grid shows how far all of it is."""
        done, last = 0.0, ""

        def advance(n: float, note: str = "") -> None:
            nonlocal done, last
            done, last = done + n, note or last
            self._draw(f"{description} {done / total:.0%}  {last}" if total else description)

        self.depth += 1
        try:
            yield advance
        finally:
            self.depth -= 1
            if not self.depth:
                self._draw(description, at_once=True)

    @contextlib.contextmanager
    def overall(self, description: str, total: float) -> Iterator[Overall]:
        """The bar of a whole grid."""

        def show(done: float, total: float) -> None:
            self.overall_of = done, total
            self._draw(description)

        self.depth += 1
        try:
            yield Overall(total, show)
        finally:
            self.depth, self.overall_of = self.depth - 1, None
            if not self.depth:
                self._draw(f"{description}: done", at_once=True)

    def _draw(self, line: str, *, at_once: bool = False) -> None:
        """Shows the bar again, four times a second at most."""
        now = time.monotonic()
        if self.quiet or (now - self.said < 0.25 and not at_once):
            return
        self.said = now
        left, share = None, ""
        if self.overall_of is not None and self.overall_of[1]:
            left = time_left(*self.overall_of, now - self.begun)
            filled = round(24 * self.overall_of[0] / self.overall_of[1])
            share = f"[{'#' * filled}{'.' * (24 - filled)}] "
        after = "" if left is None else f", about {clock(left)} left"
        text = f"{share}{clock(now - self.begun)}{after}  {line}".rstrip()
        if self.shown is None:
            self.shown = self.show_first({"text/plain": text}, raw=True, display_id=True)
        else:
            self.shown.update({"text/plain": text}, raw=True)

    def ended(self) -> None:
        """The bar says how long it took."""
        if self.shown is not None:
            self._draw("done", at_once=True)


def display_of(quiet: bool) -> Display:
    """What Python shows: lines and bars, in a notebook one bar."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    if running is None or type(running).__name__ != "ZMQInteractiveShell":
        return Display(quiet=quiet)
    from IPython.display import display

    return Notebook(display, quiet=quiet)


class Overall:
    """How far a whole grid is, its parts weighted by the time they take."""

    def __init__(self, total: float, show: Callable[[float, float], None]) -> None:
        self.total, self.done, self.show = total, 0.0, show

    def finished(self, weight: float) -> None:
        """A part is done."""
        self.done += weight
        self.show(self.done, self.total)

    def left_out(self, weight: float) -> None:
        """A part takes no time: it was done before, or failed before it began."""
        self.total -= weight
        self.show(self.done, self.total)


class LazyBar:
    """A progress bar that appears with its first step."""

    def __init__(self, display: Display, description: str) -> None:
        self.display, self.description = display, description
        self._stack = contextlib.ExitStack()
        self._advance: Callable[[float, str], None] | None = None
        self._done = 0

    def __enter__(self) -> LazyBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int, note: str) -> None:
        if self._advance is None:
            if not self.display.console.is_terminal:
                self.display.say(f"{self.description}: {total} steps")
            self._advance = self._stack.enter_context(self.display.bar(self.description, total))
        self._advance(done - self._done, note)
        self._done = done


@dataclass(frozen=True)
class _Shown:
    """A bar in the terminal."""

    progress: Progress
    task: TaskID

    def set(self, done: float, total: float) -> None:
        """Sets how far it is."""
        self.progress.update(self.task, completed=done, total=total)


class Lines:
    """Stands for a bar that no terminal shows: a line a minute."""

    def __init__(self, description: str, total: float, say: Callable[[str], None]) -> None:
        self.description, self.total, self.say = description, total, say
        self.done, self.begun = 0.0, time.monotonic()
        self.said = self.begun

    def advance(self, n: float, note: str = "") -> None:
        """It goes on by n."""
        self.done += n
        now = time.monotonic()
        if now - self.said < MINUTE or not self.total:
            return
        self.said = now
        left = time_left(self.done, self.total, now - self.begun)
        after = f", about {clock(left)} left" if left is not None else ""
        line = f"{self.description}: {self.done / self.total:.0%}, {clock(now - self.begun)}{after}"
        self.say(f"{line}  {note}".rstrip())

    def set(self, done: float, total: float) -> None:
        """It is so far."""
        self.total = total
        self.advance(done - self.done)


class Done(ProgressColumn):
    """What is done of what there is; a share where that is counted in no things."""

    def render(self, task: Task) -> Text:
        """As 3/16, or 19%."""
        if task.total is None or task.total == 1 or task.fields.get("as_share"):
            return Text(f"{task.percentage:.0f}%", "progress.download")
        return Text(f"{int(task.completed)}/{int(task.total)}", "progress.download")


class Left(ProgressColumn):
    """The time left at the rate since the bar began."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """As 0:01:20; nothing can be said before the first step."""
        left = None
        if task.total is not None and task.elapsed is not None:
            left = time_left(task.completed, task.total, task.elapsed)
        return Text("left " + ("-" if left is None else clock(left)), "progress.remaining")


def bars(console: Console, *, quiet: bool) -> Progress:
    """Bars with what is done, the time it took and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        Done(),
        TimeElapsedColumn(),
        Left(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, disable=quiet, refresh_per_second=4)


def time_left(done: float, total: float, elapsed: float) -> float | None:
    """Seconds to go at the rate so far; None before anything is done."""
    return elapsed * max(total - done, 0.0) / done if done > 0 else None


def clock(seconds: float) -> str:
    """Seconds as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _advancing(progress: Progress, task: TaskID) -> Callable[[float, str], None]:
    def advance(n: float, note: str = "") -> None:
        progress.update(task, advance=n, note=escape(note))

    return advance


class Terminal(Console):
    """A console on which names are text: nothing in them moves its cursor, and no `:lock:` is a
    picture.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """As rich's, with control characters written out."""
        for segment in super().render(renderable, options):
            if segment.control or not CONTROL.search(segment.text):
                yield segment
            else:
                yield Segment(escaped(segment.text, keep="\n"), segment.style)


def _console(*, stderr: bool) -> Console:
    """A console; into a pipe or a file it is wide, so that lines and tables are not folded to 80
    columns.
    """
    console = Terminal(stderr=stderr, emoji=False)
    return console if console.is_terminal else Terminal(stderr=stderr, emoji=False, width=200)
