"""What a comparison says in plain words: which defence beats none, at what cost, and which victim
is the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from robustbench_med.reports.comparison.metrics import METRICS, metric_of
from robustbench_med.reports.comparison.pairs import Pair, points
from robustbench_med.reports.comparison.table import interval
from robustbench_med.reports.marks import quotable
from robustbench_med.reports.tables import each
from robustbench_med.statistics import tied

CLOSEST = 3
"""Victims not told from the best that its sentence names."""
UNDER_TRAINED = "under-trained"
"""The mark of a victim that classifies worse than it could."""
CLEARLY = 0.02
"""Differences of accuracies below this are not talked about."""


def verdict(table: pd.DataFrame, paired: Sequence[Pair]) -> list[str]:
    """What the numbers say, one sentence a defended victim, then the best one.

    Args:
        table: the rows of the comparison (`table.frame`).
        paired: its victims two by two.
    """
    return [*_on_defenses(table, paired), *_on_the_best(table, paired)]


def _on_defenses(table: pd.DataFrame, paired: Sequence[Pair]) -> Iterator[str]:
    for _, group in table.groupby(["data", "norm", "eps", "model"], sort=False):
        plain = group[group.defense == "none"].iloc[0]
        for _, row in group[group.defense != "none"].iterrows():
            ahead = _difference(row, plain, paired)
            assert ahead is not None  # victims of one model are always paired
            yield _on_defense(row, plain, ahead)


def _on_defense(row: Any, plain: Any, ahead: Pair) -> str:
    """A defended victim against the undefended one: the gain, its cost, what is naive about it."""
    who = f"{row.model} on {row.data} ({row.norm}, {row.eps}): {_named(row)}"
    none, within = _named(plain), metric_of(row).within
    higher = row if ahead.difference > 0 else plain
    if not ahead.is_decided:
        said = f"{who} cannot be told from {none}{within}, no difference shown: {ahead}"
    elif higher.is_below_floor:
        said = (
            f"{who} against {none}{within} is {ahead}, but {_named(higher)} is"
            f" {_below_floor(higher)}: that is no robustness"
        )
    elif higher is row:
        said = f"{who} beats {none}{within} by {ahead}"
    else:
        said = f"{who} is worse than {none}{within} by {ahead}"
    costs = ", ".join(_costs(row, plain))
    return f"{said}; cost: {costs}." + _on_naive(row, plain, ahead) + _doubt(plain, row)


def _named(row: Any) -> str:
    """A victim's defence, with the mark of one that classifies worse than it could."""
    return str(row.defense) + (f" ({UNDER_TRAINED})" if row.is_under_trained else "")


def _below_floor(row: Any) -> str:
    """Of a victim below the floor: which of its figures is no higher than the constant answer's."""
    below = row.worst <= row.floor_accuracy + 1e-9
    metric = METRICS["robust" if below else "balanced_accuracy"]
    return (
        f"at or below the constant answer ({metric.name} {row[metric.worst]:.3f}, constant"
        f" {row[metric.floor]:.3f})"
    )


def _costs(row: Any, plain: Any) -> Iterator[str]:
    metric = metric_of(row)
    lost = row[metric.clean] - plain[metric.clean]
    yield f"{points(lost)} points of {metric.clean_name}"
    for key, what in (("training_x", "training"), ("inference_x", "inference FLOPs")):
        if pd.notna(row[key]):
            yield f"{row[key]:.1f} x {what}"


