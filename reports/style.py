"""How every figure looks, and how it is written: PNG and SVG, the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from robustbench_med.paths import write_atomically

# Okabe & Ito's palette: told apart by colour-blind readers and in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":", "-.")
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
}


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name, the same in every figure of a store."""
    return {name: (COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]) for i, name in enumerate(sorted(set(names)))}


def outlined(colour: str) -> dict[str, Any]:
    """How a filled point looks where others may lie on it: translucent, with an outline of its own colour, never cut by the axes."""
    return {"facecolors": [(colour, 0.35)], "edgecolors": colour, "linewidths": 1.4, "clip_on": False}


def grid(n: int, *, width: float = 5.2, height: float = 4.4, **subplots: Any) -> tuple[Figure, list[Any]]:
    """A figure of n panels, at most three in a row; the rest of the last row is hidden."""
    columns = min(3, n)
    lines = -(-n // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(width * columns, height * lines), squeeze=False, layout="constrained", **subplots)
    for axis in list(axes.flat)[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat)[:n]


def legend(figure: Figure, axes: Sequence[Any], *, columns: int | None = None) -> None:
    """One legend below all panels, each entry once; two columns a panel fit unless told otherwise."""
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if entries:
        columns = columns or 2 * min(3, len(axes))
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(columns, len(entries)), frameon=False)


def save(figure: Figure, *paths: Path) -> None:
    """Writes the figure in the format of each path's suffix, and closes it."""
    try:
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not once a format
        for path in paths:
            kind = path.suffix[1:]
            metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
            write_atomically(path, lambda temporary, k=kind, m=metadata: figure.savefig(temporary, dpi=150, format=k, metadata=m))  # type: ignore[misc]
    finally:
        plt.close(figure)
