"""Tables that look inside a result: which class breaks first, and which modality breaks which
task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.naming import number_label
from robustbench_med.reports.families import (
    by_fold,
    by_training,
    effective_n,
    evaluation_seeds,
    families,
    over_trainings,
    variants,
)
from robustbench_med.reports.shared_draws import worth_of_draws
from robustbench_med.reports.tables import (
    each,
    ranked,
    row_values,
)
from robustbench_med.store.record import Record
from robustbench_med.store.words import of_family

MATRIX = [
    "data",
    "size",
    "norm",
    "protocol",
    "attack",
    "engine",
    "eps",
    "n",
    "model",
    "checkpoint",
]
"""Columns of the cross-modal table in which the cells of one matrix agree, in its order."""
Arrays = Callable[[Record, Sequence[str]], dict[str, NDArray[Any]]]
"""Reads the named per-sample arrays of a record, those it has."""


def per_class(
    records: Sequence[Record], arrays: Arrays, names: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row a cells' row x attacked task x class that occurs: clean and robust accuracy, the
    class that loses most first.

    Intervals are Wilson 95 % on the effective number of the class's samples; empty in records that
    do not say which images repeat.

    Args:
        names: `families.variants` of the records.
    """
    names = variants(records) if names is None else names
    rows: list[dict[str, Any]] = []
    for family in families(records):
        rows += _of_family(family, arrays, names[family[0].hash])
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    order = [
        "data",
        "size",
        "samples",
        "norm",
        "target",
        "protocol",
        "attack",
        "engine",
        "eps",
        "model",
        "checkpoint",
        "task",
    ]
    return frame.sort_values(order, kind="stable", ignore_index=True)


def _of_family(family: Sequence[Record], arrays: Arrays, variant: str) -> list[dict[str, Any]]:
    first, spec = family[0], family[0].spec
    units = [f"{what}_{t}" for what in ("image", "group") for t in spec.threat.tasks]
    outcomes = {
        record.hash: arrays(record, ["labels", "clean_right", "robust_right", *units])
        for record in family
    }
    key = {
        "model": spec.victim.model,
        "data": spec.data.label,
        "synthetic": first.synthetic,
        "size": spec.data.size,
        "norm": spec.threat.norm_label,
        "eps": first.eps,
        "target": first.target,
        "attack": first.attack_label,
        "engine": spec.engine,
        "protocol": spec.protocol.name,
        "trust": of_family(family).word or "",
        "samples": sum(record.spec.data.n for record in by_fold(family)),
        "checkpoint": spec.victim.checkpoint,
    }
    last = {
        "trainings": len(by_training(family)),
        "evaluation_seeds": evaluation_seeds(family),
        "variant": variant,
        **row_values(family),
    }
    rows: list[dict[str, Any]] = []
    for t in spec.threat.tasks:
        of_task = []
        for c, name in enumerate(first.names.classes[t]):
            figures = _of_class(family, outcomes, t, c)
            if figures:
                where = {"task": first.names.tasks[t], "class": name}
                of_task.append({**key, **where, **figures, **last})
        rows += sorted(of_task, key=lambda row: -row["lost"])
    return rows


def _of_class(
    family: Sequence[Record], outcomes: Mapping[str, dict[str, NDArray[Any]]], t: int, c: int
) -> dict[str, Any]:
    """Figures of class c of task t; empty where it does not occur. A fold may lack a rare class."""
    members = {name: outcome["labels"][:, t] == c for name, outcome in outcomes.items()}
    family = [record for record in family if members[record.hash].any()]
    if not family:
        return {}

    def mine(record: Record, name: str) -> NDArray[Any]:
        outcome = outcomes[record.hash][name]
        of_task = outcome if outcome.ndim == 1 else outcome[:, t]
        return np.asarray(of_task[members[record.hash]])

    def distinct(record: Record) -> int:
        return len(np.unique(mine(record, f"image_{t}")))

    def independent(record: Record) -> float:
        outcome = outcomes[record.hash]
        groups = f"group_{t}" if f"group_{t}" in outcome else f"image_{t}"
        samples = min(
            statistics.effective_n(mine(record, "robust_right"), mine(record, groups)),
            distinct(record),
        )
        return samples * worth_of_draws(record, outcome, t)

    clean = float(
        np.mean(over_trainings(family, lambda record: float(mine(record, "clean_right").mean())))
    )
    robust = float(
        np.mean(over_trainings(family, lambda record: float(mine(record, "robust_right").mean())))
    )
    repeats = all(f"image_{t}" in outcomes[record.hash] for record in family)
    low, high = (
        statistics.wilson(robust, effective_n(family, independent)) if repeats else (None, None)
    )
    return {
        "n": sum(int(members[record.hash].sum()) for record in by_fold(family)),
        "n_distinct": sum(map(distinct, by_fold(family))) if repeats else None,
        "clean": clean,
        "robust": robust,
        "robust_low": low,
        "robust_high": high,
        "lost": clean - robust,
    }


def cross_modal(records: Sequence[Record], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a model x attacked modality x task: what a perturbation of one modality alone does to
    one task.

    Made of the records whose threat gives exactly one of several modalities a radius and aims at
    exactly one task.

    Args:
        names: `families.variants` of the records.
    """
    rows = []
    crossed = [record for record in records if record.cross_modal]
    board, members = ranked(crossed, variants(records) if names is None else names)
    for row, family in zip(each(board), members, strict=True):
        first = family[0]
        (task,), radii = first.targets, first.spec.threat.radii
        m = int(np.argmax(radii))
        same = (
            "model",
            "data",
            "synthetic",
            "size",
            "norm",
            "attack",
            "engine",
            "protocol",
            "n",
            "n_distinct",
        )
        figures = (
            "clean",
            "robust",
            "robust_low",
            "robust_high",
            "balanced_accuracy",
            "auc",
            "asr",
            "trust",
            "checkpoint",
        )
        rows.append(
            {
                **{key: getattr(row, key) for key in same},
                "modality": first.names.modalities[m],
                "eps": first.spec.threat.unit_of(first.names.modalities[m])
                or number_label(radii[m]),
                "task": task,
                **{key: getattr(row, key) for key in figures},
                "lost": row.clean - row.robust,
                "variant": row.variant,
                **row_values(family),
            }
        )
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    order = [*MATRIX, "modality", "task"]
    return frame.sort_values(order, kind="stable", ignore_index=True)
