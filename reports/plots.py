"""Figures out of the leaderboard: accuracy against radius, clean against robust, attack x model, EOT, minimal norms, convergence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_med.reports import style
from robustbench_med.reports.paper import CONTROL, radius_of, victim_names
from robustbench_med.reports.tables import each, is_cross_modal, leaderboard, ranked
from robustbench_med.store import Record

SETTING = ["data", "size", "n", "norm", "target", "protocol"]
MODELS = 12
"""Models a figure shows at most."""
Look = dict[str, tuple[str, str]]


def robust_against_radius(records: Sequence[Record], path: Path) -> None:
    """One panel a data set, norm, protocol and attack; one line a model with Wilson 95 % intervals; its noise control dashed.

    The point at radius 0 is clean accuracy. Where modalities have different radii the axis shows the largest.
    """
    joint = [record for record in records if not is_cross_modal(record)] or records  # those have a figure of their own
    board, kept = leading(leaderboard(joint))
    with plt.rc_context(style.STYLE):
        figure = radius_figure(board, style.looks(r["spec"]["victim"]["model"] for r in records))
        if kept:
            figure.suptitle(kept, fontsize=10)
        style.save(figure, path)


def leading(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the most robust models, as many as a reader can tell apart, and a sentence if that left any out."""
    models = rows[rows.attack != CONTROL].groupby("model").robust.mean().sort_values(ascending=False, kind="stable").index
    if len(models) <= MODELS:
        return rows, ""
    return rows[rows.model.isin(models[:MODELS])], f"the {MODELS} most robust (mean over attacks and radii) of {len(models)} models"


def radius_figure(board: pd.DataFrame, look: Look) -> Figure:
    """The figure of `robust_against_radius`, from rows of the leaderboard."""
    points = _points(board)
    panels = sorted({(str(p), str(a)) for p, a in zip(points.panel, points.attack, strict=True) if a != CONTROL})
    panels = panels or [(str(points.panel.iloc[0]), CONTROL)]
    figure, axes = style.grid(len(panels), sharey=True)
    for axis, (panel, attack) in zip(axes, panels, strict=True):
        _panel(axis, points[points.panel == panel], attack, look)
    for axis in axes[::3]:
        axis.set_ylabel("accuracy (mean over attacked tasks)")
    style.legend(figure, axes)
    return figure


