"""Certified accuracy against radius: tables and figures out of the certificates of a store."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from robustbench_med.naming import nature
from robustbench_med.paths import write_text
from robustbench_med.reports import looks, style
from robustbench_med.reports.families import groups_of, variants, victim_name
from robustbench_med.reports.floors import CONSTANT
from robustbench_med.reports.paper import TRIVIAL, Column, Table, TableCell, data_name
from robustbench_med.reports.tables import csv, each
from robustbench_med.statistics import effective_n, wilson
from robustbench_med.store.store import CERTIFICATES, Certificate, Store

STEP = 0.01
"""Between the radii of a curve: the same ones for every noise, so that curves can be compared and
averaged.
"""
SHOWN = 5
"""Radii a printed table has columns for, besides 0."""
CASE = ["data", "size", "task", "n", "n0", "draws", "alpha"]
"""Curves that agree in these stand in one table."""
FIGURE = "certified.png"


def write(out: Path) -> None:
    """Writes certified.csv, certified_tasks.csv and certified.png of all certificates in a
    folder.
    """
    by_name = frames(Store(out, CERTIFICATES))
    for name, frame in by_name.items():
        write_text(out / f"{name}.csv", csv(frame))
    draw(by_name["certified"], out / FIGURE)


def draw(curves: pd.DataFrame, path: Path) -> None:
    """`figure` as a file."""
    with style.styled():
        style.save(figure(curves), path)


def frames(store: Store[Certificate]) -> dict[str, pd.DataFrame]:
    """The tables by name, as columns.py describes them: joint certificates first, then those of one
    modality alone.
    """
    certificates = sorted(store.records(), key=_place)
    return {
        "certified_tasks": pd.DataFrame(by_task(certificates)),
        "certified": curves(certificates, store),
    }


def curves(certificates: Sequence[Certificate], store: Store[Certificate]) -> pd.DataFrame:
    """A row a certificate, task and radius: the table certified.csv."""
    names, rows = variants(certificates), []
    for certificate in sorted(certificates, key=_place):
        rows += curve(certificate, store, names[certificate.hash])
    return pd.DataFrame(rows)


def _place(certificate: Certificate) -> tuple[Any, ...]:
    spec, smoothing = certificate.spec, certificate.spec.certificate
    where = (
        spec.data.name,
        spec.data.size,
        -len(smoothing.noised),
        smoothing.noised,
        spec.victim.model,
        smoothing.sigma,
    )
    seed = spec.victim.train_seed
    return (*where, -1 if seed is None else seed, spec.seed, certificate.hash)


def _key(certificate: Certificate, variant: str) -> dict[str, Any]:
    spec, smoothing = certificate.spec, certificate.spec.certificate
    return {
        "model": spec.victim.model,
        "data": spec.data.label,
        "synthetic": certificate.synthetic,
        "size": spec.data.size,
        "noised": certificate.noised,
        "alone": certificate.alone,
        "sigma": smoothing.sigma,
        "n0": smoothing.n0,
        "draws": smoothing.n,
        "alpha": smoothing.alpha,
        "train_seed": spec.victim.train_seed,
        "seed": spec.seed,
        "checkpoint": spec.victim.checkpoint,
        "variant": variant,
    }


def by_task(certificates: Sequence[Certificate]) -> list[dict[str, Any]]:
    """One row a certificate and task: share abstained, certified accuracy at radius 0, average
    radius (0 where wrong or abstained).
    """
    names, rows = variants(certificates), []
    for certificate in certificates:
        for figures in certificate.figures:
            low, high = wilson(figures.certified_accuracy, figures.independent)
            rows.append(
                {
                    **_key(certificate, names[certificate.hash]),
                    "task": figures.task,
                    "n": figures.n,
                    "n_distinct": figures.n_distinct,
                    "n_groups": figures.n_groups,
                    "n_effective": figures.n_effective,
                    "abstained": figures.abstained,
                    "certified_accuracy": figures.certified_accuracy,
                    "average_radius": figures.average_radius,
                    "largest_radius": figures.largest_radius,
                    "trivial": figures.trivial,
                    "certified_low": low,
                    "certified_high": high,
                }
            )
    return rows


def curve(
    certificate: Certificate, store: Store[Certificate], variant: str
) -> list[dict[str, Any]]:
    """One row a task and radius: share of samples certified right at this L2 radius, with Wilson's
    interval on the effective number.

    Radii go up to the first that n draws cannot certify, whatever they say.
    """
    arrays, smoothing = store.arrays(certificate), certificate.spec.certificate
    # n of n draws: the bound is alpha^(1/n)
    largest = max(smoothing.sigma * float(ndtri(smoothing.alpha ** (1 / smoothing.n))), 0.0)
    rows = []
    for t, figures in enumerate(certificate.figures):
        known = arrays["labels"][:, t] >= 0
        right = (arrays["predicted"][:, t] == arrays["labels"][:, t])[known]
        groups = groups_of(arrays, t)
        counts = np.bincount(arrays["labels"][known, t])
        constant = float(counts.max() / counts.sum())
        for radius in np.round(np.arange(math.ceil(largest / STEP) + 1) * STEP, 6):
            certified = (right & (arrays["radius"][known, t] > radius)).astype(float)
            share, n = float(certified.mean()), float(figures.n_distinct)
            if groups is not None:
                n = min(effective_n(certified, groups[known]), n)
            low, high = wilson(share, n)
            rows.append(
                {
                    **_key(certificate, variant),
                    "task": figures.task,
                    "n": figures.n,
                    "radius": float(radius),
                    "certified": share,
                    "certified_low": low,
                    "certified_high": high,
                    "constant": constant,
                    "trivial": bool(figures.trivial),
                }
            )
    return rows


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column `victim`: the model, and what tells it from others of its name and noise."""
    return frame.assign(
        victim=[
            victim_name(model, variant)
            for model, variant in zip(frame.model, frame.variant, strict=True)
        ]
    )


