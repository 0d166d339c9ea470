"""Curves: accuracy against radius and against EOT draws, minimal norms, the attack's loss by its
steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from robustbench_med.reports import looks, style
from robustbench_med.reports.families import variants
from robustbench_med.reports.floors import Drawn
from robustbench_med.reports.plots import (
    SETTING,
    Looks,
    describe,
    draw_floor,
    leading,
    naive_text,
    sentences,
    slug,
    trusted_text,
)
from robustbench_med.reports.tables import by_engine, cells, named, ranked
from robustbench_med.store.record import CONTROL, Record

Y_LABELS: Mapping[Drawn, str] = {
    "robust": "accuracy (mean over attacked tasks)",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC (mean over attacked findings)",
}


def robust_against_radius(records: Sequence[Record], path: Path) -> None:
    """`radius_figure` of all records as a file."""
    joint = [record for record in records if not record.cross_modal]
    joint = joint or list(records)  # the others have a figure of their own
    names = variants(records)
    board = named(cells(joint, names))
    everybody = board if len(joint) == len(records) else named(cells(records, names))
    with style.styled():
        style.save(radius_figure(board, looks.looks(everybody.model)), path)


def radius_figure(
    board: pd.DataFrame,
    look: Looks,
    shown: Drawn = "robust",
    *,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Robust accuracy against radius, from rows of the cells.

    One panel a data set, norm, protocol and attack; one line a victim with Wilson 95 % intervals;
    its noise control thin and dashed; the constant answer dashed across. The point at radius 0 is
    clean accuracy. Where modalities have different radii the axis shows the largest.

    Args:
        shown: robust accuracy, or robust balanced accuracy or AUC, which have no intervals.
        axes: of a figure of the user's, one a panel; None: a new figure.
    """
    board, kept = leading(board)
    points = _points(board, shown)
    panels = sorted(
        {(str(p), str(a)) for p, a in zip(points.panel, points.attack, strict=True) if a != CONTROL}
    )
    panels = panels or [(str(points.panel.iloc[0]), CONTROL)]
    figure, axes, finish = style.panels(axes, len(panels), sharey=True)
    for axis, (panel, attack) in zip(axes, panels, strict=True):
        mine = points[points.panel == panel]
        _panel(axis, mine, attack, look)
        draw_floor(axis, mine, shown)
    for axis in axes[::3]:
        axis.set_ylabel(Y_LABELS[shown])
    attacked = {panel for panel, attack in panels if attack != CONTROL}
    controlled = points.panel[points.attack == CONTROL].isin(attacked).any()
    grey = Line2D([], [], linestyle=style.CONTROL_DASH, color="0.4", linewidth=1)
    finish(figure, axes, kept, also={"noise control of each": grey} if controlled else None)
    return figure


def _panel(axis: Axes, points: pd.DataFrame, attack: str, look: Looks) -> None:
    models = sorted(set(points.model))
    for place, model in enumerate(models):
        for name in dict.fromkeys((attack, CONTROL)):
            line = points[(points.model == model) & (points.attack == name)].sort_values(
                ["radius", "value"]
            )
            if line.empty:
                continue
            line = line.drop_duplicates("radius")  # of several settings of an attack the strongest
            line = pd.concat(
                [
                    line.iloc[:1].assign(
                        radius=0.0, value=line.before, low=line.before_low, high=line.before_high
                    ),
                    line,
                ]
            )
            if name == attack:
                drawn = line.rename(columns={"radius": "x"})
                style.line(axis, drawn, look[model], label=model, place=place, of=len(models))
            else:
                axis.plot(
                    line.radius,
                    line.value,
                    color=look[model].colour,
                    linestyle=style.CONTROL_DASH,
                    linewidth=1,
                    alpha=0.7,
                )
    first: Any = points.iloc[0]
    flattered = naive_text(points[points.attack == attack])
    axis.set_title(f"{attack} on {first.panel}{flattered}")
    axis.set_xlabel(
        f"{first.norm} radius" + (" (grey levels of 255)" if first.norm == "Linf" else "")
    )
    axis.set_ylim(0, 1.03)


