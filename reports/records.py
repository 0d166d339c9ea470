"""Tables that go record by record or victim by victim: everything measured in long form, and what
it cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.reports.families import variants
from robustbench_med.store.figures import TaskFigures
from robustbench_med.store.parts import SHORT
from robustbench_med.store.record import Record


def long_form(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record x task x metric, with the record's hash: everything measured, for statistics
    software.
    """
    rows = []
    for record in sorted(records, key=lambda record: record.hash):
        key = _key(record)
        tasks = zip(record.names.tasks, record.figures.tasks, strict=True)
        for t, (name, figures) in enumerate(tasks):
            where = {**key, "task": name, "attacked": t in record.spec.threat.tasks}
            for metric, number in _numbers(figures):
                rows.append({**where, "metric": metric, "value": number})
    return pd.DataFrame(rows)


def _key(record: Record) -> dict[str, Any]:
    spec = record.spec
    return {
        "record": record.short,
        "model": spec.victim.model,
        "data": spec.data.label,
        "fold": spec.data.fold.number if spec.data.fold else None,
        "synthetic": record.synthetic,
        "norm": spec.threat.norm_label,
        "eps": record.eps,
        "attack": record.attack_label,
        "engine": spec.engine,
        "protocol": spec.protocol.name,
        "trust": record.trust.word or "",
        "seed": spec.seed,
        "train_seed": spec.victim.train_seed,
    }


def _numbers(figures: TaskFigures) -> Iterator[tuple[str, float]]:
    """Every number among a task's figures, by the name of its metric; those of newer versions
    too.
    """
    for metric, value in figures.plain().items():
        if metric.endswith("_interval"):
            stem = metric.removesuffix("_interval")
            yield f"{stem}_low", value[0]
            yield f"{stem}_high", value[1]
        elif isinstance(value, (int, float)):
            yield metric, value


def cost(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record: passes, seconds and memory; a clock measured some of these, so they differ
    from run to run.
    """
    rows = [
        {
            "record": record.short,
            "model": record.spec.victim.model,
            "data": record.spec.data.label,
            "attack": record.attack_label,
            "eps": record.eps,
            "parameters": record.victim.parameters,
            "gflops": record.victim.gflops,
            "gmacs": record.victim.gmacs,
            "latency_ms": record.victim.latency_ms,
            "model_memory_mib": record.victim.peak_memory_mib,
            "attack_forward_per_sample": record.cost.attack_forward_per_sample,
            "attack_backward_per_sample": record.cost.attack_backward_per_sample,
            "seconds": record.cost.seconds,
            "peak_memory_mib": record.cost.peak_memory_mib,
            "batch_size": record.cost.batch_size,
            "device": record.environment.device,
        }
        for record in sorted(records, key=lambda record: record.hash)
    ]
    return pd.DataFrame(rows)


def victims(records: Sequence[Record], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a trained victim: parameters, operations and memory of one sample, latency on CPU and
    GPU, training time.

    What a clock measured is the median over the victim's records; a device none of them ran on
    leaves its column empty.
    """
    names = variants(records) if names is None else names
    groups: dict[tuple[str, int, str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        spec = record.spec
        victim = spec.victim.model, names[record.hash], spec.victim.weights_sha256
        groups[spec.data.label, spec.data.size, *victim].append(record)
    rows = []
    for (data, size, model, variant, weights), group in sorted(groups.items()):
        first = group[0]
        rows.append(
            {
                "model": model,
                "data": data,
                "synthetic": first.synthetic,
                "size": size,
                "preset": first.spec.victim.preset,
                "checkpoint": weights[:SHORT],
                "variant": variant,
                "parameters": first.victim.parameters,
                "gflops": first.victim.gflops,
                "gmacs": first.victim.gmacs,
                "latency_cpu_ms": _median([r.victim.latency_ms for r in group if not r.on_gpu]),
                "latency_gpu_ms": _median([r.victim.latency_ms for r in group if r.on_gpu]),
                "peak_memory_mib": _median([r.victim.peak_memory_mib for r in group]),
                "training_seconds": _median(_training_seconds(group)),
                "records": len(group),
                "is_unaware": first.unaware,
            }
        )
    return pd.DataFrame(rows)


def _training_seconds(records: Sequence[Record]) -> list[float]:
    """Those that are known."""
    trainings = [record.victim.training for record in records]
    return [one.seconds for one in trainings if one is not None and one.seconds is not None]


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
