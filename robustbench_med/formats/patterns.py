"""Regular expressions of others, which may search for ever."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

from robustbench_med.errors import UserError
from robustbench_med.formats.limits import VARIABLE, limit
from robustbench_med.formats.text import line


def search(expression: str, text: str) -> re.Match[str] | None:
    """As `re.search`, letter case aside; a UserError where it takes longer than the limit.

    The clock is a signal, which only the main thread of a POSIX system hears.
    """
    with _clock(expression, text):
        return re.search(expression, text, re.IGNORECASE)


@contextlib.contextmanager
def _clock(expression: str, text: str) -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and hasattr(signal, "setitimer")):
        yield
        return

    def rung(*_: object) -> NoReturn:
        raise UserError(
            f"the expression {line(repr(expression))} takes more than {limit('pattern_seconds')} s"
            f" to search {line(text, 100)!r}; write it without a repetition inside another"
            f" ({VARIABLE}=pattern_seconds=... allows more)"
        )

    before = signal.signal(signal.SIGALRM, rung)
    signal.setitimer(signal.ITIMER_REAL, limit("pattern_seconds"))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
