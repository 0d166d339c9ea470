"""Figures out of the cells that are no curves: clean against robust, heat maps, classes; and
what all figures share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_med.naming import nature
from robustbench_med.reports import floors, looks, style
from robustbench_med.reports.floors import Drawn
from robustbench_med.reports.marks import flops
from robustbench_med.reports.paper import NAIVE
from robustbench_med.reports.tables import by_engine, each, victim_names
from robustbench_med.store.record import CONTROL

SETTING = ["data", "size", "n", "norm", "target", "protocol"]
MODELS = 12
"""Victims a figure shows at most."""
Looks = Mapping[str, looks.Look]
FLOOR_LABEL = "most frequent class"
"""What legends and small heat maps call the constant answer."""


def leading(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of as many victims as a reader can tell apart, and a sentence if that left any out.

    Undefended victims come first, then others, in the order of their robustness, by balanced
    accuracy where a task's classes are imbalanced, those that never rise above the constant answer
    last; that under the release protocol only where there is no other. Victims whose attack was
    unaware of their defence would take the places of those attacked in earnest: they are left out,
    unless there are no others.
    """
    sentences = []
    if rows.is_unaware.any() and not rows.is_unaware.all():
        names = rows.model[rows.is_unaware].nunique()
        rows = rows[~rows.is_unaware]
        sentences.append(f"{names} victim{'s' * (names > 1)} under an unaware attack left out")
    attacked = rows[rows.attack != CONTROL]
    means, sound = (
        _robustness(frame) for frame in (attacked, attacked[attacked.protocol != "release"])
    )
    models = list(sound.combine_first(means).sort_values(ascending=False, kind="stable").index)
    if len(models) > MODELS:
        undefended = set(rows.model[~rows.is_defended])
        plain = [model for model in models if model in undefended]
        shown = (plain + [model for model in models if model not in plain])[:MODELS]
        which = (
            "most robust undefended"
            if len(plain) >= MODELS
            else "undefended and most robust"
            if plain
            else "most robust"
        )
        sentences.insert(
            0, f"{MODELS} of {len(models)} victims: the {which} (mean over attacks and radii)"
        )
        rows = rows[rows.model.isin(shown)]
    return rows, "; ".join(sentences)


def _robustness(rows: pd.DataFrame, name: str = "model") -> pd.Series:
    """What the place of each model (or other name of a victim) among others is judged by; below
    all others where no row is above the constant answer.
    """
    figure = "robust"
    if "balanced_accuracy" in rows and any(map(floors.is_imbalanced, rows.floor)):
        figure = "balanced_accuracy"
    by_model = rows.groupby(name)
    return by_model[figure].mean() - by_model.is_below_floor.all()


def draw_floor(axis: Axes, rows: pd.DataFrame, figure: Drawn = "robust") -> None:
    """A dashed line where the constant answer of these rows lies, by robust accuracy, robust
    balanced accuracy or robust AUC.
    """
    name = "accuracy" if figure == "robust" else figure
    for level in sorted({getattr(floor, name) for floor in rows.floor.dropna()}):
        axis.axhline(level, **style.FLOOR, label=FLOOR_LABEL, zorder=1.5)


def pareto(group: pd.DataFrame, look: Looks) -> Figure | None:
    """Clean against robust accuracy under the strongest attack, a panel a radius; the area of a
    point is its FLOPs.
    """
    group, kept = leading(group)
    group = group[group.attack != CONTROL]
    if group.empty:
        return None
    group = (
        group.sort_values("robust", kind="stable").groupby(["model", "checkpoint", "eps"]).head(1)
    )
    radii = list(dict.fromkeys(group.sort_values(["eps_value", "eps"]).eps))
    figure, axes = style.grid(len(radii), sharey=True)
    largest = group.gflops.max()
    for axis, eps in zip(axes, radii, strict=True):
        points = group[group.eps == eps]
        for row in each(
            points.sort_values("gflops", ascending=False, kind="stable")
        ):  # small points over large ones
            bars = {"xerr": _error(row, "clean"), "yerr": _error(row, "robust")}
            colour, marker, _, _ = look[row.model]
            axis.errorbar(row.clean, row.robust, **bars, color=colour, alpha=0.35, linewidth=1)
            area = style.area(row.gflops, largest)
            axis.scatter(
                row.clean, row.robust, area, marker=marker, **style.outlined(colour), zorder=3
            )
            axis.plot(
                [],
                [],
                color=colour,
                marker=marker,
                linestyle="",
                label=f"{row.model} ({flops(row.gflops)})",
            )
        axis.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":")
        draw_floor(axis, points)
        axis.set(
            xlim=(0, 1.03),
            ylim=(0, 1.03),
            xlabel="clean accuracy",
            title=f"strongest attack at {eps}{naive_text(points)}",
        )
    for axis in axes[::3]:
        axis.set_ylabel("robust accuracy")
    style.finish(
        figure,
        axes,
        sentences("clean and robust accuracy, area = FLOPs", describe(group.iloc[0]), kept),
    )
    return figure


