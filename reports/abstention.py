"""Victims that may abstain: how much they answer, and how much of that is right, clean and under
attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from robustbench_med.reports.families import variants
from robustbench_med.store.record import Record


def frame(every: Sequence[Record]) -> pd.DataFrame:
    """abstention.csv: a row a record and attacked task, of victims with a reject option."""
    names = variants(every)
    return pd.DataFrame(
        [
            _row(record, names[record.hash], t)
            for record in sorted(every, key=_place)
            for t in record.spec.threat.tasks
            if record.figures.tasks[t].abstention is not None
        ]
    )


def _place(record: Record) -> tuple[Any, ...]:
    spec = record.spec
    return spec.data.label, spec.victim.model, record.attack_label, record.eps, record.hash


def _row(record: Record, variant: str, t: int) -> dict[str, Any]:
    spec, task = record.spec, record.figures.tasks[t]
    found = task.abstention
    assert found is not None
    row: dict[str, Any] = {
        "model": spec.victim.model,
        "variant": variant,
        "data": spec.data.label,
        "synthetic": record.synthetic,
        "size": spec.data.size,
        "n": task.n,
        "attack": record.attack_label,
        "norm": spec.threat.norm_label,
        "eps": record.eps,
        "task": record.names.tasks[t],
    }
    for when in ("clean", "robust"):
        interval = getattr(task, f"{when}_interval")
        row |= {
            f"{when}_coverage": getattr(found, f"{when}_coverage"),
            f"{when}_coverage_low": getattr(found, f"{when}_coverage_interval")[0],
            f"{when}_coverage_high": getattr(found, f"{when}_coverage_interval")[1],
            f"{when}_answered": getattr(found, f"{when}_answered"),
            f"{when}_answered_low": getattr(found, f"{when}_answered_interval")[0],
            f"{when}_answered_high": getattr(found, f"{when}_answered_interval")[1],
            f"{when}_wrong": 1 - getattr(task, when),
            f"{when}_wrong_low": 1 - interval[1],
            f"{when}_wrong_high": 1 - interval[0],
        }
    return row | {
        "trust": record.trust.word or "",
        "record": record.short,
        "checkpoint": spec.victim.checkpoint,
    }
