"""How every figure looks, and how it is written: PNG and SVG, the same bytes for the same
records.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from robustbench_med.errors import Notice, UserError
from robustbench_med.formats.text import escaped
from robustbench_med.paths import write_atomically
from robustbench_med.reports.looks import Look

CONTROL_DASH: Final = "--"  # kept for noise controls
FLOOR: dict[str, Any] = {"color": "black", "linestyle": (0, (7, 4)), "linewidth": 1.3}
"""How the constant answer is drawn."""
BANDS = 3
"""Lines with intervals that a panel shows as bands; those of more are bars side by side."""
ASIDE = 4
"""Points between two such bars."""
DPI = 150
HEAT = "cividis"  # the same order of lightness for every kind of colour vision
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "svg.fonttype": "none",  # text stays text: searchable, and to be edited on a slide
    "svg.hashsalt": "medrobust",
    "text.parse_math": False,  # a dollar in a name is one
}
SCRIPTS = (
    *(f"Noto Sans {script}" for script in ("CJK SC", "CJK JP", "SC", "JP", "KR")),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei"),
    *("Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans"),
    *(f"Noto Sans {script}" for script in ("Arabic", "Hebrew", "Devanagari", "Thai")),
    *("Noto Sans", "Arial Unicode MS", "Unifont"),
)
"""Fonts that have what matplotlib's own lacks; of those that are installed."""


ALONE = 8.2
"""Inches of a panel that has no other beside it."""
LINE = 0.19
"""Inches of a line of text."""


def line(axis: Axes, points: pd.DataFrame, look: Look, *, label: str, place: int, of: int) -> None:
    """Points (columns x, value, low, high) as a line with intervals: the `place`th (from 0) of `of`
    in its panel. Of up to BANDS lines they are bands, of more bars, side by side.
    """
    how: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": look.dash}
    if of <= BANDS or points.low.isna().all():
        axis.plot(points.x, points.value, **how, label=label)
        axis.fill_between(
            points.x, points.low, points.high, color=look.colour, alpha=0.15, linewidth=0
        )
        return
    figure: Any = axis.get_figure()
    inches = (place - (of - 1) / 2) * ASIDE / 72
    aside = axis.transData + ScaledTranslation(inches, 0, figure.dpi_scale_trans)
    arms = [(points.value - points.low).clip(0), (points.high - points.value).clip(0)]
    axis.errorbar(
        points.x,
        points.value,
        arms,
        **how,
        label=label,
        elinewidth=1,
        markersize=5,
        transform=aside,
    )


def outlined(colour: str) -> dict[str, Any]:
    """How a filled point looks where others may lie on it: translucent, with an outline of its own
    colour, never cut by the axes.
    """
    return {
        "facecolors": [(colour, 0.35)],
        "edgecolors": colour,
        "linewidths": 1.4,
        "clip_on": False,
    }


def ink(value: float) -> str:
    """Black or white, whichever stands out more on HEAT's colour of a value in 0..1 (WCAG 2.1,
    relative luminance).
    """
    colour = np.array(matplotlib.colormaps[HEAT](value)[:3])
    linear = np.where(colour <= 0.03928, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def styled() -> AbstractContextManager[None]:
    """A context in which figures look like STYLE; behind it matplotlib is as it was."""
    return matplotlib.rc_context({**STYLE, "font.family": fonts()})


@lru_cache
def fonts() -> list[str]:
    """matplotlib's own font, then the installed ones of `SCRIPTS`."""
    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in SCRIPTS if name in installed)]


@lru_cache
def _glyphs() -> frozenset[int]:
    """Characters that one of the fonts has."""
    paths = [fontManager.findfont(FontProperties(family=name)) for name in fonts()]
    return frozenset(code for path in paths for code in get_font(path).get_charmap())


@lru_cache
def _say_missing(characters: str) -> None:
    """Says once that no font has these characters."""
    warnings.warn(
        f"figures show boxes for the characters {escaped(characters)}, which no installed font has;"
        " install one that does, such as Noto Sans CJK, and write the report again",
        Notice,
        stacklevel=2,
    )


