"""Figures by subgroup: the columns that a card names (sex, bands of age, scanner, site), clean and
under attack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med.reports import clinical, decisions
from robustbench_med.reports.decisions import Decisions, Rate
from robustbench_med.reports.families import groups_of, variants
from robustbench_med.statistics import effective_n, wilson
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

STEM = "subgroup_"
EVERYBODY = "all"
RULE = "youden"


def frame(store: Store[Record], every: Sequence[Record]) -> pd.DataFrame:
    """subgroups.csv, of all records of a store."""
    rows = Rows(clinical.Thresholds(store.folder.parent), every)
    for record in sorted(every, key=clinical.place):
        rows.add(record, store.arrays(record, [*clinical.needed(record), *needed(record)]))
    return rows.frame()


def needed(record: Record) -> list[str]:
    """Arrays that its rows are made of besides those of `clinical.needed`."""
    return ["clean_right", "robust_right", *(f"{STEM}{name}" for name in record.names.subgroups)]


class Rows:
    """The rows of subgroups.csv, record by record in the order of `clinical.place`: a row a record
    (and `clean` once a victim), task, class and subgroup; `all` stands for all classes, and for all
    samples.

    Records made before their card named subgroups are left out.
    """

    def __init__(self, thresholds: clinical.Thresholds, every: Sequence[Record]) -> None:
        self.thresholds, self.names = thresholds, variants(every)
        self.rows: list[dict[str, Any]] = []
        self.seen = set[str]()

    def add(self, record: Record, arrays: Mapping[str, NDArray[Any]]) -> None:
        """The rows of a record; `arrays`: those `needed`, others beside them."""
        columns = [f"{STEM}{name}" for name in record.names.subgroups]
        if not columns:
            return
        key = clinical.key_of(record, self.names[record.hash])
        clean, at = clinical.clean_key(key), self.thresholds.of(record) or {}
        for when in ("robust",) if clean in self.seen else ("clean", "robust"):
            shown = clinical.attacked(record) if when == "robust" else clinical.unattacked(record)
            for t in range(len(record.names.tasks)):
                if when == "clean" or t in record.spec.threat.tasks:
                    made = Table(record, arrays, at, when, t)
                    self.rows += [key | shown | row for row in made.rows(columns)]
        self.seen.add(clean)

    def frame(self) -> pd.DataFrame:
        """The table."""
        return clinical.in_order(self.rows)


class Table:
    """The rows of one task of a record; `when`: "clean" or "robust"."""

    def __init__(
        self,
        record: Record,
        arrays: Mapping[str, NDArray[Any]],
        thresholds: Mapping[tuple[int, int], clinical.Rules],
        when: str,
        t: int,
    ) -> None:
        self.record, self.arrays, self.thresholds, self.t = record, arrays, thresholds, t
        self.labels = arrays["labels"][:, t]
        self.right = arrays[f"{when}_right"][:, t].astype(np.float64)
        self.given = arrays[f"{when}_probabilities_{t}"]
        groups = groups_of(arrays, t)
        self.groups = np.arange(len(self.labels)) if groups is None else groups

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Of everybody, then of every subgroup of every column, those of unknown cells last."""
        known = self.labels >= 0
        yield from self._of(known, EVERYBODY, EVERYBODY)
        for column in columns:
            values = self.arrays[column]
            for value in sorted(set(values.tolist()), key=lambda value: (value == "", value)):
                name = column.removeprefix(STEM)
                yield from self._of(known & (values == value), name, value or "unknown")

    def _of(self, mask: NDArray[np.bool_], column: str, value: str) -> Iterator[dict[str, Any]]:
        if not mask.any():
            return
        names = self.record.names
        where = {"task": names.tasks[self.t], "subgroup": column, "value": value}
        empty: dict[str, Any] = dict.fromkeys(("rule", "threshold"), "") | {"threshold": None}
        for rate in ("sensitivity", "specificity"):
            empty |= {f"{rate}{end}": None for end in ("", "_low", "_high")}
        yield where | {"class": EVERYBODY} | self._accuracy(mask) | empty
        for c, name in enumerate(names.classes[self.t]):
            mine = mask & (self.labels == c)
            if mine.any():
                at = empty | self._decisions(mask, c)
                yield where | {"class": name} | self._accuracy(mine) | at

    def _accuracy(self, mask: NDArray[np.bool_]) -> dict[str, Any]:
        right, groups = self.right[mask], self.groups[mask]
        rate = float(right.mean())
        low, high = wilson(rate, effective_n(right, groups))
        found = {"accuracy": rate, "accuracy_low": low, "accuracy_high": high}
        return {"samples": int(mask.sum()), "patients": len(np.unique(groups))} | found

    def _decisions(self, mask: NDArray[np.bool_], c: int) -> dict[str, Any]:
        """Sensitivity and specificity of class c at the threshold of all validation images."""
        rules = self.thresholds.get((self.t, c), {})
        if RULE not in rules:
            return {}
        threshold, _ = rules[RULE]
        positive = self.labels[mask] == c
        called = decisions.calls(self.given[mask][:, c], threshold, positive)
        made = Decisions.of(called, positive, self.groups[mask])
        found: dict[str, Any] = {"rule": RULE, "threshold": threshold}
        rates: dict[str, Rate] = {
            "sensitivity": made.sensitivity,
            "specificity": made.specificity,
        }
        for name, rate in rates.items():
            found |= {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}
        return found