def figure(curves: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> Figure:
    """A panel a data set, task and choice of noised modalities, all noise levels in it; means over
    seeds.

    Args:
        axes: of a figure of the user's, one a panel; None: a new figure.
    """
    curves = _named(curves).assign(
        line=lambda f: f.victim + ", sigma = " + f.sigma.map("{:g}".format)
    )
    panels = sorted(
        curves.groupby([*CASE, "noised"], sort=False), key=lambda panel: panel[0][:-1]
    )  # stable: joint before alone
    look = looks.looks(curves.line)
    drawn, axes, finish = style.panels(axes, len(panels), width=5.6, height=4.6)
    for axis, ((data, _, task, n, n0, draws, alpha, noised), group) in zip(
        axes, panels, strict=True
    ):
        lines = list(group.groupby("line", sort=True))
        for place, (name, line) in enumerate(lines):
            _steps(axis, line, look[str(name)], str(name), place=place, of=len(lines))
        for level in sorted(set(group.constant)):
            axis.axhline(level, **style.FLOOR, label=CONSTANT, zorder=1.5)
        kind = nature(str(data), synthetic=bool(group.synthetic.any()))
        alone = group.alone.iloc[0]
        trivial = [str(name) for name, line in lines if line.trivial.any()]
        worthless = f"\n{TRIVIAL} no better than a constant: {'; '.join(trivial)}"
        axis.set(
            title=(
                f"{data}{kind}, noise on {noised}\n{task}, {n} samples\nn0 = {n0}, n ="
                f" {draws}, alpha = {alpha:g}{worthless if trivial else ''}"
            ),
            xlabel=f"L2 radius, pixels in 0..1, {f'of {alone}' if alone else 'joint'}",
            ylabel="certified accuracy",
            ylim=(-0.02, 1.02),
        )
    finish(drawn, axes)
    return drawn


def _steps(
    axis: Axes, line: pd.DataFrame, look: looks.Look, name: str, *, place: int, of: int
) -> None:
    """A curve as steps with its intervals: bands, or bars at some radii where many share a
    panel.
    """
    mean = line.groupby("radius")[["certified", "certified_low", "certified_high"]].mean()
    x, every = mean.index.to_numpy(), max(1, len(mean) // 8)
    how: dict[str, Any] = {"color": look.colour, "drawstyle": "steps-post"}
    how |= {"marker": look.marker, "markersize": 5, "linestyle": look.dash, "label": name}
    if of <= style.BANDS:
        axis.plot(x, mean.certified, markevery=every, **how)
        band: dict[str, Any] = {"color": look.colour, "alpha": 0.15, "linewidth": 0}
        axis.fill_between(x, mean.certified_low, mean.certified_high, step="post", **band)
        return
    at = slice(place * every // of, None, every)
    axis.plot(x, mean.certified, markevery=at, **how)
    some = mean.iloc[at]
    arms = [some.certified - some.certified_low, some.certified_high - some.certified]
    axis.errorbar(x[at], some.certified, arms, fmt="none", ecolor=look.colour, elinewidth=1)


def tables(curves: pd.DataFrame, tasks: pd.DataFrame) -> Iterator[Table]:
    """A table a data set and task: victims with each noise down, L2 radii across; means over seeds.

    Rows of different noised modalities bound different changes, so none is marked the best.
    """
    keys = ["victim", "sigma", "noised"]
    of_task = dict(list(_named(tasks).groupby(CASE, sort=True)))
    for case, group in _named(curves).groupby(CASE, sort=True):
        _, size, task, n, n0, draws, alpha = case
        radii = _round_radii(float(group.radius[group.certified > 0].max()))
        at = (
            group.groupby([*keys, "radius"])[["certified", "certified_low", "certified_high"]]
            .mean()
            .to_dict("index")
        )
        known = of_task[case]
        trivial = set(known[known.trivial.notna()][keys].itertuples(index=False, name=None))
        means = (
            known.groupby(keys, sort=False)[["abstained", "certified_accuracy", "average_radius"]]
            .mean()
            .reset_index()
        )
        rows = _rows(means, at, trivial, radii)
        for level in sorted(set(group.constant)):
            blank = [TableCell("-"), TableCell("-"), TableCell(0.0)]
            beyond = TableCell(None)  # a constant answer holds at every radius
            rows.append([TableCell(CONSTANT), *blank, *[TableCell(level)] * len(radii), beyond])
        first: Any = group.iloc[0]
        caption = (
            f"Certified accuracy on {data_name(first)}, {size} px, task {task}, by L2 radius over"
            " all modalities jointly, or over one "
        )
        caption += (
            f"alone with the others trusted; n = {n}, n0 = {n0}, {draws} draws, alpha = {alpha:g}"
        )
        headings = [
            "victim",
            "sigma",
            "noise on",
            "abstained",
            *(f"radius {radius:g}" for radius in radii),
            "mean radius",
        ]
        yield Table("certified", caption, [Column(heading) for heading in headings], rows)


def _rows(
    means: pd.DataFrame,
    at: Mapping[Any, Mapping[Any, Any]],
    trivial: Collection[tuple[Any, ...]],
    radii: Sequence[float],
) -> list[list[TableCell]]:
    """A row a victim, noise and choice of noised modalities.

    Args:
        at: certified accuracy with its interval by victim, sigma, noised modalities and radius.
        trivial: the first three of those that are no better than a constant.
    """
    rows = []
    for row in each(means):
        mark = TRIVIAL if (row.victim, row.sigma, row.noised) in trivial else ""
        cells = [
            TableCell(row.victim, mark=mark),
            TableCell(f"{row.sigma:g}"),
            TableCell(row.noised),
            TableCell(row.abstained),
        ]
        for radius in radii:
            share = at.get((row.victim, row.sigma, row.noised, radius))
            if share is None:  # beyond what the draws can certify
                cells.append(TableCell(0.0))
            else:
                cells.append(
                    TableCell(
                        share["certified"],
                        (share["certified_low"], share["certified_high"]),
                    )
                )
        rows.append([*cells, TableCell(row.average_radius)])
    return rows


def _round_radii(largest: float) -> list[float]:
    """0 and up to SHOWN round radii, the largest certified one among or just beyond them."""
    step = next(
        (s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if largest <= SHOWN * s), 10.0
    )
    return [round(k * step, 6) for k in range(SHOWN + 1) if k == 0 or (k - 1) * step < largest]
