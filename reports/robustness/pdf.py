"""The robustness card as a PDF of one A4 page, drawn with matplotlib: text stays text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from robustbench_med.errors import UserError
from robustbench_med.formats.text import escaped
from robustbench_med.reports import style
from robustbench_med.reports.robustness.html import groups, title
from robustbench_med.reports.robustness.pictures import Picture

WIDTH, HEIGHT, MARGIN = 8.27, 11.69, 0.42
"""Inches of an A4 page, and beside its text."""
SIZES = (8, 7.5, 7, 6.5, 6, 5.5, 5, 4.6)
"""Points of its text; the first that fits is taken."""
LEADING, GAP = 1.28, 0.08
"""Height of a line over its size; inches between columns."""
ROOM = 0.975
"""Share of a line that text may fill: letters of a PDF are a little wider than pixels say."""
BOLD = 1.13
"""Width of bold text over that of other text, about."""
PICTURE = 1.15
"""Inches of a picture's height at most."""
MARK = "medrobust-card:"
TRAILER = b"%medrobust-card sha256 "
KEYWORDS = re.compile(rb"/Keywords \(medrobust-card:([A-Za-z0-9+/=]+)\)")


@lru_cache(maxsize=2**14)
def _unit(text: str) -> float:
    """Inches of a word in one point."""
    return style.inches(text, 10) / 10


def inches(text: str, size: float) -> float:
    """Width of a line, about: the sum of its words', which are measured once for all sizes."""
    words = text.split(" ")
    return size * (sum(map(_unit, words)) + (len(words) - 1) * _unit(" "))


class Page:
    """A page that text flows down, in one size."""

    def __init__(self, size: float) -> None:
        self.size, self.line = size, size * LEADING / 72
        self.figure = style.new(WIDTH, HEIGHT)
        self.figure.set_layout_engine("none")
        self.y = MARGIN
        """Inches from the top."""

    def text(self, x: float, y: float, text: str, *, factor: float = 1, bold: bool = False) -> None:
        """A line with its top at y."""
        weight = "bold" if bold else "normal"
        size = self.size * factor
        self.figure.text(x / WIDTH, 1 - y / HEIGHT, text, va="top", fontsize=size, weight=weight)

    def paragraph(self, x: float, y: float, width: float, text: str, **how: Any) -> float:
        """Wrapped text; where the next line begins."""
        size, shown = self.size * how.get("factor", 1), escaped(text)
        size *= BOLD if how.get("bold") else 1
        for line in style.wrapped(shown, lambda t: inches(t, size) <= width * ROOM).split("\n"):
            self.text(x, y, line, **how)
            y += self.line * how.get("factor", 1)
        return y

    def block(self, x: float, y: float, width: float, block: Mapping[str, Any]) -> float:
        """A block with its title; where the next begins."""
        if block["title"]:
            y += self.line * 0.35
            y = self.paragraph(x, y, width, block["title"], bold=True)
            self.rule(x, y, width)
            y += self.line * 0.2
        if "head" in block:
            y = self.table(x, y, width, [block["head"], *block["rows"]])
        for line in block.get("lines", ()):
            y = self.paragraph(x, y, width, line)
        return y

    def rule(self, x: float, y: float, width: float) -> None:
        """A thin line."""
        line = matplotlib.lines.Line2D(
            [x / WIDTH, (x + width) / WIDTH], [1 - y / HEIGHT] * 2, color="#0072B2", linewidth=0.6
        )
        self.figure.add_artist(line)

    def table(self, x: float, y: float, width: float, rows: Sequence[Sequence[str]]) -> float:
        """Columns as wide as their text, or as their share of it where that is too wide."""
        columns = self.columns(width, rows)
        for number, row in enumerate(rows):
            left, below = x, y
            for cell, room in zip(row, columns, strict=True):
                end = self.paragraph(left, y, room - GAP, cell, bold=number == 0)
                left, below = left + room, max(below, end)
            y = below
        return y

    def columns(self, width: float, rows: Sequence[Sequence[str]]) -> list[float]:
        """Inches of every column with its gap."""
        wanted = [
            max(
                inches(escaped(row[i]), self.size) * (BOLD if number == 0 else 1)
                for number, row in enumerate(rows)
            )
            / ROOM
            + GAP * 1.2
            for i in range(len(rows[0]))
        ]
        room, left, given = width, list(range(len(wanted))), list(wanted)
        while left and sum(wanted[i] for i in left) > room:
            fair = room / len(left)
            fitting = [i for i in left if wanted[i] <= fair]
            if not fitting:
                total = sum(wanted[i] for i in left)
                for i in left:
                    given[i] = room * wanted[i] / total
                break
            room -= sum(wanted[i] for i in fitting)
            left = [i for i in left if i not in fitting]
        return given

    def pictures(self, found: Sequence[Picture]) -> None:
        """Pictures side by side with their captions."""
        self.y = self.block(MARGIN, self.y, WIDTH - 2 * MARGIN, {"title": "Worst images"})
        if not found:
            none = "none: the store holds no images of this victim"
            self.y = self.paragraph(MARGIN, self.y, WIDTH - 2 * MARGIN, none)
            return
        width = (WIDTH - 2 * MARGIN) / len(found) - GAP
        below = self.y
        for i, picture in enumerate(found):
            x = MARGIN + i * (width + GAP)
            tall, wide = picture.image.shape[:2]
            height = min(PICTURE, width * tall / wide)
            box = (x / WIDTH, 1 - (self.y + height) / HEIGHT, height * wide / tall / WIDTH)
            axes = self.figure.add_axes((*box, height / HEIGHT))
            axes.imshow(picture.image, interpolation="nearest", aspect="auto")
            axes.axis("off")
            end = self.paragraph(x, self.y + height + self.line * 0.2, width, picture.caption)
            below = max(below, end)
        self.y = below