def _error(row: Any, figure: str) -> list[list[float]]:
    """Lengths of an interval's arms, rounding below 0 taken out."""
    value = getattr(row, figure)
    return [
        [max(value - getattr(row, f"{figure}_low"), 0)],
        [max(getattr(row, f"{figure}_high") - value, 0)],
    ]


def heat_map(group: pd.DataFrame) -> Figure:
    """Robust accuracy, all victims down, the most robust first, attacks and radii across, written
    into the cells.
    """
    group = group.assign(victim=victim_names(group), control=group.attack != CONTROL)
    group = group.sort_values(
        ["eps_value", "eps", "control", "attack", "engine", "robust"], kind="stable"
    )
    group = group.assign(column=[f"{by_engine(r.attack, r.engine)}\n{r.eps}" for r in each(group)])
    columns = list(dict.fromkeys(group.column))
    attacked = group[group.attack != CONTROL]
    judged = _robustness(attacked, "victim").sort_values(ascending=False, kind="stable")
    victims = list(dict.fromkeys([*judged.index, *group.victim]))
    once = group.drop_duplicates(["victim", "column"])

    def across(figure: str) -> pd.DataFrame:
        return once.pivot(index="victim", columns="column", values=figure).loc[victims, columns]

    values, naive = across("robust"), across("is_naive")
    clean = group.drop_duplicates("victim").set_index("victim").clean.loc[victims]
    values.insert(0, "clean", clean)
    for floor in each(floors.rows(group)):
        values.loc[floor.model] = floor.robust
    marks = naive.where(naive.notna(), False).astype(bool)
    title = f"robust accuracy\n{describe(group.iloc[0])}"
    if marks.to_numpy().any():
        title += f"\n{NAIVE} naive: an over-estimate"
    return matrix(values, title, marks)


def cross_modal(group: pd.DataFrame) -> Figure:
    """Robust accuracy by attacked modality and task, a panel a victim."""
    group, kept = leading(group)
    keys = list(group.groupby(["model", "checkpoint", "attack", "engine", "eps"], sort=True))
    figure, axes = style.grid(len(keys), width=6, height=3.8)
    for axis, ((model, _, attack, _, eps), mine) in zip(axes, keys, strict=True):
        values = mine.pivot(index="modality", columns="task", values="robust")
        values = values.loc[list(dict.fromkeys(mine.modality)), list(dict.fromkeys(mine.task))]
        clean = mine.drop_duplicates("task").set_index("task").clean
        values.loc["none (clean)"] = clean[values.columns]
        known = mine.dropna(subset="floor").drop_duplicates("task")
        if len(known):
            levels = {row.task: row.floor.accuracy for row in each(known)}
            values.loc[FLOOR_LABEL] = [levels.get(task) for task in values.columns]
        heat(axis, values)
        axis.set(
            xlabel="task aimed at", ylabel="attacked modality", title=f"{model}, {attack} {eps}"
        )
    names = [*group.modality, FLOOR_LABEL]
    margin = 0.9 + max(style.inches(line, 11) for line in names)
    style.finish(
        figure,
        axes,
        sentences("robust accuracy, one modality attacked", describe(group.iloc[0]), kept),
        margin=margin,
    )
    return figure


def matrix(values: pd.DataFrame, title: str, marks: pd.DataFrame | None = None) -> Figure:
    """A heat map with its figures written into the cells, those that are naive marked; it grows
    with its rows and columns.
    """
    names = max(style.inches(name, 11) for name in values.index)
    words = max(
        style.inches(word, 9) for name in values.columns for word in re.split(r"[\s+,=-]", name)
    )
    width = max(6.5, names + max(0.85, words + 0.2) * len(values.columns) + 0.6)
    column = (width - names - 0.6) / len(values.columns)
    figure = style.new(width, max(0.36 * len(values), 1.4) + 0.7)
    axis = figure.subplots()
    if marks is not None:
        marks = marks.reindex(index=values.index, columns=values.columns, fill_value=False)
    heat(axis, values.rename(columns=lambda name: style.wrap(name, column - 0.08, 9)), marks)
    style.finish(figure, [axis], title)
    return figure


def heat(axis: Axes, values: pd.DataFrame, marks: pd.DataFrame | None = None) -> None:
    """One heat map on a scale from 0 to 1; what was not measured is grey and says so.

    Args:
        marks: which cells are naive.
    """
    marked = np.zeros(values.shape, bool) if marks is None else marks.to_numpy(bool)
    axis.set_facecolor("0.85")
    axis.imshow(values.to_numpy(float), cmap=style.HEAT, vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(values.columns)), values.columns, fontsize=9)
    axis.set_yticks(range(len(values)), values.index)
    axis.grid(visible=False)
    for i, row in enumerate(values.to_numpy(float)):
        for j, value in enumerate(row):
            text = "-" if pd.isna(value) else f"{value:.2f}{NAIVE if marked[i, j] else ''}"
            colour = "black" if pd.isna(value) else style.ink(value)
            axis.text(j, i, text, ha="center", va="center", color=colour, fontsize=9)