def _panel(axis: Axes, points: pd.DataFrame, attack: str, look: Look) -> None:
    shown = set(points.model)
    for model, (colour, marker) in look.items():
        if model not in shown:
            continue
        for name, line_style in ((attack, "-"), (CONTROL, "--")):
            line = points[(points.model == model) & (points.attack == name)].sort_values(["radius", "robust"])
            if line.empty or (attack == CONTROL and line_style == "--"):
                continue
            line = line.drop_duplicates("radius")  # of several settings of an attack the strongest
            line = pd.concat([line.iloc[:1].assign(radius=0.0, robust=line.clean, low=line.clean_low, high=line.clean_high), line])
            label = f"{model}, {'noise control' if line_style == '--' else 'attacked'}"
            axis.plot(line.radius, line.robust, line_style, color=colour, marker=marker if line_style == "-" else None, label=label)
            if line_style == "-":
                axis.fill_between(line.radius, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    first: Any = points.iloc[0]
    axis.set_title(f"{attack} on {first.panel}")
    axis.set_xlabel(f"{first.norm} radius" + (" (grey levels of 255)" if first.norm == "Linf" else ""))
    axis.set_ylim(0, 1.03)


def _points(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with what the radius figure needs: panel, title, radius on its axis."""
    titles, radii, attacks = [], [], []
    for _, row in board.iterrows():
        trusted = [part.removesuffix("=0") for part in row.eps.split(",") if part.endswith("=0")]
        titles.append(describe(row, f", {'+'.join(trusted)} trusted" if trusted else "").replace(", ", "\n", 1))
        radii.append(radius_of(row.eps) * (255 if row.norm == "Linf" else 1))
        attacks.append(row.attack if row.engine == "native" else f"{row.attack} ({row.engine})")
    return board.assign(panel=titles, radius=radii, attack=attacks, low=board.robust_low, high=board.robust_high)


def pareto(group: pd.DataFrame, look: Look) -> Figure | None:
    """Clean against robust accuracy under the strongest attack, a panel a radius; the area of a point is its FLOPs."""
    group = group[group.attack != CONTROL]
    if group.empty:
        return None
    group = group.sort_values("robust", kind="stable").groupby(["model", "checkpoint", "eps"]).head(1)
    radii = sorted(group.eps.unique(), key=lambda label: (radius_of(label), label))
    figure, axes = style.grid(len(radii), sharey=True)
    largest = group.gflops.max() or 1
    for axis, eps in zip(axes, radii, strict=True):
        points = group[group.eps == eps]
        for row in each(points.sort_values("gflops", ascending=False, kind="stable")):  # small points over large ones
            bars = {"xerr": _error(row, "clean"), "yerr": _error(row, "robust")}
            colour, marker = look[row.model]
            axis.errorbar(row.clean, row.robust, **bars, color=colour, alpha=0.35, linewidth=1)
            area = 40 + 360 * row.gflops / largest
            axis.scatter(row.clean, row.robust, area, marker=marker, **style.outlined(colour), zorder=3)
            axis.plot([], [], marker, color=colour, label=f"{row.model} ({row.gflops:.3g} GFLOPs)")
        axis.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":")
        axis.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="clean accuracy", title=f"strongest attack at {eps}")
    for axis in axes[::3]:
        axis.set_ylabel("robust accuracy")
    figure.suptitle(f"clean and robust accuracy, area = FLOPs\n{describe(group.iloc[0])}", fontsize=11)
    style.legend(figure, axes, columns=1 if len(axes) == 1 else 3)
    return figure


def _error(row: Any, figure: str) -> list[list[float]]:
    """Lengths of an interval's arms, rounding below 0 taken out."""
    value = getattr(row, figure)
    return [[max(value - getattr(row, f"{figure}_low"), 0)], [max(getattr(row, f"{figure}_high") - value, 0)]]


def heat_map(group: pd.DataFrame) -> Figure:
    """Robust accuracy, victims down, attacks and radii across, written into the cells."""
    group = group.assign(victim=victim_names(group), radius=group.eps.map(radius_of), control=group.attack != CONTROL)
    group = group.sort_values(["radius", "eps", "control", "attack", "engine", "robust"], kind="stable")
    group = group.assign(column=[f"{r.attack}{'' if r.engine == 'native' else f' ({r.engine})'}\n{r.eps}" for r in each(group)])
    columns, victims = list(dict.fromkeys(group.column)), sorted(group.victim.unique())
    values = group.drop_duplicates(["victim", "column"]).pivot(index="victim", columns="column", values="robust").loc[victims, columns]
    clean = group.drop_duplicates("victim").set_index("victim").clean.loc[victims]
    values.insert(0, "clean", clean)
    return matrix(values, f"robust accuracy\n{describe(group.iloc[0])}")


def cross_modal(group: pd.DataFrame) -> Figure:
    """Robust accuracy by attacked modality and task, a panel a victim."""
    keys = list(group.groupby(["model", "checkpoint", "attack", "engine", "eps"], sort=True))
    figure, axes = style.grid(len(keys), width=6, height=3.8)
    for axis, ((model, _, attack, _, eps), mine) in zip(axes, keys, strict=True):
        values = mine.pivot(index="modality", columns="task", values="robust")
        values = values.loc[list(dict.fromkeys(mine.modality)), list(dict.fromkeys(mine.task))]
        heat(axis, values)
        axis.set(xlabel="task aimed at", ylabel="attacked modality", title=f"{model}, {attack} {eps}")
    figure.suptitle(f"robust accuracy, one modality attacked\n{describe(group.iloc[0])}", fontsize=11)
    return figure


def matrix(values: pd.DataFrame, title: str) -> Figure:
    """A heat map with its figures written into the cells."""
    figure, axis = plt.subplots(
        figsize=(max(6.5, 2.2 + 0.85 * len(values.columns) + 0.08 * max(map(len, values.index))), 1.6 + 0.5 * len(values)),
        layout="constrained",
    )
    heat(axis, values)
    axis.set_title(title)
    return figure


def heat(axis: Axes, values: pd.DataFrame) -> None:
    """One heat map on a scale from 0 to 1; what was not measured is grey and says so."""
    axis.set_facecolor("0.85")
    axis.imshow(values.to_numpy(float), cmap=style.HEAT, vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(values.columns)), values.columns, fontsize=9)
    axis.set_yticks(range(len(values)), values.index)
    axis.grid(visible=False)
    for i, row in enumerate(values.to_numpy(float)):
        for j, value in enumerate(row):
            text = "-" if pd.isna(value) else f"{value:.2f}"
            axis.text(j, i, text, ha="center", va="center", color="black" if pd.isna(value) or value > 0.55 else "white", fontsize=9)


def per_class(group: pd.DataFrame, look: Look) -> Figure:
    """Clean (outlined) and robust accuracy of every class under the most harmful attack at the largest radius, a panel a task."""
    group = worst_attack(group)
    tasks = list(dict.fromkeys(group.task))
    figure, axes = style.grid(len(tasks), width=6.4, sharey=True)
    models = sorted(group.model.unique())
    for axis, task in zip(axes, tasks, strict=True):
        mine = group[group.task == task]
        order = list(mine.groupby("class").robust.mean().sort_values().index)
        for i, model in enumerate(models):
            bars = mine[mine.model == model].drop_duplicates("class").set_index("class").reindex(order)
            x = [k + (i - (len(models) - 1) / 2) * 0.8 / len(models) for k in range(len(order))]
            width = 0.72 / len(models)
            axis.bar(x, bars.clean, width, facecolor="none", edgecolor="0.4", linewidth=0.8, label="clean" if i == 0 else None)
            errors = [(bars.robust - bars.robust_low).clip(0), (bars.robust_high - bars.robust).clip(0)]
            axis.bar(x, bars.robust, width, yerr=errors, color=look[model][0], label=f"{model}, attacked", ecolor="0.25", capsize=2)
        counts = mine.drop_duplicates("class").set_index("class").n
        axis.set_xticks(range(len(order)), [f"{name}\nn = {counts[name]}" for name in order], fontsize=9)
        first: Any = mine.iloc[0]
        axis.set(ylim=(0, 1.08), title=f"task {task}")
    axes[0].set_ylabel("accuracy")
    setting = describe(first.rename({"samples": "n", "n": "class_n"}))
    figure.suptitle(f"accuracy by class, {first.attack} {first.eps}\n{setting}", fontsize=11)
    style.legend(figure, axes)
    return figure


def worst_attack(group: pd.DataFrame) -> pd.DataFrame:
    """The rows of a per-class table at its largest radius under the attack with the lowest mean, of its settings the strongest."""
    group = group[group.attack != CONTROL]
    radii = group.eps.map(radius_of)
    group = group[radii == radii.max()]
    means = group.groupby(["attack", "engine"]).robust.mean().reset_index()
    worst: Any = means.sort_values("robust", kind="stable").iloc[0]
    chosen = group[(group.attack == worst.attack) & (group.engine == worst.engine)]
    return chosen.sort_values("robust", kind="stable").groupby(["model", "checkpoint", "task", "class"], sort=False).head(1)


def eot(group: pd.DataFrame, look: Look) -> Figure | None:
    """Robust accuracy against the draws per gradient, one line a random victim, attack and radius; needs two numbers of draws."""
    group = group[(group.draws > 1) & group.eot.notna()]
    group = group.assign(rest=group.attack_params.str.replace(r"\beot=\S+ ?", "", regex=True))
    lines = [(key, mine.sort_values("eot")) for key, mine in group.groupby(["model", "attack", "engine", "eps", "rest"], sort=True)]
    lines = [(key, mine) for key, mine in lines if mine.eot.nunique() > 1]
    if not lines:
        return None
    figure, (axis,) = style.grid(1, width=7, height=4.6)
    for i, ((model, attack, _, eps, _), mine) in enumerate(lines):
        colour, marker = look[str(model)]
        mine = mine.drop_duplicates("eot")
        dash = style.DASHES[i % len(style.DASHES)]
        axis.plot(mine.eot, mine.robust, dash, color=colour, marker=marker, label=f"{model}, {attack} {eps}")
        axis.fill_between(mine.eot, mine.robust_low, mine.robust_high, color=colour, alpha=0.15, linewidth=0)
    draws = sorted({int(n) for _, mine in lines for n in mine.eot})
    axis.set_xscale("log", base=2)
    axis.set_xticks(draws, draws)
    axis.minorticks_off()
    axis.set(ylim=(0, 1.03), xlabel="EOT draws per gradient", ylabel="robust accuracy", title=describe(lines[0][1].iloc[0]))
    style.legend(figure, [axis], columns=2)
    return figure


def minimal_norms(records: Sequence[Record], look: Look) -> Iterator[tuple[str, Figure]]:
    """Robust accuracy against the size of the smallest perturbation found, a figure a setting, from minimal-norm attacks."""
    for key, members in by_setting([r for r in records if r["figures"].get("minimal_norm")]):
        figure, (axis,) = style.grid(1, width=7, height=4.6)
        once = {(row.model, row.checkpoint, row.attack, row.engine): (family, row) for family, row in members}  # radii share one search
        attacks = sorted({row.attack for _, row in members})
        for family, row in once.values():
            minimal = family[0]["figures"]["minimal_norm"]
            radius, robust = zip(*minimal["curve"], strict=True)
            median = "" if minimal["median"] is None else f", median {minimal['median']:.3g}"
            dash = style.DASHES[attacks.index(row.attack) % len(style.DASHES)]
            axis.plot(radius, robust, dash, drawstyle="steps-post", color=look[row.model][0], label=f"{row.model}, {row.attack}{median}")
        axis.set(ylim=(0, 1.03), ylabel="robust accuracy", title=describe(members[0][1]))
        axis.set_xlabel(f"{members[0][1].norm} size of the smallest perturbation found (pixels in 0..1)")
        style.legend(figure, [axis], columns=2)
        yield slug(key), figure


def convergence(records: Sequence[Record], look: Look) -> Iterator[tuple[str, Figure]]:
    """Attack loss before each step, a figure a setting, a panel an objective and radius, one line a model and attack.

    A curve that still rises at its end belongs to an attack that needs more steps. Means over seeds and folds; of several settings of
    an attack the strongest.
    """
    stepped = [record for record in records if record["figures"].get("attack_loss") and not is_cross_modal(record)]
    for key, members in by_setting(stepped):
        shown = set(leading(pd.DataFrame([row for _, row in members]))[0].model)
        lines: dict[tuple[Any, ...], list[Record]] = {}
        for family, row in sorted(members, key=lambda member: member[1].robust):
            if row.model in shown:
                panel = objective(family[0]), radius_of(row.eps), row.eps
                lines.setdefault((panel, row.model, row.checkpoint, row.attack), family)
        panels, attacks = sorted({line[0] for line in lines}), sorted({line[3] for line in lines})
        figure, axes = style.grid(len(panels))
        for (panel, model, _, attack), family in sorted(lines.items(), key=lambda item: item[0]):
            losses = np.mean([np.array(record["figures"]["attack_loss"], float) for record in family], 0)
            i = attacks.index(attack)
            how = {"linestyle": style.DASHES[i % len(style.DASHES)], "marker": style.MARKERS[i % len(style.MARKERS)], "markersize": 5}
            every = max(1, len(losses) // 8)
            axes[panels.index(panel)].plot(losses, **how, markevery=every, color=look[model][0], label=f"{model}, {attack}")
        for axis, (loss, _, eps) in zip(axes, panels, strict=True):
            axis.set(title=f"{loss}, {eps}", xlabel="steps taken", ylabel="attack loss (sum over attacked tasks)")
        title = "attack loss of the first run (restart, target, member), mean over attacked samples"
        figure.suptitle(f"{title}\n{describe(members[0][1])}", fontsize=11)
        style.legend(figure, axes)
        yield slug(key), figure


def objective(record: Record) -> str:
    """What an attack's first run ascends; `apgd-t` has its own, autoattack begins with cross-entropy."""
    attack, target = record["spec"]["attack"], record["spec"]["threat"].get("target")
    loss = "dlr towards the likeliest wrong class" if attack["name"] == "apgd-t" else attack["params"].get("loss", "ce")
    return f"{loss}{' towards the target' if target else ''}"


def by_setting(records: Sequence[Record]) -> list[tuple[tuple[Any, ...], list[tuple[list[Record], pd.Series]]]]:
    """Families of records and their rows of the leaderboard, best first, by what a figure must not mix."""
    board, members = ranked(records)
    found: dict[tuple[Any, ...], list[tuple[list[Record], pd.Series]]] = {}
    for (_, row), family in zip(board.iterrows(), members, strict=True):
        found.setdefault(tuple(row[SETTING]), []).append((family, row))
    return sorted(found.items())


def describe(row: Any, trust: str = "") -> str:
    """Data, threat model, protocol and n of a figure."""
    synthetic = " (synthetic)" if row.synthetic else ""
    target = row.get("target", "joint")
    aim = "" if target == "joint" else f", target {target}"
    return f"{row.data}{synthetic}, {row['size']} px, {row.norm}{trust}{aim}, protocol {row.protocol}, n = {row.n}"


def slug(key: Sequence[Any]) -> str:
    """A file name out of a setting."""
    return "".join(c if c.isalnum() or c in "+_" else "-" for c in "-".join(map(str, key)))