class Drawn(Figure):
    """A figure that a notebook shows, whatever its backend."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


def new(width: float, height: float) -> Figure:
    """An empty figure of so many inches that no window of pyplot's knows of."""
    figure = Drawn(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid(
    n: int, *, width: float = 5.2, height: float = 4.4, across: int = 3, **subplots: Any
) -> tuple[Figure, list[Any]]:
    """A figure of n panels, at most `across` in a row; the rest of the last row is hidden.

    Args:
        width, height: inches of a panel with titles of one line; one alone in its row is at least
            ALONE wide.
    """
    columns = min(across, n)
    lines = -(-n // columns)
    size = (width * columns if columns > 1 else max(width, ALONE), height * lines)
    figure = new(*size)
    axes = figure.subplots(lines, columns, squeeze=False, **subplots)
    for axis in list(axes.flat)[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat)[:n]


def panels(
    axes: Sequence[Any] | None, n: int, **how: Any
) -> tuple[Figure, list[Any], Callable[..., None]]:
    """A figure of n panels, and what finishes it: `grid` and `finish`; axes of the user's stay as
    they are, and each gets a legend of its own.

    Raises:
        UserError: another number of axes.
    """
    if axes is None:
        return *grid(n, **how), finish
    if len(axes) != n:
        raise UserError(f"the plot has {n} panels, one a pair of axes; got {len(axes)} axes")
    return axes[0].get_figure(), list(axes), _finish_each


def _finish_each(figure: Figure, axes: Sequence[Any], *_: Any, **__: Any) -> None:
    for axis in axes:
        axis.legend(frameon=False, fontsize="small")


def finish(
    figure: Figure,
    axes: Sequence[Any],
    heading: str = "",
    *,
    margin: float = 1.0,
    also: Mapping[str, Artist] | None = None,
) -> None:
    """Adds a heading over all panels and one legend below them, each entry once, and wraps titles
    to their panels.

    The figure grows by every line of text that a panel of `grid` has no room for, so that axes keep
    their size.

    Args:
        margin: inches of a panel beside its axes.
        also: entries of the legend that no panel has.
    """
    rows, columns = axes[0].get_subplotspec().get_gridspec().get_geometry()
    entries = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    } | dict(also or {})
    added = _legend(figure, entries) if entries else 0.0
    panel, size = figure.get_figwidth() / columns - margin, matplotlib.rcParams["font.size"]
    lines = [0] * rows  # more than one a title and a label
    for axis in axes:
        axis.set_title(wrap(axis.get_title(), panel, size))
        axis.set_xlabel(wrap(axis.get_xlabel(), panel, size))
        axis.set_ylabel(wrap(axis.get_ylabel(), figure.get_figheight() / rows - 1, size))
        row = axis.get_subplotspec().rowspan.start
        ticks = max((label.get_text().count("\n") for label in axis.get_xticklabels()), default=0)
        lines[row] = max(
            lines[row], axis.get_title().count("\n") + axis.get_xlabel().count("\n") + ticks
        )
    added += LINE * sum(lines)
    if heading:
        heading = wrap(heading, figure.get_figwidth() - 0.3, size)
        figure.suptitle(heading, fontsize=size)
        added += LINE * (heading.count("\n") + 1.5)
    figure.set_figheight(figure.get_figheight() + added)


def _legend(figure: Figure, entries: Mapping[str, Artist]) -> float:
    """A legend below the figure in as many columns as fit (one that does not makes the figure
    wider); returns its height in inches.
    """
    size = matplotlib.rcParams["font.size"]
    column = (
        max(inches(label, size) for label in entries) + 5 * size / 72
    )  # handle and gaps: 4.8 times the font's size
    figure.set_figwidth(max(figure.get_figwidth(), column + 0.2))
    columns = min(len(entries), int((figure.get_figwidth() - 0.1) / column))
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False
    )
    return float(-(-len(entries) // columns) * 1.5 * size / 72 + 0.2)


def wrap(text: str, width: float, size: float) -> str:
    """The text with its lines broken so that none is wider than `width` inches at a font size in
    points.
    """
    return wrapped(text, lambda line: inches(line, size) <= width)


def wrapped(text: str, fits: Callable[[str], bool]) -> str:
    """The text with its lines broken so that each fits: between words, within one only where it
    alone is too long.
    """
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in _pieces(paragraph, fits):
            if line and not fits((line + piece).rstrip()):
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def _pieces(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Words; of one too long its parts that end in punctuation; of such a part that is too long its
    characters.
    """
    for word in re.findall(r"[^ ]+ *| +", text):
        for part in (
            [word] if fits(word.rstrip()) else re.findall(r"[^+,=-]+[+,=-]* *|[+,=-]+ *", word)
        ):
            yield from [part] if fits(part.rstrip()) else part


def inches(text: str, size: float) -> float:
    """Width of a line of text as `save` draws it, at a font size in points."""
    with _glyphs_unsaid():
        pixels = _pen().get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(pixels[0]) / DPI


@lru_cache
def _pen() -> Any:
    renderer: Any = RendererAgg  # has no types
    return renderer(1, 1, DPI)


@contextlib.contextmanager
def _glyphs_unsaid() -> Iterator[None]:
    """Without matplotlib's warnings of missing characters: `check_glyphs` says them once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def save(figure: Figure, *paths: Path) -> None:
    """Writes the figure in the format of each path's suffix."""
    with _glyphs_unsaid():
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not once a format
        for path in paths:
            write_atomically(path, partial(_write, figure, path.suffix[1:]))
    check_glyphs("".join(text.get_text() for text in figure.findobj(Text)))


def check_glyphs(text: str) -> None:
    """Says which characters of a text no font has; each set of them once."""
    if missing := sorted(c for c in set(text) if not c.isspace() and ord(c) not in _glyphs()):
        _say_missing("".join(missing))


def font_of(text: str) -> str:
    """The file of the font that has most characters of a text, matplotlib's own where others have
    no more.
    """
    paths = [fontManager.findfont(FontProperties(family=name)) for name in fonts()]
    return max(
        paths, key=lambda path: len(set(map(ord, text)) & get_font(path).get_charmap().keys())
    )


def _write(figure: Figure, kind: str, path: Path) -> None:
    """Writes a figure without the hour and the program's version: the same bytes every time."""
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
    }
    figure.savefig(path, dpi=DPI, format=kind, metadata=metadata[kind])
    if kind == "svg":  # XML holds no control characters
        text = path.read_text(encoding="utf-8")
        path.write_text(escaped(text, keep="\n\t"), encoding="utf-8")


LARGEST_AREA = 420
UNKNOWN_AREA = 60
"""Of a point, in square points."""


def area(gflops: float, largest: float) -> float:
    """The area of a point that stands for FLOPs: a hundredth of them has a hundredth of it, those
    of a black box, which nobody knows (0), `UNKNOWN_AREA`.

    Args:
        largest: GFLOPs of the largest point.
    """
    return LARGEST_AREA * gflops / largest if gflops else UNKNOWN_AREA