def _on_naive(row: Any, plain: Any, ahead: Pair) -> str:
    """A sentence on what a naive attack would have reported, where it differs from what is so."""
    if pd.isna(row.naive):
        return ""
    metric = metric_of(row)
    naive_figure = row[metric.naive]
    if row[metric.worst] > naive_figure + CLEARLY:
        return (
            " The naive attack did more harm than those of the comparison: give them more steps"
            " before you conclude."
        )
    release = row.naive_how == "release"
    plain_figure = plain.get(metric.naive if release else row.naive_attack + metric.suffix)
    if pd.isna(plain_figure):  # only a search attacked it: there is nothing alike to set beside
        return ""
    apparent = naive_figure - plain_figure
    if apparent <= CLEARLY:
        return ""
    naive, sound = (
        ("the release protocol", "EOT")
        if release
        else ("an attack unaware of the transform", "BPDA")
    )
    fate = "leaves no robustness" if row.is_below_floor else _fate(ahead, apparent)
    return f" Its advantage under {naive}, {100 * apparent:.1f} points, {fate} under {sound}."


def _fate(ahead: Pair, apparent: float) -> str:
    """What becomes of an apparent gain under the sound attacks."""
    if ahead.difference > 0 and ahead.is_decided:
        return "shrinks" if ahead.difference < apparent - CLEARLY else "holds"
    return "vanishes" if ahead.difference < apparent / 2 else "is uncertain"


def _doubt(*rows: Any) -> str:
    """A sentence on those of these rows whose attack failed or whose victim is trivial, if any."""
    doubted = [f"{row.defense}: {row.why}" for row in rows if row.trust == "failed"]
    doubted += [f"{row.defense}: no better than chance on a task" for row in rows if row.is_trivial]
    return f" Do not quote it ({'; '.join(doubted)})." if doubted else ""


def _on_the_best(table: pd.DataFrame, paired: Sequence[Pair]) -> Iterator[str]:
    for (data, norm, eps), group in table.groupby(["data", "norm", "eps"], sort=False):
        if len(group) > 1:
            yield f"On {data} ({norm}, {eps}) {_best(group, paired)}"


def _best(group: pd.DataFrame, paired: Sequence[Pair]) -> str:
    judged = group[[quotable(row) for row in each(group)]]
    if judged.empty:
        return "no victim can be called the best: all are trivial, or their attacks failed."
    if judged.worst.max() == 0:
        return "nothing withstands: for every sample of every victim some attack succeeds."
    metric = metric_of(judged.iloc[0])
    robust = judged[~judged.is_below_floor.astype(bool)]
    if robust.empty:
        highest = judged.iloc[int(tied(judged[metric.worst]).argmax())]
        return (
            f"no victim is robust: {highest.model} with {_named(highest)}, the highest, is"
            f" {_below_floor(highest)}."
        )
    best = robust.iloc[int(tied(robust[metric.worst]).argmax())]
    return (
        f"{best.model} with {_named(best)} has the highest worst-case {metric.name},"
        f" {interval(best, metric)}, at a {metric.clean_name} of {best[metric.clean]:.3f}."
        + _undecided(best, judged.drop(index=best.name), paired)
    )


def _undecided(best: Any, others: pd.DataFrame, paired: Sequence[Pair]) -> str:
    """From which others the victim with the highest figure cannot be told, and with how many it was
    not paired.
    """
    close, apart = [], 0
    for _, other in others.iterrows():
        ahead = _difference(best, other, paired)
        if ahead is None:
            apart += 1
        elif not ahead.is_decided:
            close.append(f"{other.model} with {_named(other)} ({ahead})")
    more = f" and {len(close) - CLOSEST} more" if len(close) > CLOSEST else ""
    said = f" No difference is shown from {'; '.join(close[:CLOSEST])}{more}." if close else ""
    return said + (
        f" Not paired with it: {apart} of another model and another defence." if apart else ""
    )


def _difference(a: Any, b: Any, paired: Sequence[Pair]) -> Pair | None:
    """Of two rows of the table, a minus b; None where they were not paired."""
    for pair in paired:
        if (pair.data, pair.norm, pair.eps) != (a["data"], a.norm, a.eps):
            continue
        for side in (pair, pair.mirrored()):
            victims = (side.model_a, side.defense_a, side.model_b, side.defense_b)
            if victims == (a.model, a.defense, b.model, b.defense):
                return side
    return None
