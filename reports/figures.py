"""All figures of a store, as PNG and SVG, one file a question and setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from robustbench_med.paths import writable_folder
from robustbench_med.reports import certified, curves, floors, looks, plots, style
from robustbench_med.reports.breakdowns import MATRIX
from robustbench_med.reports.families import variants
from robustbench_med.reports.tables import named
from robustbench_med.store.record import CONTROL, Record


def write(
    records: Sequence[Record],
    frames: Mapping[str, pd.DataFrame],
    folder: Path,
    names: Mapping[str, str],
) -> list[Path]:
    """Writes QUESTION-SETTING.png and .svg for everything the records can answer; returns the PNGs'
    paths.

    Args:
        frames: the tables by name, as `write.frames` makes them of these records and
            `certified.frames` of certificates.
        names: `families.variants` that the frames were made with.
    """
    return save(draw(records, frames, names), folder)


def save(drawn: Iterable[tuple[str, Figure]], folder: Path, question: str = "") -> list[Path]:
    """Writes [QUESTION-]NAME.png and .svg of each figure; returns the PNGs' paths."""
    writable_folder(folder)
    written = []
    with style.styled():
        for name, figure in drawn:
            path = folder / f"{question}{'-' * bool(question)}{name}.png"
            style.save(figure, path, path.with_suffix(".svg"))
            written.append(path)
    return written


def draw(
    records: Sequence[Record],
    frames: Mapping[str, pd.DataFrame],
    names: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Figure]]:
    """Names and figures, one after another; each says so where it leaves victims out; `names`:
    `families.variants` that the frames were made with, None: those of these records.
    """
    if records:
        yield from _measured(records, frames, variants(records) if names is None else names)
    if not frames["certified"].empty:
        for key, group in frames["certified"].groupby(["data", "size"], sort=True):
            yield f"certified-accuracy-{plots.slug(key)}", certified.figure(group)


def _measured(
    records: Sequence[Record], frames: Mapping[str, pd.DataFrame], names: Mapping[str, str]
) -> Iterator[tuple[str, Figure]]:
    """Figures of what attacks did."""
    board, classes, crossed = (
        named(frames["cells"]),
        named(frames["per_class"]),
        frames["cross_modal"],
    )
    look = looks.looks(board.model)
    one_modality = board.trusted.map(bool) & ~board.is_joint
    for key, group in board[~one_modality].groupby(plots.SETTING, sort=True):
        name = plots.slug(key)
        by_area = group[group.auc.notna() & group.floor.map(floors.is_multilabel)]
        if len(by_area):
            yield f"robust-auc-{name}", curves.radius_figure(by_area, look, "auc")
        yield f"robust-accuracy-{name}", curves.radius_figure(group, look)
        if any(map(floors.is_imbalanced, group.floor)):
            balanced = curves.radius_figure(group, look, "balanced_accuracy")
            yield f"robust-balanced-accuracy-{name}", balanced
        yield f"heat-map-{name}", plots.heat_map(group)
        for question, figure in (
            ("clean-robust", plots.pareto(group, look)),
            ("eot", curves.eot(group, look)),
        ):
            if figure is not None:
                yield f"{question}-{name}", figure
    if not classes.empty:
        attacked = classes[(classes.attack != CONTROL) & ~classes.trusted.map(bool)]
        for key, group in attacked.groupby(
            ["data", "size", "samples", "norm", "target", "protocol"], sort=True
        ):
            yield f"per-class-{plots.slug(key)}", plots.per_class(group, look)
    for name, figure in cross_modal(crossed):
        yield f"cross-modal-{name}", figure
    for name, figure in curves.minimal_norms(records, look, names):
        yield f"minimal-norm-{name}", figure
    for name, figure in curves.convergence(records, look, names):
        yield f"convergence-{name}", figure


def write_cross_modal(crossed: pd.DataFrame, out: Path) -> None:
    """Writes cross_modal.png beside its table, or cross_modal-SETTING.png each where there are
    several; removes what no longer is.
    """
    stale = {out / "cross_modal.png", *out.glob("cross_modal-*.png")}
    with style.styled():
        drawn = dict(cross_modal(crossed))
        for name, figure in drawn.items():
            path = out / ("cross_modal.png" if len(drawn) == 1 else f"cross_modal-{name}.png")
            style.save(figure, path)
            stale.discard(path)
    for path in stale:
        path.unlink(missing_ok=True)


def cross_modal(crossed: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """A heat map a setting of the cross-modal table, by the setting's name; of several settings of
    an attack the strongest counts.
    """
    if crossed.empty:
        return
    crossed = named(crossed)
    strongest = (
        crossed[crossed.attack != CONTROL]
        .sort_values("robust", kind="stable")
        .drop_duplicates([*MATRIX, "modality", "task"])
        .sort_index()
    )
    for key, group in strongest.groupby(["data", "size", "n", "norm", "protocol"], sort=True):
        yield plots.slug(key), plots.cross_modal(group)
