"""What goes on, told to who looks at the claim of a unit from elsewhere, and shown here as ever."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import RenderableType

from robustbench_med.owners.lock import Lock
from robustbench_med.progress import Display, Overall


class Telling(Display):
    """Shows what another display shows, and writes its bars into a claim while there is one."""

    def __init__(self, display: Display) -> None:
        super().__init__(quiet=display.quiet)
        self.display = display
        self.claim: Lock | None = None

    @contextlib.contextmanager
    def told(self, claim: Lock) -> Iterator[None]:
        """Inside, bars go into this claim."""
        self.claim = claim
        try:
            yield
        finally:
            self.claim = None

    def show(self, results: RenderableType) -> None:
        """Results."""
        self.display.show(results)

    def say(self, line: str) -> None:
        """One line about what is going on."""
        self.display.say(line)

    def warn(self, line: str) -> None:
        """One line the user must not miss."""
        self.display.warn(line)

    @contextlib.contextmanager
    def overall(self, description: str, total: float) -> Iterator[Overall]:
        """One bar for a whole grid, here alone."""
        with self.display.overall(description, total) as grid:
            yield grid

    @contextlib.contextmanager
    def bar(self, description: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """A progress bar, here and in the claim."""
        done = 0.0

        def tell() -> None:
            if self.claim is not None:
                self.claim.tell(doing=description, done=done, total=total)

        with self.display.bar(description, total) as shown:

            def advance(n: float, note: str = "") -> None:
                nonlocal done
                done += n
                tell()
                shown(n, note)

            tell()
            yield advance
