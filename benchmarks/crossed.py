"""Models down, defences across: the sections of docs/results.md that cross them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_med.reports import plots, style
from robustbench_med.reports.comparison import entries
from robustbench_med.reports.comparison.metrics import Metric, metric_of
from robustbench_med.reports.comparison.pairs import SIGNIFICANT, frame
from robustbench_med.reports.comparison.write import judge
from robustbench_med.reports.floors import BELOW
from robustbench_med.reports.marks import quotable
from robustbench_med.store.store import Store

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Crossed:
    """A comparison of models with defences."""

    table: pd.DataFrame
    pairs: pd.DataFrame
    models: list[str]
    defenses: list[str]

    @property
    def first(self) -> Any:
        """A row of the table: data, size and threat are those of all."""
        return self.table.iloc[0]

    @property
    def setting(self) -> str:
        """What all rows have in common, in words."""
        first = self.first
        return f"{first.data}, {first['size']} px, {first.norm} {first.eps}, n = {first.n}"

    @property
    def metric(self) -> Metric:
        """What they are judged on: balanced accuracy where a class holds most samples."""
        return metric_of(self.first)

    @property
    def cells(self) -> dict[tuple[str, str], Any]:
        """The rows of the table by model and defence."""
        return {(row.model, row.defense): row for row in self.table.itertuples()}

    def judged(self, model: str, defense: str) -> bool:
        """Whether a cell's figure can be quoted, and lies above the constant answer's."""
        row = self.cells[model, defense]
        return bool(quotable(row)) and not row.is_below_floor

    def by_model(self, column: str) -> pd.DataFrame:
        """A column of the table, models down, defences across."""
        wide = self.table.pivot(index="model", columns="defense", values=column)
        return wide.loc[self.models, self.defenses]


def crossed(folder: Path, name: str) -> list[str]:
    """Worst-case robust and clean accuracy; how often a defence beats none; draws the heat map."""
    compared = judge(entries.read(folder, Store(folder).records()).entries, folder)
    table, pairs = compared.table, frame(compared.pairs)
    study = Crossed(
        table, pairs, list(dict.fromkeys(table.model)), list(dict.fromkeys(table.defense))
    )
    heat_map(study, DOCS / "figures" / f"results-{name}.png")
    return [*cells(study), "", *(beats_none(study, defense) for defense in study.defenses[1:])]


def heat_map(study: Crossed, path: Path) -> None:
    """Worst-case figure, where it can be quoted."""
    shown = [[study.judged(m, d) for d in study.defenses] for m in study.models]
    there = pd.DataFrame(shown, study.models, study.defenses)
    title = (
        f"worst-case {study.metric.name}\n(-: trivial, below the constant answer, or the attack"
        f" failed)\n{study.setting}"
    )
    with style.styled():
        style.save(plots.matrix(study.by_model(study.metric.worst).where(there), title), path)


def cells(study: Crossed) -> list[str]:
    """The table."""
    trainings, metric = study.first.trainings, study.metric
    spread = ""
    if trainings > 1:
        deviation = ", ± standard deviation" if metric.worst == "worst" else ", mean"
        spread = f"{deviation} over {trainings} trainings"
    lines = [f"**Worst-case {metric.name} ({metric.clean_name}){spread}; {study.setting}**", ""]
    lines.append("| model | " + " | ".join(study.defenses) + " |")
    lines.append("|---" * (len(study.defenses) + 1) + "|")
    for model in study.models:
        shown = [shown_cell(study.cells[model, defense], metric) for defense in study.defenses]
        lines.append(f"| {model} | " + " | ".join(shown) + " |")
    return lines


def shown_cell(cell: Any, metric: Metric) -> str:
    """Worst-case and clean figure of one victim, and why they may not count."""
    robust, clean = getattr(cell, metric.worst), getattr(cell, metric.clean)
    deviation = ""
    if metric.worst == "worst" and not pd.isna(cell.worst_std):
        deviation = f" ± {cell.worst_std:.3f}"
    doubt = ""
    if cell.is_trivial:
        doubt = " trivial"
    elif cell.is_below_floor:
        doubt = f" {BELOW}"
    elif cell.trust in ("doubtful", "failed"):
        doubt = f" trust: {cell.trust}"
    return f"{robust:.3f}{deviation} ({clean:.3f}){doubt}"


def beats_none(study: Crossed, defense: str) -> str:
    """On how many models a defence beats none, and what it costs, in a line."""
    pairs, table = study.pairs, study.table
    against_none = (pairs.defense_a == "none") & (pairs.defense_b == defense)
    rows = pairs[against_none & (pairs.model_a == pairs.model_b)]
    judged = [
        study.judged(m, defense) and bool(quotable(study.cells[m, "none"])) for m in rows.model_a
    ]
    why = "trivial, below the constant answer, or their attack failed"
    if not any(judged):
        return f"- **{defense}**: not judged on any model: {why}."
    failed = len(judged) - sum(judged)
    left = f" ({failed} not judged: {why})" if failed else ""
    rows = rows[judged]
    kept = list(rows.model_a)
    gains = -100 * rows.difference
    sure = (rows.p_holm < SIGNIFICANT) & (rows.high < 0)
    clean = study.by_model(study.metric.clean)
    lost = 100 * (clean[defense] - clean["none"])[kept]
    training = table[table.defense == defense].training_x.median()
    naive, worst = study.metric.naive, study.metric.worst
    there = table[(table.defense == defense) & table.model.isin(kept) & table[naive].notna()]
    ignored = ""
    if not there.empty:
        ignored = (
            f" Attacks that ignore it report {there[naive].min():.3f} to {there[naive].max():.3f}"
            f" robust, those that fit it {there[worst].min():.3f} to"
            f" {there[worst].max():.3f}."
        )
    return (
        f"- **{defense}** beats none beyond doubt on {sure.sum()} of {len(rows)}"
        f" models{left}: {gains.min():+.1f} to {gains.max():+.1f} points of {study.metric.name},"
        f" {lost.min():+.1f} to {lost.max():+.1f} of {study.metric.clean_name}, {training:.1f} x"
        f" training.{ignored}"
    )