def per_class(group: pd.DataFrame, look: Looks) -> Figure:
    """Clean (outlined) and robust accuracy of every class under the most harmful attack at the
    largest radius, a panel a task.
    """
    group, kept = leading(group)
    group = worst_attack(group)
    tasks, models = list(dict.fromkeys(group.task)), sorted(group.model.unique())
    room = max(0.8, 0.1 * len(models))  # inches of a class
    width = max(6.4, 1 + room * group.groupby("task")["class"].nunique().max())
    across = 3 if width < 9 else 1
    figure, axes = style.grid(len(tasks), width=width, across=across, sharey=True)
    for axis, task in zip(axes, tasks, strict=True):
        mine = group[group.task == task]
        order = list(mine.groupby("class").robust.mean().sort_values().index)
        for i, model in enumerate(models):
            bars = mine[mine.model == model].drop_duplicates("class").set_index("class")
            _bars(axis, bars.reindex(order), str(model), look, place=i, of=len(models))
        counts = mine.drop_duplicates("class").set_index("class").n
        across_class = 0.9 * width / len(order)
        names = [f"{style.wrap(name, across_class, 9)}\nn = {counts[name]}" for name in order]
        axis.set_xticks(range(len(order)), names)
        axis.tick_params(axis="x", labelsize=9)
        axis.set(ylim=(0, 1.08), title=f"task {task}")
    for axis in axes[::across]:
        axis.set_ylabel("accuracy")
    first: Any = group[group.task == tasks[-1]].iloc[0]
    attack = f"accuracy by class, {by_engine(first.attack, first.engine)} {first.eps}"
    setting = describe(first.rename({"samples": "n", "n": "class_n"}))
    style.finish(figure, axes, sentences(attack, setting, kept))
    return figure


def _bars(
    axis: Axes, classes: pd.DataFrame, model: str, look: Looks, *, place: int, of: int
) -> None:
    """One victim's bars, a class each: the `place`th (from 0) of `of` that share a class's room."""
    x = [k + (place - (of - 1) / 2) * 0.8 / of for k in range(len(classes))]
    thick = 0.72 / of
    outline: dict[str, Any] = {"facecolor": "none", "edgecolor": "0.4", "linewidth": 0.8}
    axis.bar(x, classes.clean, thick, **outline, label="clean" if place == 0 else None)
    errors = [
        (classes.robust - classes.robust_low).clip(0),
        (classes.robust_high - classes.robust).clip(0),
    ]
    colour, _, _, hatch = look[model]
    how: dict[str, Any] = {
        "color": colour,
        "hatch": hatch,
        "edgecolor": "white",
        "linewidth": 0,
        "ecolor": "0.25",
        "capsize": 2,
    }
    axis.bar(x, classes.robust, thick, yerr=errors, label=f"{model}, attacked", **how)


def worst_attack(group: pd.DataFrame) -> pd.DataFrame:
    """The rows of a per-class table at its largest radius under the attack with the lowest mean, of
    its settings the strongest.
    """
    group = group[group.attack != CONTROL]
    group = group[group.eps_value == group.eps_value.max()]
    means = group.groupby(["attack", "engine", "eps"]).robust.mean().reset_index()
    worst: Any = means.sort_values("robust", kind="stable").iloc[0]
    under_it = group[
        (group.attack == worst.attack) & (group.engine == worst.engine) & (group.eps == worst.eps)
    ]
    return (
        under_it.sort_values("robust", kind="stable")
        .groupby(["model", "checkpoint", "task", "class"], sort=False)
        .head(1)
    )


def describe(row: Any, trust: str = "") -> str:
    """Data, threat model, protocol and n of a figure."""
    kind = nature(row.data, synthetic=row.synthetic)
    aim = f", target {row.target}" if "target" in row and not row.is_joint else ""
    return (
        f"{row.data}{kind}, {row['size']} px, {row.norm}{trust}{aim}, protocol {row.protocol},"
        f" n = {row.n}"
    )


def trusted_text(row: Any) -> str:
    """What a title says of modalities that were not attacked; empty where there are none."""
    return f", {'+'.join(row.trusted)} trusted" if row.trusted else ""


def naive_text(rows: pd.DataFrame) -> str:
    """What a title says of victims whose attack ignores their defence or randomness; empty where
    there are none.
    """
    names = sorted(set(rows.model[rows.is_naive]))
    if not names:
        return ""
    of = "" if rows.is_naive.all() else f" of {', '.join(names)}"
    return f"\nnaive{of}: an over-estimate"


def sentences(*sentences: str) -> str:
    return "\n".join(filter(None, sentences))


def slug(key: Sequence[Any]) -> str:
    """A file name out of a setting."""
    return "".join(c if c.isalnum() or c in "+_" else "-" for c in "-".join(map(str, key)))
