"""The one error that is the user's to mend: shown as a single line, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INCLUDE = "one of your own comes with --include FILE.py"
"""What an unknown name may lack."""


class UserError(Exception):
    """Bad input. The message says what was wrong, what was expected and what to do."""


def unknown(kind: str, name: str, known: Iterable[str], advice: str = "") -> UserError:
    """An unknown name, with the nearest known ones and further advice."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UserError(f"unknown {kind} {name!r}; {hint}{f'; {advice}' if advice else ''}")
