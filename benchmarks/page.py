"""What the benchmarks share: contestants that take turns, and the blocks of a page between its
markers.
"""

from __future__ import annotations

import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
START, END = "<!-- measured: {} -->", "<!-- end of measured -->"


@dataclass
class Table:
    """A block of the page.

    Attributes:
        lines: Markdown.
        ratios: the figures of it that mean something on another machine, by what they compare.
    """

    lines: list[str]
    ratios: dict[str, float] = field(default_factory=dict)

    def row(self, *cells: object) -> None:
        """Adds a row, and prints it."""
        self.lines.append(f"| {' | '.join(map(str, cells))} |")
        print(self.lines[-1], flush=True)


def headed(before: str, *columns: str) -> Table:
    """An empty table below a line of text."""
    return Table([before, "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"])


def written(name: str, lines: Sequence[str]) -> None:
    """Replaces a block of docs/performance.md.

    Raises:
        SystemExit: the page has none of that name.
    """
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), name, lines), encoding="utf-8")


def replaced(page: str, name: str, lines: Sequence[str]) -> str:
    """A page with other lines in one of its blocks.

    Raises:
        SystemExit: it has no block of that name.
    """
    before, start, rest = page.partition(START.format(name))
    if not start:
        raise SystemExit(f"the page has no block for {name}")
    table = "\n".join(lines)
    return f"{before}{start}\n{table}\n{END}{rest.partition(END)[2]}"


def timed(
    contestants: dict[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, tuple[float, Any]]:
    """Of each contestant the median of its processor seconds, or of what another clock says, and
    its last answer; they take turns.
    """
    took: dict[str, list[float]] = {name: [] for name in contestants}
    answers: dict[str, Any] = {}
    for _ in range(repeats):
        for name, work in contestants.items():
            start = clock()
            answers[name] = work()
            took[name].append(clock() - start)
    return {name: (statistics.median(took[name]), answers[name]) for name in contestants}


def processor() -> str:
    """The processor's name, where the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def high_water() -> float:
    """Peak memory of this process in MiB (Linux; getrusage would tell the parent's)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def in_a_process(work: Callable[..., None], *given: Any) -> Any:
    """What `work(*given, answer)` puts into its answer, in a fresh process.

    Raises:
        SystemExit: the process failed.
    """
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=work, args=(*given, answer))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} of {given} ended with {process.exitcode}")
    return answer.get()
