"""What the board says in a few lines and one figure: who is most robust on real images, at what
clean cost, what of Robust-MAIL holds, and which defences are worth it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from robustbench_med.reports import style
from robustbench_med.reports.comparison.metrics import METRICS, Metric
from robustbench_med.reports.floors import CONSTANT
from robustbench_med.reports.tables import each

FUSION = ("late", "gmu", "cross-attention")
SETTING = ["data", "eps"]
DOUBTFUL = "‡"


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
        f" {METRICS[first.judged_on].name} with its interval, after it the clean one; "
        f"{DOUBTFUL} doubtful: it may be too high."
    ]
    groups = [group for _, group in real.groupby(SETTING, sort=False)]
    said += _most(groups)
    said += _duel(groups, ["robust-mail"], ["mail"], "Robust-MAIL beside MAIL, trained alike")
    said += _duel(groups, ["mail"], FUSION, "MAIL beside the best undefended fusion baseline")
    said += _defences(real)
    below = real[real.is_below_floor]
    if len(below):
        said.append(
            f"- {len(below)} of {len(real)} rows are no higher, in accuracy or balanced accuracy,"
            " than always answering the most frequent class: no robustness is left there."
        )
    return [*said, "", *_table(groups)]


def _attacks(row: Any) -> list[str]:
    return [part.split(" ")[0] for part in row.each_attack.split("; ")]


def _and(names: Any) -> str:
    """a; a and b; a, b and c."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _metric(row: Any) -> Metric:
    return METRICS[row.judged_on]


def _constant(row: Any) -> float:
    """What always the most frequent class reaches."""
    judged_on_accuracy = _metric(row) is METRICS["robust"]
    return float(row.floor.accuracy if judged_on_accuracy else row.floor.balanced_accuracy)


def _interval(row: Any) -> tuple[float, float]:
    metric = _metric(row)
    return getattr(row, metric.worst_low), getattr(row, metric.worst_high)


def _said(row: Any) -> str:
    """A victim's figures."""
    metric, (low, high) = _metric(row), _interval(row)
    worst, clean = getattr(row, metric.worst), getattr(row, metric.clean)
    doubt = DOUBTFUL if row.trust == "doubtful" else ""
    return f"`{row.model}` {worst:.3f}{doubt} [{low:.3f}, {high:.3f}] of {clean:.3f}"


def _highest(rows: pd.DataFrame) -> Any:
    """The row whose worst case is highest."""
    return max(each(rows), key=lambda row: (getattr(row, _metric(row).worst), row.model))


def _most(groups: Sequence[pd.DataFrame]) -> list[str]:
    """Of which victims most is left, in how many settings."""
    tops = [_highest(group) for group in groups]
    counts = Counter(row.model for row in tops)
    above = sum(not row.is_below_floor for row in tops)
    named = [f"`{model}` in {n} of {len(tops)} settings" for model, n in counts.most_common()]
    return [
        f"- **Most is left** of {_and(named)}, above the constant answer in {above} of {len(tops)}."
    ]


def _duel(groups: Sequence[pd.DataFrame], mine: Any, others: Any, title: str) -> list[str]:
    """The best of some undefended models beside the best of others, over all settings that have
    both.
    """
    verdicts = [
        _verdict(_highest(left), _highest(right))
        for left, right in ((_plain(group, mine), _plain(group, others)) for group in groups)
        if len(left) and len(right)
    ]
    if not verdicts:
        return []
    counts = Counter(verdicts)
    told = [f"{verdict} in {n} of {len(verdicts)} settings" for verdict, n in counts.most_common()]
    return [f"- **{title}**: {'; '.join(told)}."]


def _plain(group: pd.DataFrame, models: Any) -> pd.DataFrame:
    """The rows of some models without a defence."""
    return group[(group.defense == "none") & group.family.isin(models)]


def _table(groups: Sequence[pd.DataFrame]) -> list[str]:
    """The same figures, a row a setting."""
    columns = {"best fusion baseline": FUSION, "`mail`": ["mail"], "`robust-mail`": ["robust-mail"]}
    titles = ["data", "radius", CONSTANT, *columns]
    found = ["| " + " | ".join(titles) + " |", "|---|---|---:" + "|---" * len(columns) + "|"]
    for group in groups:
        first = next(each(group))
        rows = [_plain(group, models) for models in columns.values()]
        cells = [_said(_highest(mine)) if len(mine) else "-" for mine in rows]
        constant = f"{_constant(first):.3f}"
        found.append(f"| {first.data} | {first.eps} | {constant} | {' | '.join(cells)} |")
    return found


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
    constant = _constant(next(each(rows)))
    axis.axvline(constant, color="0.4", linestyle="--", linewidth=1, label=CONSTANT)
    axis.set(
        yticks=range(len(order)),
        yticklabels=order,
        ylim=(-0.7, len(order) - 0.4),
        xlim=(-0.02, 1.02),
        xlabel=metric.name.removeprefix("robust "),
        title=title,
    )