def draw(facts: Mapping[str, Any], pictures: Sequence[Picture]) -> Figure:
    """The page, in the largest size that fits.

    Raises:
        UserError: none does.
    """
    for size in SIZES:
        page = Page(size)
        width = WIDTH - 2 * MARGIN
        page.y = page.paragraph(MARGIN, page.y, width, title(facts), factor=1.5, bold=True)
        said = f"Written by medrobust {facts['medrobust']}. A robust accuracy is an upper bound."
        if facts["synthetic"]:
            said += " SYNTHETIC DATA: nothing here is a figure about patients."
        page.y = page.paragraph(MARGIN, page.y, width, said)
        for group in groups(facts["blocks"]):
            room = (width - GAP * (len(group) - 1)) / len(group)
            ends = [
                page.block(MARGIN + i * (room + GAP), page.y, room, block)
                for i, block in enumerate(group)
            ]
            page.y = max(ends)
        page.pictures(pictures)
        if page.y <= HEIGHT - MARGIN:
            return page.figure
    raise UserError(
        f"the card of {facts['victim']} does not fit on one page: shorten what --about says, or"
        " keep fewer data sets in the folder"
    )


def written(facts: Mapping[str, Any], pictures: Sequence[Picture]) -> bytes:
    """The PDF with the facts in its metadata, and its own sha256 behind its end."""
    packed = json.dumps(facts, sort_keys=True, allow_nan=False).encode()
    keywords = MARK + base64.b64encode(zlib.compress(packed, 9)).decode("ascii")
    metadata = {"Title": title(facts), "Keywords": keywords, "Creator": "medrobust"}
    file = io.BytesIO()
    undated = {**metadata, "CreationDate": None, "Producer": None}
    with style.styled(), matplotlib.rc_context({"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # said below, once
        figure = draw(facts, pictures)
        figure.savefig(file, format="pdf", metadata=undated)
    style.check_glyphs("".join(text.get_text() for text in figure.texts))
    body = file.getvalue()
    return body + TRAILER + hashlib.sha256(body).hexdigest().encode() + b"\n"


def facts_of(content: bytes) -> Any:
    """The facts that a PDF holds; None where it holds none."""
    found = KEYWORDS.search(content)
    if found is None:
        return None
    unpacked = zlib.decompressobj().decompress(base64.b64decode(found[1]), 2**26)
    return json.loads(unpacked)


def is_whole(content: bytes) -> bool:
    """Whether a PDF is, byte by byte, what was written."""
    body, mark, digest = content.rpartition(TRAILER)
    return bool(mark) and digest.strip() == hashlib.sha256(body).hexdigest().encode()
