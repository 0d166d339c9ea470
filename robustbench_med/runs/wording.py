"""Texts in the words of Python: `eps` in place of `--eps`."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

from robustbench_med import errors
from robustbench_med.errors import LeftOutWarning, UserError
from robustbench_med.runs.options import OPTIONS, flags_of


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Errors and warnings name arguments in place of the command line's options."""
    with warnings.catch_warnings(record=False):
        usual = warnings.showwarning

        def show(message: Any, category: Any, *rest: Any) -> None:
            if issubclass(category, LeftOutWarning):
                message = category(worded(str(message)))
            usual(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        try:
            yield
        except UserError as error:
            error.args = (worded(str(error)), *error.args[1:])
            raise


def worded(text: str) -> str:
    """A text with `eps` in place of `--eps`, but for commands of a shell in it."""
    text = text.replace(errors.INCLUDE, "one of your own is given as an object, or registered")
    parts = re.split(r"(`[^`]*`|medrobust [^\n;]*)", text)
    return "".join(part if i % 2 else _without_flags(part) for i, part in enumerate(parts))


def _without_flags(text: str) -> str:
    known = _arguments()

    def argument(found: re.Match[str]) -> str:
        name = known.get(found["flag"])
        if name is None:
            return found[0]
        return f"{name}={found['number']}" if found["number"] else name

    number = r"(?: (?P<number>\d[\d./]*)(?=[\s),;.]|$))?"
    return re.sub(rf"(?P<flag>--[a-z][a-z0-9-]*){number}", argument, text)


def _arguments() -> dict[str, str]:
    """Arguments by the options that they stand for."""
    known = {}
    for field in OPTIONS:
        on, *off = flags_of("run", field)
        known[on] = field
        switches = [flag for flag in off if flag.startswith("--")]
        known |= dict.fromkeys(switches, f"{field}=False")
    return known
