"""Multi-label sets: the worst case of every finding, and of the patients of whom none flipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.naming import nature
from robustbench_med.reports.columns import COLUMNS
from robustbench_med.reports.paper import Column, Table, TableCell
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

KEYS = ["model", "variant", "data", "synthetic", "size", "n", "norm", "eps", "protocol"]
NONE_FLIPPED = "no finding flipped"
"""The row of the patients; its `worst` is their share."""
NEEDED = [
    "labels",
    "clean_vote",
    "clean_rejected",
    "robust_vote",
    "robust_right",
    "robust_rejected",
]


def frame(
    records: Sequence[Record], store: Store[Record], names: Mapping[str, str]
) -> pd.DataFrame:
    """One row a victim and threat x finding, and one of its patients, over all attacks and aims:
    whatever finding they were aimed at, they are attacks within the same ball.

    Args:
        names: `families.variants` of the records.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    of_findings = {r.spec.data.samples for r in records if r.figures.unflipped is not None}
    for record in records:
        if record.spec.data.samples in of_findings:  # it may be aimed at one of them alone
            groups.setdefault(_key(record, names), []).append(record)
    rows = [
        {**dict(zip(KEYS, key, strict=True)), **row}
        for key, group in groups.items()
        if any(not record.control for record in group)
        for row in _rows([record for record in group if not record.control], store)
    ]
    found = pd.DataFrame(rows, columns=list(COLUMNS["findings"]))
    return found.sort_values([k for k in KEYS if k != "variant"], kind="stable", ignore_index=True)


def _key(record: Record, names: Mapping[str, str]) -> tuple[Any, ...]:
    spec = record.spec
    return (
        spec.victim.model,
        names[record.hash],
        spec.data.label,
        record.synthetic,
        spec.data.size,
        spec.data.n,
        spec.threat.norm_label,
        record.eps,
        spec.protocol.name,
    )


def _rows(group: Sequence[Record], store: Store[Record]) -> Iterator[dict[str, Any]]:
    by_seed: dict[tuple[Any, ...], list[Record]] = {}
    for record in group:
        seeds = record.spec.victim.train_seed, record.spec.seed, record.spec.data.fold
        by_seed.setdefault(tuple(map(str, seeds)), []).append(record)
    outcomes = {record.hash: store.arrays(record, NEEDED) for record in group}
    first = group[0]
    labels = outcomes[first.hash]["labels"]
    for t, name in enumerate(first.names.tasks):
        known = labels[:, t] >= 0
        figures = first.figures.tasks[t]
        worst = [
            statistics.worst_case(
                [outcomes[r.hash]["robust_right"][known, t : t + 1] for r in records],
                np.ones((int(known.sum()), 1)),
                records[0].draws,
            ).mean()
            for records in by_seed.values()
        ]
        areas: dict[str, list[float]] = {}
        for record in group:
            if (area := record.figures.tasks[t].auc) is not None:
                aim = f"{record.attack_label}, aim {record.target}"
                areas.setdefault(aim, []).append(area)
        lowest = min(areas, key=lambda aim: float(np.mean(areas[aim])), default=None)
        yield {
            "finding": name,
            "labelled": int(known.sum()),
            "present": int((labels[:, t] == 1).sum()),
            "clean_auc": _mean([r.figures.tasks[t].clean_auc for r in group]),
            "worst_auc": None if lowest is None else float(np.mean(areas[lowest])),
            "by": lowest or "",
            "clean": float(np.mean([r.figures.tasks[t].clean for r in group])),
            "worst": float(np.mean(worst)),
            "trivial": figures.trivial or "",
        }
    there = ((labels >= 0) & _held(outcomes[first.hash], "clean")).any(1)
    left = [_none_flipped([outcomes[r.hash] for r in records]) for records in by_seed.values()]
    yield {
        "finding": NONE_FLIPPED,
        "labelled": int(there.sum()),
        "worst": float(np.mean(left)),
        "by": "all",
        "trivial": "",
    }


def _none_flipped(outcomes: Sequence[Mapping[str, Any]]) -> float:
    """Share of the patients with a right prediction of whom no attack flipped one, by votes."""
    labels = outcomes[0]["labels"]
    right = (labels >= 0) & _held(outcomes[0], "clean")
    there = right.any(1)
    flipped = np.any([(right & ~_held(each, "robust")).any(1) for each in outcomes], 0)
    return float(1 - flipped[there].mean()) if there.any() else 0.0


def _held(outcome: Mapping[str, Any], when: str) -> NDArray[np.bool_]:
    """(n, T): whether most draws are right, or rejected, "clean" or "robust"."""
    right = outcome[f"{when}_vote"] == outcome["labels"]
    rejected = outcome.get(f"{when}_rejected")
    return right if rejected is None else right | (rejected > 0.5)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def of_shown(found: pd.DataFrame, records: Sequence[Record]) -> pd.DataFrame:
    """The rows of a frame whose victim, data and radius some records have."""
    asked = {
        (r.spec.victim.model, r.spec.data.label, r.spec.threat.norm_label, r.eps) for r in records
    }
    rows = zip(found.model, found["data"], found.norm, found.eps, strict=True)
    return found[[row in asked for row in rows]]


def _cells(row: Mapping[Any, Any]) -> list[TableCell]:
    present = "" if pd.isna(row["present"]) else f"{row['present']:.0f} of {row['labelled']}"
    figures = [row[name] for name in ("clean_auc", "worst_auc", "clean", "worst")]
    return [
        TableCell(row["finding"]),
        TableCell(present),
        *(TableCell(None if pd.isna(value) else float(value)) for value in figures),
    ]


def tables(found: pd.DataFrame) -> Iterator[Table]:
    """A table a victim and threat, findings down, AUC first."""
    for _, group in found.groupby(KEYS, sort=False):
        first: Any = group.iloc[0]
        rows = [_cells(row) for row in group.to_dict("records")]
        headings = ("finding", "present", "AUC", "worst AUC", "accuracy", "worst accuracy")
        mark = nature(first["data"], synthetic=first.synthetic)
        yield Table(
            "findings",
            f"{first.model}{f' ({first.variant})' if first.variant else ''} on"
            f" {first['data']}{mark}, {first['size']} px, {first.norm} {first.eps}, n ="
            f" {first.n}: each finding under the attack that does most harm to it; last, the share"
            " of patients of whom no attack flipped a finding",
            [*map(Column, headings)],
            rows,
        )
