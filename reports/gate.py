"""The gate: bounds on figures of a store, asked of their intervals, and one answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from robustbench_med.errors import UserError, nearest, unknown
from robustbench_med.reports import clinical, decisions
from robustbench_med.reports.decisions import Reliability
from robustbench_med.reports.families import groups_of, victim_name
from robustbench_med.reports.gate_found import Found, of_abstention, of_subgroup
from robustbench_med.reports.tables import each, named
from robustbench_med.store.record import CONTROL, Record
from robustbench_med.store.store import Store
from robustbench_med.store.words import WORDS, Word

Answer = Literal["holds", "fails", "no answer"]
On = Literal["interval", "point"]
OF_BOARD = {
    "clean": ("clean", "clean_low", "clean_high"),
    "robust": ("worst", "worst_low", "worst_high"),
    "robust_balanced": (
        "worst_balanced_accuracy",
        "worst_balanced_accuracy_low",
        "worst_balanced_accuracy_high",
    ),
}
OF_CORRUPTIONS = ("corruption", "mce", "relative_mce")
OF_CLASSES = (*clinical.NAMES, *(f"{name}95" for name in clinical.NAMES), "auroc", "auprc")
OF_TASKS = ("ece", "brier", "confidence_wrong")
OF_ABSTENTION = ("coverage", "answered")
ROBUST = "robust_"
"""Before a figure of a class or task: under the attack that leaves the worst, not clean."""
FIGURES = (
    *OF_BOARD,
    *OF_CORRUPTIONS,
    *OF_CLASSES,
    *OF_TASKS,
    *OF_ABSTENTION,
    *(f"{ROBUST}{name}" for name in (*OF_CLASSES, *OF_TASKS, *OF_ABSTENTION)),
)
RESAMPLES = 500
"""Bootstrap samples of patients behind an interval that has no formula."""


@dataclass(frozen=True)
class Bound:
    """One bound: `robust >= 0.6`, or `sensitivity@malignant >= 0.9` of a class or task alone."""

    figure: str
    of: str
    least: bool
    value: float

    @classmethod
    def read(cls, name: str, value: float, *, least: bool) -> Bound:
        """From the name and the value of `--min` (`least`) or `--max`.

        Raises:
            UserError: an unknown figure, a value that is no number, or a class where none belongs.
        """
        option = "--min" if least else "--max"
        figure, _, of = name.partition("@")
        figure = figure.strip().replace("-", "_")
        if figure not in FIGURES:
            raise unknown(f"figure of {option}", figure, FIGURES)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise UserError(f"{option} {name}: expected a number such as 0.9, got {value!r}")
        if of and figure in (*OF_BOARD, *OF_CORRUPTIONS):
            raise UserError(f"{option} {name}: {figure} is of all tasks; leave out @{of}")
        return cls(figure, of.strip(), least, float(value))

    @property
    def is_robust(self) -> bool:
        """Whether the figure is one under attack."""
        return self.figure.startswith("robust")

    def __str__(self) -> str:
        of = f"@{self.of}" if self.of else ""
        return f"{self.figure}{of} {'>=' if self.least else '<='} {self.value:g}"


@dataclass(frozen=True)
class Row:
    """One bound on one victim, data set and threat.

    Attributes:
        asked: the number that was held against the bound: an end of the interval, or the figure.
        why: of what fails or has no answer.
    """

    victim: str
    data: str
    threat: str
    bound: str
    value: float
    low: float
    high: float
    asked: float
    answer: Answer
    why: str
    record: str


@dataclass(frozen=True)
class Verdict:
    """What a gate answers: `code` 0 all bounds hold, 1 one fails, 3 no answer; `rows` say why."""

    rows: tuple[Row, ...]
    code: int

    @property
    def passed(self) -> bool:
        """Whether all bounds hold, and can be believed to."""
        return self.code == 0

    @property
    def table(self) -> pd.DataFrame:
        """A row a bound, victim and threat."""
        return pd.DataFrame([vars(row) for row in self.rows])

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        shown = self.table.to_string(index=False, float_format="%.3f", na_rep="-")
        word = {0: "passed", 1: "failed", 3: "no answer"}[self.code]
        return f"gate: {word} (exit code {self.code})\n{shown}"


@dataclass(frozen=True)
class Terms:
    """How bounds are asked.

    Attributes:
        on: of the interval (its low end for a minimum), or of the figure itself.
        trust: the least word that a robust figure needs.
        min_samples: test samples that a victim needs.
    """

    on: On = "interval"
    trust: Word = "unchallenged"
    min_samples: int = 16


def judge(
    bounds: Sequence[Bound],
    terms: Terms,
    store: Store[Record],
    records: Sequence[Record],
    shown: tuple[pd.DataFrame, pd.DataFrame],
    failures: Sequence[str] = (),
) -> Verdict:
    """The answer to bounds on records of a store.

    Args:
        records: of the run, read with their trust.
        shown: the leaderboard's rows of these records, and those of their corruptions.
        failures: cells that failed, in words.
    """
    figures = Figures(store, records, *shown)
    rows = [row for bound in bounds for row in _asked(bound, terms, figures)]
    rows += [
        Row("", "", "", "every cell", math.nan, math.nan, math.nan, math.nan, "no answer", text, "")
        for text in failures
    ]
    answers = {row.answer for row in rows}
    code = 1 if "fails" in answers else 3 if "no answer" in answers or not rows else 0
    return Verdict(tuple(rows), code)


def _asked(bound: Bound, terms: Terms, figures: Figures) -> Iterator[Row]:
    found = list(figures.of(bound))
    if not found:
        why = f"no {bound.figure} among what was run"
        yield Row("", "", "", str(bound), *(math.nan,) * 4, "no answer", why, "")
    for each_ in found:
        end = each_.low if bound.least else each_.high
        asked = end if terms.on == "interval" and math.isfinite(end) else each_.value
        answer, why = _answer(bound, terms, each_, asked)
        said = str(replace(bound, of=each_.of or bound.of))
        where = (each_.victim, each_.data, each_.threat, said)
        numbers = (each_.value, each_.low, each_.high, asked)
        yield Row(*where, *numbers, answer, why, each_.record)


def _answer(bound: Bound, terms: Terms, found: Found, asked: float) -> tuple[Answer, str]:
    if not math.isfinite(asked):
        return "no answer", found.why or "the figure is not defined on these samples"
    if asked < bound.value if bound.least else asked > bound.value:
        inside = found.value >= bound.value if bound.least else found.value <= bound.value
        return "fails", "its interval reaches beyond the bound, the figure does not" * inside
    if found.n < terms.min_samples:
        return "no answer", f"{found.n} samples, fewer than {terms.min_samples}"
    if bound.is_robust and _place(found.trust) < _place(terms.trust):
        word = found.trust or "without a word of trust"
        return "no answer", f"trust is {word}{f': {found.why}' if found.why else ''}"
    return "holds", ""


def _place(word: str) -> int:
    return WORDS.index(word) if word in WORDS else -1


class Figures:
    """The figures of a run by bound.

    Args:
        board: rows of the leaderboard.
        degraded: rows of corruption errors.
    """

    def __init__(
        self,
        store: Store[Record],
        records: Sequence[Record],
        board: pd.DataFrame,
        degraded: pd.DataFrame,
    ) -> None:
        self.store, self.records = store, records
        self.board, self.degraded = named(board), named(degraded)
        self._clinical: pd.DataFrame | None = None

    @property
    def clinical(self) -> pd.DataFrame:
        """Decisions of the run's records."""
        if self._clinical is None:
            self._clinical = clinical.frames(self.store, self.records)["clinical"]
        return self._clinical

    def of(self, bound: Bound) -> Iterator[Found]:
        """Every figure that a bound is on.

        Raises:
            UserError: a class or task that the data do not have.
        """
        name = bound.figure.removeprefix(ROBUST)
        if bound.figure in OF_BOARD:
            yield from self._of_board(bound.figure)
        elif bound.figure in OF_CORRUPTIONS:
            yield from self._of_corruptions(bound.figure)
        elif "[" in bound.of:
            how = {"robust": bound.is_robust, "least": bound.least}
            yield from of_subgroup(self.store, self.records, name, bound.of, **how)
        elif name in OF_ABSTENTION:
            yield from of_abstention(self.records, name, bound.of, robust=bound.is_robust)
        elif name in OF_CLASSES:
            yield from self._of_classes(name, bound)
        else:
            yield from self._of_tasks(name, bound)

    def _of_board(self, figure: str) -> Iterator[Found]:
        for row in each(self.board):
            value, low, high = (float(getattr(row, column)) for column in OF_BOARD[figure])
            threat = "" if figure == "clean" else f"{row.norm} {row.eps}, {row.target}"
            word, why, n = row.trust or "", row.why, int(row.n)
            yield Found(row.model, row.data, threat, "", value, low, high, n, word, why)

    def _of_corruptions(self, figure: str) -> Iterator[Found]:
        for row in each(self.degraded):
            value = 1 - row.mean_error if figure == "corruption" else getattr(row, figure)
            why = "not all severities ran, or no baseline" if math.isnan(value) else ""
            n, none = int(row.n), math.nan
            yield Found(row.model, row.data, "corruptions", "", value, none, none, n, why=why)

    def _of_classes(self, name: str, bound: Bound) -> Iterator[Found]:
        rows = self.clinical
        if rows.empty:
            return
        known = [*rows["class"].unique(), *rows.task.unique()]
        if bound.of and bound.of not in known:
            raise UserError(f"{bound}: no class or task {bound.of!r}; {nearest(bound.of, known)}")
        if bound.of:
            rows = rows[(rows["class"] == bound.of) | (rows.task == bound.of)]
        rule = f"sensitivity {clinical.SENSITIVITY}" if name.endswith("95") else "youden"
        name = name.removesuffix("95")
        rows = rows[(rows.rule == rule) | (rows.note != "")]
        if name not in ("auroc", "auprc"):
            rows = rows.assign(value=rows[name], low=rows[f"{name}_low"], high=rows[f"{name}_high"])
        else:
            rows = rows.assign(value=rows[name], low=math.nan, high=math.nan)
        for row in self._worst(rows, bound):
            record = self._record(row["record"])
            ends = row["low"], row["high"]
            if name in ("auroc", "auprc"):
                ends = self._resampled(record, row, getattr(decisions, name), row["class"])
            yield self._found(record, row, row["class"], ends)

    def _of_tasks(self, name: str, bound: Bound) -> Iterator[Found]:
        rows = clinical.frames(self.store, self.records)["calibration"]
        if rows.empty:
            return
        known = list(rows.task.unique())
        if bound.of and bound.of not in known:
            raise UserError(f"{bound}: no task {bound.of!r}; {nearest(bound.of, known)}")
        rows = rows[rows.task == bound.of] if bound.of else rows
        rows = rows.assign(value=rows[name], note="", **{"class": ""})
        for row in self._worst(rows, bound):
            record = self._record(row["record"])
            ends = self._resampled(record, row, OF_ARRAYS[name], None)
            yield self._found(record, row, row["task"], ends)

    def _worst(self, rows: pd.DataFrame, bound: Bound) -> list[dict[str, Any]]:
        """Clean rows; of robust figures the row of the attack that leaves the worst of each."""
        if not bound.is_robust:
            return _rows(rows[rows.condition == clinical.CLEAN])
        attacked = rows[rows.severity.isna() & ~rows.condition.isin((clinical.CLEAN, CONTROL))]
        own = [record.short for record in self.records if record.own_threat]
        attacked = attacked[~attacked.record.isin(own)]
        first = attacked.sort_values("value", ascending=bound.least, kind="stable")
        keys = [*clinical.VICTIM, "norm", "eps", "task", "class"]
        return _rows(first.drop_duplicates(keys).sort_index())

    def _record(self, short: str) -> Record:
        return next(record for record in self.records if record.short == short)

    def _found(
        self, record: Record, row: Mapping[str, Any], of: str, ends: tuple[float, float]
    ) -> Found:
        clean = row["condition"] == clinical.CLEAN
        threat = "" if clean else f"{row['norm']} {row['eps']}, {row['condition']}"
        victim = victim_name(row["model"], row["variant"])
        value = math.nan if row["value"] is None else float(row["value"])
        low, high = (math.nan if end is None else float(end) for end in ends)
        word = record.trust.word or ""
        why = row["note"] or (record.trust.because if word and not clean else "")
        where = victim, row["data"], threat, of
        return Found(*where, value, low, high, int(row["n"]), word, why, row["record"])

    def _resampled(
        self,
        record: Record,
        row: Mapping[str, Any],
        figure: Callable[..., float],
        positive: str | None,
    ) -> tuple[float, float]:
        """A 95 % interval of a figure by resampling patients (percentile bootstrap)."""
        t = record.names.tasks.index(row["task"])
        arrays = self.store.arrays(record, clinical.needed(record))
        known = arrays["labels"][:, t] >= 0
        labels = arrays["labels"][known, t]
        when = "clean" if row["condition"] == clinical.CLEAN else "robust"
        given = arrays[f"{when}_probabilities_{t}"][known]
        groups = groups_of(arrays, t)
        _, of = np.unique(
            np.arange(len(labels)) if groups is None else groups[known], return_inverse=True
        )
        if positive is not None:
            c = record.names.classes[t].index(positive)
            given, labels = given[:, c], labels == c
        rng = np.random.default_rng(0)
        members = [np.flatnonzero(of == group) for group in range(of.max() + 1)]
        values = []
        for _ in range(RESAMPLES):
            drawn = rng.integers(0, len(members), len(members))
            chosen = np.concatenate([members[group] for group in drawn])
            values.append(figure(given[chosen], labels[chosen]))
        finite = np.array(values)[np.isfinite(values)]
        if len(finite) < RESAMPLES / 2:
            return math.nan, math.nan
        low, high = np.quantile(finite, (0.025, 0.975))
        return float(low), float(high)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _confidence_wrong(given: Any, labels: Any) -> float:
    wrong = given.argmax(1) != labels
    return float(given[wrong].max(1).mean()) if wrong.any() else math.nan


OF_ARRAYS: Mapping[str, Callable[..., float]] = {
    "ece": lambda given, labels: Reliability.of(given, labels).ece,
    "brier": decisions.brier,
    "confidence_wrong": _confidence_wrong,
}