def _points(board: pd.DataFrame, shown: Drawn) -> pd.DataFrame:
    """The cells with what the radius figure needs: panel, radius on its axis, and the figure
    that is shown, `before` the attack and after it, with intervals where it has any.
    """
    titles, radii, attacks = [], [], []
    for _, row in board.iterrows():
        titles.append(describe(row, trusted_text(row)).replace(", ", "\n", 1))
        radii.append(row.eps_value * (255 if row.norm == "Linf" else 1))
        attacks.append(by_engine(row.attack, row.engine))
    points = board.assign(panel=titles, radius=radii, attack=attacks)
    if shown != "robust":
        return points.assign(
            value=board[shown],
            before=board[f"clean_{shown}"],
            **dict.fromkeys(("low", "high", "before_low", "before_high"), np.nan),
        )
    return points.assign(
        value=board.robust,
        low=board.robust_low,
        high=board.robust_high,
        before=board.clean,
        before_low=board.clean_low,
        before_high=board.clean_high,
    )


def eot(group: pd.DataFrame, look: Looks) -> Figure | None:
    """Robust accuracy against the draws per gradient, a panel an attack and radius, a line a random
    victim; needs two numbers of draws.
    """
    group = group[(group.draws > 1) & group.eot.notna()]
    group = group[
        group.groupby(["model", "attack", "engine", "eps", "settings"]).eot.transform("nunique") > 1
    ]
    if group.empty:
        return None
    group, kept = leading(group)
    panels = list(group.groupby(["attack", "engine", "eps"], sort=True))
    figure, axes = style.grid(len(panels), sharey=True)
    for axis, ((attack, engine, eps), lines) in zip(axes, panels, strict=True):
        curves = list(lines.groupby(["model", "settings"], sort=True))
        for place, ((model, _), mine) in enumerate(curves):
            mine = mine.sort_values("eot").drop_duplicates("eot")
            drawn = mine.assign(
                x=mine.eot, value=mine.robust, low=mine.robust_low, high=mine.robust_high
            )
            name = str(model)
            style.line(axis, drawn, look[name], label=name, place=place, of=len(curves))
        draw_floor(axis, lines)
        draws = sorted({int(n) for n in lines.eot})
        axis.set_xscale("log", base=2)
        axis.set_xticks(draws, draws)
        axis.minorticks_off()
        axis.set(
            ylim=(0, 1.03),
            xlabel="EOT draws per gradient",
            title=f"{by_engine(str(attack), str(engine))} {eps}",
        )
    for axis in axes[::3]:
        axis.set_ylabel("robust accuracy")
    style.finish(figure, axes, sentences(describe(group.iloc[0]), kept))
    return figure


def minimal_norms(
    records: Sequence[Record], look: Looks, names: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Figure]]:
    """Robust accuracy against the size of the smallest perturbation found, a figure a setting, from
    minimal-norm attacks.
    """
    searched = [record for record in records if record.figures.minimal_norm is not None]
    for key, members in by_setting(searched, names):
        shown, kept = leading(pd.DataFrame([row for _, row in members]))
        members = [(family, row) for family, row in members if row.model in set(shown.model)]
        figure, (axis,) = style.grid(1, height=4.6)
        once = {
            (row.model, row.checkpoint, row.attack, row.engine): (family[0], row)
            for family, row in members
        }  # radii share one search
        attacks = sorted({row.attack for _, row in members})
        for record, row in once.values():
            how = _line(look[row.model], attacks, row.attack)
            _draw_norms(axis, record, f"{row.model}, {row.attack}", how)
        draw_floor(axis, shown)
        axis.set(ylim=(0, 1.03), ylabel="robust accuracy")
        norm = str(members[0][1].norm)
        axis.set_xlabel(
            f"{norm} size of the smallest perturbation found"
            f" ({'places' if norm.startswith('L0') else 'pixels in 0..1'})"
        )
        style.finish(figure, [axis], sentences(describe(members[0][1]), kept))
        yield slug(key), figure


