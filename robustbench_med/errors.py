"""Errors that are the user's to mend (one line, exit code 2, no traceback), and what was left out
on the way (named, exit code 1).
"""

from __future__ import annotations

import contextlib
import difflib
import warnings
from collections.abc import Iterable, Iterator
from typing import TextIO

from robustbench_med.formats.text import MOST
from robustbench_med.formats.text import message as plain

INCLUDE = "one of your own comes with --include FILE.py"
"""What an unknown name may lack."""


class UserError(Exception):
    """Bad input. The message says what was wrong, what was expected and what to do: in one line, in
    which at most 300 characters of an input stand, and nothing that a terminal obeys.
    """

    exit_code = 2
    lines = False
    """Whether the message may have several."""

    def __init__(self, said: str = "") -> None:
        super().__init__(plain(str(said), lines=self.lines))


class IncompleteError(UserError):
    """What was asked for makes sense, but nothing is left of it to show: all of it failed or was
    left out.
    """

    exit_code = 1
    lines = True


class LeftOutWarning(UserWarning):
    """Something was left out or failed, and the rest was done. The command line names it last and
    ends with exit code 1.
    """


def left_out(message: str) -> None:
    """Says that something was left out: a `LeftOutWarning` in Python, the last lines and exit code
    1 of a command.
    """
    warnings.warn(plain(message, lines=True), LeftOutWarning, stacklevel=3)


@contextlib.contextmanager
def gathered() -> Iterator[list[str]]:
    """Everything that is left out while this lasts, each message once, instead of warnings."""
    messages: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", LeftOutWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, LeftOutWarning):
                usual(message, category, filename, lineno, file, line)
            elif str(message) not in messages:
                messages.append(str(message))

        warnings.showwarning = show
        yield messages


class Notice(UserWarning):
    """Something the user must know that stops nothing; the command line shows it as one line."""


def unknown(kind: str, name: str, known: Iterable[str], advice: str = "") -> UserError:
    """An unknown name, with the nearest known ones and further advice."""
    return UserError(
        f"unknown {kind} {name!r}; {nearest(name, known)}{f'; {advice}' if advice else ''}"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name: the nearest known ones, or else all."""
    names = list(known)
    near = difflib.get_close_matches(name[:MOST], names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
