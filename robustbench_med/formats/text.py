"""Text of others as it may be shown: one line, not endless, nothing that a terminal obeys."""

from __future__ import annotations

import re
from typing import TypeVar

T = TypeVar("T")

MOST = 300
"""Characters of an input that a message holds."""
LINE = 2000
"""Characters of a message: an input, its file, and what was expected."""
CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Controls of terminals (C0, C1), of the direction of text, of lines, and halves of characters."""
NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?%?")
LONG = re.compile(rf"\S{{{MOST + 1},}}")


def escaped(text: str, *, keep: str = "") -> str:
    """The text with every control character written out, as \\x1b, but for those to keep."""
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else _written(found[0]), text)


def shortened(text: str, most: int = MOST) -> str:
    """Its beginning and its end where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most * 2 // 3]}... ({len(text):,} characters) ...{text[-most // 6 :]}"


def cell(value: T) -> T | str:
    """A value as a cell of CSV: text is one line, and none that spreadsheets take for a formula
    (OWASP: such text gets an apostrophe). All else stays as it is.
    """
    if not isinstance(value, str):
        return value
    plain = escaped(value, keep="\n")
    is_formula = len(plain) > 1 and plain[0] in "=+-@" and not NUMBER.fullmatch(plain)
    return f"'{plain}" if is_formula else plain


def line(value: object, most: int = MOST) -> str:
    """Anything as a part of a message: its lines joined, controls written out, not too long."""
    return shortened(escaped(" ".join(str(value).split())), most)


def message(text: str, *, lines: bool = False) -> str:
    """A whole message, its long words and itself shortened; in one line, or in `lines`, each of
    them so.
    """
    if lines:
        return "\n".join(message(each) for each in text.split("\n"))
    plain = LONG.sub(lambda found: shortened(found[0]), escaped(text))
    return shortened(plain, LINE)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
