"""What a comparison says in plain words: which defence beats none, at what cost, and which victim
is the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from robustbench_med.reports.comparison.pairs import Pair, points
from robustbench_med.reports.tables import each, quotable

CLOSEST = 3
"""Victims not told from the best that its sentence names."""
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
    who = f"{row.model} on {row.data} ({row.norm}, {row.eps}): {row.defense}"
    if not ahead.is_decided:
        said = f"{who} cannot be told from none, no difference shown: {ahead}"
    elif ahead.difference > 0:
        said = f"{who} beats none by {ahead}"
    else:
        said = f"{who} is worse than none by {ahead}"
    costs = ", ".join(_costs(row, plain))
    return f"{said}; cost: {costs}." + _on_naive(row, plain, ahead) + _doubt(plain, row)


def _costs(row: Any, plain: Any) -> Iterator[str]:
    yield f"{points(row.clean - plain.clean)} points of clean accuracy"
    for key, what in (("training_x", "training"), ("inference_x", "inference FLOPs")):
        if pd.notna(row[key]):
            yield f"{row[key]:.1f} x {what}"


def _on_naive(row: Any, plain: Any, ahead: Pair) -> str:
    """A sentence on what a naive attack would have reported, where it differs from what is so."""
    if pd.isna(row.naive):
        return ""
    if row.worst > row.naive + CLEARLY:
        return (
            " The naive attack did more harm than those of the comparison: give them more steps"
            " before you conclude."
        )
    release = row.naive_how == "release"
    apparent = row.naive - (plain.naive if release else plain[row.naive_attack])
    if apparent <= CLEARLY:
        return ""
    naive, sound = (
        ("the release protocol", "EOT")
        if release
        else ("an attack unaware of the transform", "BPDA")
    )
    return (
        f" Its advantage under {naive}, {100 * apparent:.1f} points, {_fate(ahead, apparent)} under"
        f" {sound}."
    )


def _fate(ahead: Pair, apparent: float) -> str:
    """What becomes of an apparent gain under the sound attacks."""
    if ahead.difference > 0 and ahead.is_decided:
        return "shrinks" if ahead.difference < apparent - CLEARLY else "holds"
    return "vanishes" if ahead.difference < apparent / 2 else "is uncertain"


def _doubt(*rows: Any) -> str:
    """A sentence on those of these rows whose attack failed or whose victim is trivial, if any."""
    doubted = [f"{row.defense}: {row.worst_sign}" for row in rows if row.trust == "fail"]
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
    best = judged.iloc[int(judged.worst.argmax())]
    if best.worst == 0:
        return "nothing withstands: for every sample of every victim some attack succeeds."
    return (
        f"{best.model} with {best.defense} has the highest worst-case robust"
        f" accuracy, {best.worst:.3f} [{best.worst_low:.3f}, {best.worst_high:.3f}], at a"
        f" clean accuracy of {best.clean:.3f}."
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
            close.append(f"{other.model} with {other.defense} ({ahead})")
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
