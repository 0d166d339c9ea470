"""Figures out of the leaderboard: accuracy against radius, clean against robust, attack x model,
EOT, minimal norms, convergence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from robustbench_med.reports import style
from robustbench_med.reports.families import variants
from robustbench_med.reports.paper import CONTROL, victim_names
from robustbench_med.reports.tables import (
    by_engine,
    each,
    is_cross_modal,
    leaderboard,
    named,
    ranked,
)
from robustbench_med.store.store import Record

SETTING = ["data", "size", "n", "norm", "target", "protocol"]
MODELS = 12
"""Victims a figure shows at most."""
Looks = Mapping[str, style.Look]


def robust_against_radius(records: Sequence[Record], path: Path) -> None:
    """`radius_figure` of all records as a file."""
    joint = [
        record for record in records if not is_cross_modal(record)
    ] or records  # those have a figure of their own
    board = named(leaderboard(joint, variants(records)))
    with style.styled():
        style.save(radius_figure(board, style.looks(named(leaderboard(records)).model)), path)


def leading(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of as many victims as a reader can tell apart, and a sentence if that left any out.

    Undefended victims come first, then others, in the order of their robustness, that under the
    release protocol only where there is no other.
    Victims whose attack was unaware of their defence would take the places of those attacked in
        earnest: they are left out, unless there
    are no others.
    """
    sentences = []
    if rows.is_unaware.any() and not rows.is_unaware.all():
        names = rows.model[rows.is_unaware].nunique()
        rows = rows[~rows.is_unaware]
        sentences.append(f"{names} victim{'s' * (names > 1)} under an unaware attack left out")
    attacked = rows[rows.attack != CONTROL]
    means, sound = (
        frame.groupby("model").robust.mean()
        for frame in (attacked, attacked[attacked.protocol != "release"])
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


def radius_figure(board: pd.DataFrame, look: Looks) -> Figure:
    """Robust accuracy against radius, from rows of the leaderboard.

    One panel a data set, norm, protocol and attack; one line a victim with Wilson 95 % intervals;
    its noise control thin and dashed. The point at radius 0 is clean accuracy. Where modalities
    have different radii the axis shows the largest.
    """
    board, kept = leading(board)
    points = _points(board)
    panels = sorted(
        {(str(p), str(a)) for p, a in zip(points.panel, points.attack, strict=True) if a != CONTROL}
    )
    panels = panels or [(str(points.panel.iloc[0]), CONTROL)]
    figure, axes = style.grid(len(panels), sharey=True)
    for axis, (panel, attack) in zip(axes, panels, strict=True):
        _panel(axis, points[points.panel == panel], attack, look)
    for axis in axes[::3]:
        axis.set_ylabel("accuracy (mean over attacked tasks)")
    controlled = any(
        line.get_linestyle() == style.CONTROL_DASH for axis in axes for line in axis.lines
    )
    grey = Line2D([], [], linestyle=style.CONTROL_DASH, color="0.4", linewidth=1)
    style.finish(figure, axes, kept, also={"noise control of each": grey} if controlled else None)
    return figure


def _panel(axis: Axes, points: pd.DataFrame, attack: str, look: Looks) -> None:
    models = sorted(set(points.model))
    for model in models:
        colour, marker, dash, _ = look[model]
        for name in dict.fromkeys((attack, CONTROL)):
            line = points[(points.model == model) & (points.attack == name)].sort_values(
                ["radius", "robust"]
            )
            if line.empty:
                continue
            line = line.drop_duplicates("radius")  # of several settings of an attack the strongest
            line = pd.concat(
                [
                    line.iloc[:1].assign(
                        radius=0.0, robust=line.clean, low=line.clean_low, high=line.clean_high
                    ),
                    line,
                ]
            )
            if name == attack:
                axis.plot(
                    line.radius,
                    line.robust,
                    color=colour,
                    marker=marker,
                    linestyle=dash,
                    label=model,
                )
                axis.fill_between(
                    line.radius,
                    line.low,
                    line.high,
                    color=colour,
                    alpha=_shade(len(models)),
                    linewidth=0,
                )
            else:
                axis.plot(
                    line.radius,
                    line.robust,
                    color=colour,
                    linestyle=style.CONTROL_DASH,
                    linewidth=1,
                    alpha=0.7,
                )
    first: Any = points.iloc[0]
    axis.set_title(f"{attack} on {first.panel}")
    axis.set_xlabel(
        f"{first.norm} radius" + (" (grey levels of 255)" if first.norm == "Linf" else "")
    )
    axis.set_ylim(0, 1.03)


def _shade(victims: int) -> float:
    """Opacity of the intervals of so many victims: many that overlap would hide the lines."""
    return min(0.15, 0.9 / victims)


def _points(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with what the radius figure needs: panel, title, radius on its axis."""
    titles, radii, attacks = [], [], []
    for _, row in board.iterrows():
        titles.append(describe(row, trusted_text(row)).replace(", ", "\n", 1))
        radii.append(row.eps_value * (255 if row.norm == "Linf" else 1))
        attacks.append(by_engine(row.attack, row.engine))
    return board.assign(
        panel=titles, radius=radii, attack=attacks, low=board.robust_low, high=board.robust_high
    )


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
    largest = group.gflops.max() or 1
    for axis, eps in zip(axes, radii, strict=True):
        points = group[group.eps == eps]
        for row in each(
            points.sort_values("gflops", ascending=False, kind="stable")
        ):  # small points over large ones
            bars = {"xerr": _error(row, "clean"), "yerr": _error(row, "robust")}
            colour, marker, _, _ = look[row.model]
            axis.errorbar(row.clean, row.robust, **bars, color=colour, alpha=0.35, linewidth=1)
            area = 40 + 360 * row.gflops / largest
            axis.scatter(
                row.clean, row.robust, area, marker=marker, **style.outlined(colour), zorder=3
            )
            axis.plot(
                [],
                [],
                color=colour,
                marker=marker,
                linestyle="",
                label=f"{row.model} ({row.gflops:.3g} GFLOPs)",
            )
        axis.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":")
        axis.set(
            xlim=(0, 1.03),
            ylim=(0, 1.03),
            xlabel="clean accuracy",
            title=f"strongest attack at {eps}",
        )
    for axis in axes[::3]:
        axis.set_ylabel("robust accuracy")
    style.finish(
        figure,
        axes,
        _lines("clean and robust accuracy, area = FLOPs", describe(group.iloc[0]), kept),
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
    """Robust accuracy, all victims down, attacks and radii across, written into the cells."""
    group = group.assign(victim=victim_names(group), control=group.attack != CONTROL)
    group = group.sort_values(
        ["eps_value", "eps", "control", "attack", "engine", "robust"], kind="stable"
    )
    group = group.assign(column=[f"{by_engine(r.attack, r.engine)}\n{r.eps}" for r in each(group)])
    columns, victims = list(dict.fromkeys(group.column)), sorted(group.victim.unique())
    values = (
        group.drop_duplicates(["victim", "column"])
        .pivot(index="victim", columns="column", values="robust")
        .loc[victims, columns]
    )
    clean = group.drop_duplicates("victim").set_index("victim").clean.loc[victims]
    values.insert(0, "clean", clean)
    return matrix(values, f"robust accuracy\n{describe(group.iloc[0])}")


def cross_modal(group: pd.DataFrame) -> Figure:
    """Robust accuracy by attacked modality and task, a panel a victim."""
    group, kept = leading(group)
    keys = list(group.groupby(["model", "checkpoint", "attack", "engine", "eps"], sort=True))
    figure, axes = style.grid(len(keys), width=6, height=3.8)
    for axis, ((model, _, attack, _, eps), mine) in zip(axes, keys, strict=True):
        values = mine.pivot(index="modality", columns="task", values="robust")
        values = values.loc[list(dict.fromkeys(mine.modality)), list(dict.fromkeys(mine.task))]
        heat(axis, values)
        axis.set(
            xlabel="task aimed at", ylabel="attacked modality", title=f"{model}, {attack} {eps}"
        )
    margin = 0.9 + max(style.inches(name, 11) for name in group.modality)
    style.finish(
        figure,
        axes,
        _lines("robust accuracy, one modality attacked", describe(group.iloc[0]), kept),
        margin=margin,
    )
    return figure


def matrix(values: pd.DataFrame, title: str) -> Figure:
    """A heat map with its figures written into the cells; it grows with its rows and columns."""
    names = max(style.inches(name, 11) for name in values.index)
    words = max(
        style.inches(word, 9) for name in values.columns for word in re.split(r"[\s+,=-]", name)
    )
    width = max(6.5, names + max(0.85, words + 0.2) * len(values.columns) + 0.6)
    column = (width - names - 0.6) / len(values.columns)
    figure = style.new(width, max(0.36 * len(values), 1.4) + 0.7)
    axis = figure.subplots()
    heat(axis, values.rename(columns=lambda name: style.wrap(name, column - 0.08, 9)))
    style.finish(figure, [axis], title)
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
            axis.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                color="black" if pd.isna(value) or value > 0.55 else "white",
                fontsize=9,
            )


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
            bars = (
                mine[mine.model == model].drop_duplicates("class").set_index("class").reindex(order)
            )
            x = [k + (i - (len(models) - 1) / 2) * 0.8 / len(models) for k in range(len(order))]
            thick = 0.72 / len(models)
            axis.bar(
                x,
                bars.clean,
                thick,
                facecolor="none",
                edgecolor="0.4",
                linewidth=0.8,
                label="clean" if i == 0 else None,
            )
            errors = [
                (bars.robust - bars.robust_low).clip(0),
                (bars.robust_high - bars.robust).clip(0),
            ]
            colour, _, _, hatch = look[model]
            how = {
                "color": colour,
                "hatch": hatch,
                "edgecolor": "white",
                "linewidth": 0,
                "ecolor": "0.25",
                "capsize": 2,
            }
            axis.bar(x, bars.robust, thick, yerr=errors, label=f"{model}, attacked", **how)
        counts = mine.drop_duplicates("class").set_index("class").n
        axis.set_xticks(
            range(len(order)),
            [
                f"{style.wrap(name, 0.9 * width / len(order), 9)}\nn = {counts[name]}"
                for name in order
            ],
        )
        axis.tick_params(axis="x", labelsize=9)
        first: Any = mine.iloc[0]
        axis.set(ylim=(0, 1.08), title=f"task {task}")
    for axis in axes[::across]:
        axis.set_ylabel("accuracy")
    setting = describe(first.rename({"samples": "n", "n": "class_n"}))
    style.finish(
        figure,
        axes,
        _lines(
            f"accuracy by class, {by_engine(first.attack, first.engine)} {first.eps}", setting, kept
        ),
    )
    return figure


def worst_attack(group: pd.DataFrame) -> pd.DataFrame:
    """The rows of a per-class table at its largest radius under the attack with the lowest mean, of
    its settings the strongest.
    """
    group = group[group.attack != CONTROL]
    group = group[group.eps_value == group.eps_value.max()]
    means = group.groupby(["attack", "engine", "eps"]).robust.mean().reset_index()
    worst: Any = means.sort_values("robust", kind="stable").iloc[0]
    chosen = group[
        (group.attack == worst.attack) & (group.engine == worst.engine) & (group.eps == worst.eps)
    ]
    return (
        chosen.sort_values("robust", kind="stable")
        .groupby(["model", "checkpoint", "task", "class"], sort=False)
        .head(1)
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
        victims = lines.model.nunique()
        for (model, _), mine in lines.groupby(["model", "settings"], sort=True):
            mine = mine.sort_values("eot").drop_duplicates("eot")
            colour, marker, dash, _ = look[str(model)]
            axis.plot(
                mine.eot, mine.robust, color=colour, marker=marker, linestyle=dash, label=model
            )
            axis.fill_between(
                mine.eot,
                mine.robust_low,
                mine.robust_high,
                color=colour,
                alpha=_shade(victims),
                linewidth=0,
            )
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
    style.finish(figure, axes, _lines(describe(group.iloc[0]), kept))
    return figure


def minimal_norms(
    records: Sequence[Record], look: Looks, names: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Figure]]:
    """Robust accuracy against the size of the smallest perturbation found, a figure a setting, from
    minimal-norm attacks.
    """
    for key, members in by_setting([r for r in records if r["figures"].get("minimal_norm")], names):
        shown, kept = leading(pd.DataFrame([row for _, row in members]))
        members = [(family, row) for family, row in members if row.model in set(shown.model)]
        figure, (axis,) = style.grid(1, height=4.6)
        once = {
            (row.model, row.checkpoint, row.attack, row.engine): (family, row)
            for family, row in members
        }  # radii share one search
        attacks = sorted({row.attack for _, row in members})
        for family, row in once.values():
            minimal = family[0]["figures"]["minimal_norm"]
            radius, robust = zip(*minimal["curve"], strict=True)
            median = "" if minimal["median"] is None else f", median {minimal['median']:.3g}"
            how = _line(look[row.model], attacks, row.attack) | {
                "drawstyle": "steps-post",
                "markevery": max(1, len(radius) // 8),
            }
            axis.plot(radius, robust, **how, label=f"{row.model}, {row.attack}{median}")
        axis.set(ylim=(0, 1.03), ylabel="robust accuracy")
        axis.set_xlabel(
            f"{members[0][1].norm} size of the smallest perturbation found (pixels in 0..1)"
        )
        style.finish(figure, [axis], _lines(describe(members[0][1]), kept))
        yield slug(key), figure


def convergence(
    records: Sequence[Record], look: Looks, names: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Figure]]:
    """Attack loss before each step, a figure a setting, a panel an objective and radius, one line a
    model and attack.

    A curve that still rises at its end belongs to an attack that needs more steps. Means over seeds
    and folds; of several settings of an attack the strongest.
    """
    stepped = [
        record
        for record in records
        if record["figures"].get("attack_loss") and not is_cross_modal(record)
    ]
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
            losses = np.mean(
                [np.array(record["figures"]["attack_loss"], float) for record in family], 0
            )
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
        style.finish(figure, axes, _lines(title, describe(members[0][1]), kept))
        yield slug(key), figure


def _line(look: style.Look, attacks: Sequence[str], attack: str) -> dict[str, Any]:
    """How a line is drawn where several attacks may share a panel: the victim by colour and marker,
    then the attack by dash.
    """
    dash = (
        look.dash if len(attacks) == 1 else style.DASHES[attacks.index(attack) % len(style.DASHES)]
    )
    return {"color": look.colour, "marker": look.marker, "linestyle": dash}


def objective(record: Record) -> str:
    """What an attack's first run ascends; `apgd-t` has its own, autoattack begins with
    cross-entropy.
    """
    attack, target = record["spec"]["attack"], record["spec"]["threat"].get("target")
    loss = (
        "dlr towards the likeliest wrong class"
        if attack["name"] == "apgd-t"
        else attack["params"].get("loss", "ce")
    )
    return f"{loss}{' towards the target' if target else ''}"


def by_setting(
    records: Sequence[Record], names: Mapping[str, str] | None
) -> list[tuple[tuple[Any, ...], list[tuple[list[Record], pd.Series]]]]:
    """Families of records and their rows of the leaderboard, best first, by what a figure must not
    mix.
    """
    board, members = ranked(records, names)
    board = named(board)
    found: dict[tuple[Any, ...], list[tuple[list[Record], pd.Series]]] = {}
    for (_, row), family in zip(board.iterrows(), members, strict=True):
        found.setdefault(tuple(row[SETTING]), []).append((family, row))
    return sorted(found.items())


def describe(row: Any, trust: str = "") -> str:
    """Data, threat model, protocol and n of a figure."""
    synthetic = " (synthetic)" if row.synthetic else ""
    aim = f", target {row.target}" if "target" in row and not row.is_joint else ""
    return (
        f"{row.data}{synthetic}, {row['size']} px, {row.norm}{trust}{aim}, protocol {row.protocol},"
        f" n = {row.n}"
    )


def trusted_text(row: Any) -> str:
    """What a title says of modalities that were not attacked; empty where there are none."""
    return f", {'+'.join(row.trusted)} trusted" if row.trusted else ""


def _lines(*sentences: str) -> str:
    return "\n".join(filter(None, sentences))


def slug(key: Sequence[Any]) -> str:
    """A file name out of a setting."""
    return "".join(c if c.isalnum() or c in "+_" else "-" for c in "-".join(map(str, key)))
