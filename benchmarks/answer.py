"""What the board says in a few lines and one figure: who is most robust on real images, at what
clean cost, what of Robust-MAIL holds, and which defences are worth it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from robustbench_med.reports import style
from robustbench_med.reports.comparison.metrics import METRICS, Metric
from robustbench_med.reports.floors import CONSTANT
from robustbench_med.reports.tables import each

FUSION = ("late", "gmu", "cross-attention")
SETTING = ["data", "eps"]


def lines(board: pd.DataFrame) -> list[str]:
    """A list in Markdown of what the rows of `reports.board.frame` on real images say."""
    real = board[~board.synthetic]
    if real.empty:
        return ["- No victim was measured on real images yet."]
    first = next(each(real))
    attacks = sorted({name for row in each(real) for name in _attacks(row)})
    said = [
        f"- Measured: {len(real)} rows, a victim and radius each, on"
        f" {_and(dict.fromkeys(real.data))}; {first.norm}, both tasks attacked at once,"
        f" n = {first.n}, the worst case of {_and(attacks)}. Figures are"
        f" {METRICS[first.judged_on].name} with its interval, after it the clean one."
    ]
    said += [_best(group) for _, group in real.groupby(SETTING, sort=False)]
    said += _duels(real, ["robust-mail"], ["mail"], "Robust-MAIL beside MAIL, trained alike")
    said += _duels(real, ["mail"], FUSION, "MAIL beside the best undefended fusion baseline")
    said += _defences(real)
    below = real[real.is_below_floor]
    if len(below):
        said.append(
            f"- {len(below)} of {len(real)} rows are no higher, in accuracy or balanced accuracy,"
            " than always answering the most frequent class: no robustness is left there."
        )
    return said


def _attacks(row: Any) -> list[str]:
    return [part.split(" ")[0] for part in row.each_attack.split("; ")]


def _and(names: Any) -> str:
    """a; a and b; a, b and c."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _metric(row: Any) -> Metric:
    return METRICS[row.judged_on]


def _interval(row: Any) -> tuple[float, float]:
    metric = _metric(row)
    return getattr(row, metric.worst_low), getattr(row, metric.worst_high)


def _said(row: Any) -> str:
    """A victim's figures."""
    metric, (low, high) = _metric(row), _interval(row)
    worst, clean = getattr(row, metric.worst), getattr(row, metric.clean)
    return f"`{row.model}` {worst:.3f} [{low:.3f}, {high:.3f}] of {clean:.3f}"


def _highest(rows: pd.DataFrame) -> Any:
    """The row whose worst case is highest."""
    return max(each(rows), key=lambda row: (getattr(row, _metric(row).worst), row.model))


def _best(group: pd.DataFrame) -> str:
    """The victim that keeps most in a setting, and the one without a defence that does."""
    top = _highest(group)
    plain = group[group.defense == "none"]
    text = f"- **Most is left** on {top.data} at {top.eps} of {_said(top)}"
    if len(plain) and top.defense != "none":
        text += f"; without a defence of {_said(_highest(plain))}"
    below = "; no robustness: at or below the constant answer" * top.is_below_floor
    return f"{text}{below} (trust: {top.trust or '-'})."


def _duels(real: pd.DataFrame, mine: Any, others: Any, title: str) -> list[str]:
    """The best of some undefended models beside the best of others, setting by setting."""
    plain, parts = real[real.defense == "none"], []
    for (data, eps), group in plain.groupby(SETTING, sort=False):
        left, right = group[group.family.isin(mine)], group[group.family.isin(others)]
        if len(left) and len(right):
            one, other = _highest(left), _highest(right)
            parts.append(f"{_said(one)}, {_said(other)} on {data} at {eps}, {_verdict(one, other)}")
    return [f"- **{title}**: {'; '.join(parts)}."] if parts else []


def _verdict(one: Any, other: Any) -> str:
    """Whether two intervals overlap; entries hold no outcomes to pair."""
    (low, high), (other_low, other_high) = _interval(one), _interval(other)
    if low > other_high:
        return "higher beyond both intervals"
    if high < other_low:
        return "lower beyond both intervals"
    return "intervals overlap: no difference can be told"


def _defences(real: pd.DataFrame) -> Iterator[str]:
    """What each defence adds to the same models without it, and costs."""
    plain = {(row.family, row.data, row.eps): row for row in each(real[real.defense == "none"])}
    found: dict[str, list[tuple[Any, Any]]] = {}
    for row in each(real[real.defense != "none"]):
        if bare := plain.get((row.family, row.data, row.eps)):
            found.setdefault(row.defense, []).append((row, bare))
    for defence, pairs in sorted(found.items()):
        gains = [_points(a, b, "worst") for a, b in pairs]
        costs = [_points(a, b, "clean") for a, b in pairs]
        clear = sum(_interval(a)[0] > _interval(b)[1] for a, b in pairs)
        yield (
            f"- **{defence}** on {_and(sorted({row.family for row, _ in pairs}))}:"
            f" {min(gains):+.1f} to {max(gains):+.1f} points, beyond both intervals in {clear} of"
            f" {len(pairs)} settings, for {min(costs):+.1f} to {max(costs):+.1f} points clean."
        )


def _points(a: Any, b: Any, which: str) -> float:
    name = getattr(_metric(a), which)
    return 100 * (getattr(a, name) - getattr(b, name))


def figure(board: pd.DataFrame) -> Figure:
    """Every victim on real images: its clean figure and its worst case at every radius, with
    intervals; a panel a pairing, the most robust on top.
    """
    real = board[~board.synthetic]
    data = list(dict.fromkeys(real.data))
    victims = int(real.groupby("data").model.nunique().max())
    drawn, axes = style.grid(len(data), height=1.6 + 0.42 * victims, across=2)
    for axis, name in zip(axes, data, strict=True):
        _panel(axis, real[real.data == name], name)
    first = next(each(real))
    style.finish(
        drawn,
        axes,
        f"Without an attack and in the worst case, {first.norm}, both tasks at once, n = {first.n}",
    )
    return drawn


def _panel(axis: Any, rows: pd.DataFrame, title: str) -> None:
    metric = METRICS[rows.judged_on.iloc[0]]
    radii = list(dict.fromkeys(rows.sort_values("eps_value").eps))
    order = rows.groupby("model")[metric.worst].mean().sort_values(kind="stable").index.tolist()
    for place, eps in enumerate(radii):
        colour, marker = ("#D55E00", "#0072B2", "#009E73")[place % 3], "sDo"[place % 3]
        for row in each(rows[rows.eps == eps]):
            at, worst = order.index(row.model) - 0.14 * place, getattr(row, metric.worst)
            low, high = _interval(row)
            axis.plot([low, high], [at, at], color=colour, alpha=0.45, linewidth=2)
            axis.plot(worst, at, marker, color=colour, label=f"worst case at {eps}")
    for row in each(rows.drop_duplicates("model")):
        clean = getattr(row, metric.clean)
        axis.plot(clean, order.index(row.model), "o", mfc="none", mec="0.2", label="clean")
    floor = rows.floor.iloc[0]
    constant = floor.accuracy if metric is METRICS["robust"] else floor.balanced_accuracy
    axis.axvline(constant, color="0.4", linestyle="--", linewidth=1, label=CONSTANT)
    axis.set(
        yticks=range(len(order)),
        yticklabels=order,
        ylim=(-0.7, len(order) - 0.4),
        xlim=(-0.02, 1.02),
        xlabel=metric.name.removeprefix("robust "),
        title=title,
    )
