"""compare.md, the whole comparison as a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustbench_med.naming import BY_INDEX, by_index
from robustbench_med.reports.comparison.entries import LeftOut
from robustbench_med.reports.comparison.metrics import METRICS
from robustbench_med.reports.comparison.pairs import Pair, points
from robustbench_med.reports.comparison.pareto import FIGURE
from robustbench_med.reports.comparison.table import GROUPED, display
from robustbench_med.reports.paper import escaped

FIGURES = re.compile(r"[-+0-9.,%/ *\[\]]*")

LEGEND = """\
Worst case: per sample the attack that hurts most (for random victims chosen on one half of the draws and measured on the
other, or one attack on every sample where that harms more). Naive: what an attack that ignores the defence would have
reported (no EOT and one draw on random victims, unaware of input transforms). AUC: under the attack that leaves least of
it. Always the most frequent class: what a constant answer reaches on the same samples, attacked or not. Where a task's
largest class holds more than 60 % of them, victims are judged on balanced accuracy. Trust: the worst sign that an attack failed,
over the attacks of a row. Training x and FLOPs x are relative to no defence, counted in passes and FLOPs; latency x is a
clock's.
"""  # noqa: E501


@dataclass(frozen=True)
class Page:
    """compare.md in its parts: what was run, the tables, and what follows from them. As text it is
    the whole page.
    """

    head: str
    tables: str
    rest: str

    def __str__(self) -> str:
        return "\n".join(
            (self.head, self.tables, self.rest, f"![Robust against clean accuracy]({FIGURE})", "")
        )


def markdown(
    table: pd.DataFrame,
    paired: Sequence[Pair],
    sentences: Sequence[str],
    *,
    command: str,
    seconds: float,
    left_out: Sequence[LeftOut] = (),
) -> Page:
    """The whole comparison as a page.

    Args:
        table: its rows (`table.frame`).
        paired: its victims two by two.
        sentences: its verdict.
        command, seconds: what made the records, and how long it took.
        left_out: what was asked for and is missing.
    """
    head = [
        "# Comparison of defences",
        "",
        f"`{command}`",
        "",
        f"{seconds / 60:.1f} minutes of this run; finished cells are kept.",
        "",
    ]
    rest = ["## Verdict", "", *_bullets(sentences), LEGEND]
    if paired:
        rest += ["## Pairs on the same samples, worst case, points of a minus b", ""]
        rest += [*_markdown_table(_pairs(paired)), ""]
    if left_out:
        rest += ["## Left out", "", *_bullets(missing(left_out))]
    return Page("\n".join(head), "\n".join(_tables(table)), "\n".join(rest))


def missing(left_out: Sequence[LeftOut]) -> list[str]:
    """A sentence for everything that was asked for and is not in the tables."""
    return [
        f"{entry.model}{' with ' + entry.defense if entry.defense else ''} is missing from"
        f" this comparison: {entry.reason}."
        + (" The defence does not suit this model." if entry.unsuited else "")
        for entry in left_out
    ]


def _tables(table: pd.DataFrame) -> list[str]:
    """The table of every data set and threat under its heading."""
    lines = []
    for (data, size, norm, eps), group in table.groupby(GROUPED, sort=False):
        first = group.iloc[0]
        synthetic = ", synthetic" if first.synthetic else ""
        synthetic += f", {BY_INDEX}" if by_index(str(data)) else ""
        heading = f"{data} ({size} px{synthetic}), {norm} {eps}, n = {first.n}, {_behind(first)}"
        lines += [
            f"## {escaped(heading)}",
            "",
            *_markdown_table(display(group)),
            "",
        ]
    return lines


def _behind(row: Any) -> str:
    """How many trainings and evaluation seeds stand behind a row."""
    return f"trainings: {row.trainings}" + (
        f", evaluation seeds of each: {row.evaluation_seeds}" if row.evaluation_seeds > 1 else ""
    )


def _pairs(paired: Sequence[Pair]) -> pd.DataFrame:
    """The pairs as people read them; a star where a difference is shown."""
    return pd.DataFrame(
        [
            {
                "data": pair.data,
                "threat": f"{pair.norm} {pair.eps}",
                "a": f"{pair.model_a} {pair.defense_a}",
                "b": f"{pair.model_b} {pair.defense_b}",
                "of": METRICS[pair.judged_on].name,
                "difference": pair.gain,
                "p": f"{pair.p:.2g}",
                "corrected": f"{pair.p_holm:.2g}{' *' if pair.is_decided else ''}",
                "accuracy": points(pair.accuracy_difference),
                "balanced accuracy": points(pair.balanced_accuracy_difference),
                "AUC": "-" if pair.auc_difference is None else points(pair.auc_difference),
            }
            for pair in paired
        ]
    )


def _bullets(lines: Sequence[str]) -> list[str]:
    return [*(f"- {line}" for line in lines), ""]


def _markdown_table(frame: pd.DataFrame) -> list[str]:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).values.tolist()]
    return ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]


def _cell(text: str) -> str:
    """Figures as they are, names as text."""
    return text if FIGURES.fullmatch(text) else escaped(text)