def _draw_norms(axis: Axes, record: Record, label: str, how: Mapping[str, Any]) -> None:
    """The curve of one record of a minimal-norm attack."""
    minimal = record.figures.minimal_norm
    if minimal is None:
        return
    radius, robust = zip(*minimal.curve, strict=True)
    median = "" if minimal.median is None else f", median {minimal.median:.3g}"
    quartiles = [size for size in minimal.quartiles or () if size is not None]
    if median and len(quartiles) == 2:
        median += f" (quartiles {quartiles[0]:.3g}, {quartiles[1]:.3g})"
    every = max(1, len(radius) // 8)
    steps: dict[str, Any] = {"drawstyle": "steps-post", "markevery": every}
    axis.plot(radius, robust, **how, **steps, label=label + median)


def convergence(
    records: Sequence[Record], look: Looks, names: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Figure]]:
    """Attack loss before each step, a figure a setting, a panel an objective and radius, one line a
    model and attack.

    A curve that still rises at its end belongs to an attack that needs more steps. Means over seeds
    and folds; of several settings of an attack the strongest.
    """
    stepped = [r for r in records if r.figures.attack_loss and not r.cross_modal]
    for key, members in by_setting(stepped, names):
        rows, kept = leading(pd.DataFrame([row for _, row in members]))
        shown = set(rows.model)
        lines: dict[tuple[Any, ...], list[Record]] = {}
        for family, row in sorted(members, key=lambda member: member[1].robust):
            if row.model in shown:
                panel = objective(family[0]), row.eps_value, row.eps
                lines.setdefault((panel, row.model, row.checkpoint, row.attack), family)
        panels, attacks = sorted({line[0] for line in lines}), sorted({line[3] for line in lines})
        figure, axes = style.grid(len(panels))
        for (panel, model, _, attack), family in sorted(lines.items(), key=lambda item: item[0]):
            losses = np.mean([np.array(r.figures.attack_loss, float) for r in family], 0)
            how = _line(look[model], attacks, attack) | {
                "markersize": 5,
                "markevery": max(1, len(losses) // 8),
            }
            axes[panels.index(panel)].plot(losses, **how, label=f"{model}, {attack}")
        for axis, (loss, _, eps) in zip(axes, panels, strict=True):
            axis.set(title=f"{loss}, {eps}", xlabel="steps taken")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axis in axes[::3]:
            axis.set_ylabel("attack loss (sum over attacked tasks)")
        title = "attack loss of the first run (restart, target, member), mean over attacked samples"
        style.finish(figure, axes, sentences(title, describe(members[0][1]), kept))
        yield slug(key), figure


def _line(look: looks.Look, attacks: Sequence[str], attack: str) -> dict[str, Any]:
    """How a line is drawn where several attacks may share a panel: the victim by colour and marker,
    then the attack by dash.
    """
    dash = (
        look.dash if len(attacks) == 1 else looks.DASHES[attacks.index(attack) % len(looks.DASHES)]
    )
    return {"color": look.colour, "marker": look.marker, "linestyle": dash}


def objective(record: Record) -> str:
    """What an attack's first run ascends; `apgd-t` and `malt` have their own, autoattack begins
    with cross-entropy.
    """
    attack = record.spec.attack
    loss = attack.params.get("loss", "ce")
    if attack.name == "apgd-t":
        loss = "dlr towards the likeliest wrong class"
    if attack.name == "malt":
        loss = "dlr towards the nearest wrong class"
    return f"{loss}{' towards the target' if record.spec.threat.target else ''}"


def by_setting(
    records: Sequence[Record], names: Mapping[str, str] | None
) -> list[tuple[tuple[Any, ...], list[tuple[list[Record], pd.Series]]]]:
    """Families of records and their rows of the cells, best first, by what a figure must not
    mix.
    """
    board, members = ranked(records, names)
    board = named(board)
    settings: dict[tuple[Any, ...], list[tuple[list[Record], pd.Series]]] = {}
    for (_, row), family in zip(board.iterrows(), members, strict=True):
        settings.setdefault(tuple(row[SETTING]), []).append((family, row))
    return sorted(settings.items())
