"""What a run, a training or a certificate gave, as loggers take it (`loggers`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_med.naming import canonical_hash
from robustbench_med.store.certificate import Certificate
from robustbench_med.store.figures import Figures, TaskFigures
from robustbench_med.store.record import Record

RUN_FILES = ("leaderboard.csv", "cells.csv", "records.csv", "cost.csv", "robust_accuracy.png")
FIGURES = ("clean", "robust", "clean_vote", "robust_vote", "asr", "balanced_accuracy", "auc")


@dataclass(frozen=True)
class Tracked:
    """One run of a tracker: `points` are (metric, step, value), `files` its artefacts."""

    name: str
    params: dict[str, str]
    points: list[tuple[str, int, float]]
    files: tuple[Path, ...]


def of_run(records: Sequence[Record], out: Path) -> list[Tracked]:
    """One a sweep over radii; a figure's step is its largest radius in thousandths of a grey level
    (Linf) or of 1 (the other norms).
    """
    sweeps: dict[str, list[Record]] = {}
    for record in records:
        sweeps.setdefault(_sweep(record), []).append(record)
    return [_tracked(sweep, out) for sweep in sweeps.values()]


def _sweep(record: Record) -> str:
    """Everything but the scale of the radii."""
    spec, radii = record.spec.plain(), record.spec.threat.radii
    largest = max(radii) or 1.0
    spec["threat"]["radii"] = [round(radius / largest, 9) for radius in radii]
    return canonical_hash(spec)


def _tracked(sweep: Sequence[Record], out: Path) -> Tracked:
    params = _params(sweep)
    files = tuple(path for file in RUN_FILES if (path := out / file).exists())
    points = [point for record in sweep for point in _points(record)]
    return Tracked(_name(sweep), params, points, files)


def _params(sweep: Sequence[Record]) -> dict[str, str]:
    """The specification, its radii those of the whole sweep."""
    first = sweep[0]
    spec = first.spec.plain()
    del spec["threat"]
    return _flat(spec) | {
        "norm": first.spec.threat.norm_label,
        "target": "+".join(first.targets),
        "records": " ".join(record.short for record in sweep),
        "eps": " ".join(record.eps for record in sweep),
    }


def _name(sweep: Sequence[Record]) -> str:
    first, last = sweep[0], sweep[-1]
    spec = first.spec
    swept, key = first.eps, first.hash
    if len(sweep) > 1:
        swept = f"{first.eps} to {last.eps}"
        key = canonical_hash({"records": [record.hash for record in sweep]})
    return (
        f"{spec.victim.model} {spec.attack.name} {spec.threat.norm_label} {swept} {spec.data.name}"
        f" {key[:8]}"
    )


def _points(record: Record) -> list[tuple[str, int, float]]:
    """The figures of a record and of each of its tasks, at the step of its largest radius."""
    scale = 1000 * (255 if record.spec.threat.norm == "Linf" else 1)
    step = round(scale * max(record.spec.threat.radii))
    points = [(key, step, value) for key, value in _figures(record.figures)]
    for task, figures in zip(record.names.tasks, record.figures.tasks, strict=True):
        points += [(f"{metric_name(task)}/{key}", step, value) for key, value in _figures(figures)]
    return points


def _figures(figures: Figures | TaskFigures) -> list[tuple[str, float]]:
    shares = [(key, getattr(figures, key)) for key in FIGURES]
    points = [(key, float(share)) for key, share in shares if share is not None]
    intervals = {"clean": figures.clean_interval, "robust": figures.robust_interval}
    for key, (low, high) in intervals.items():
        points += [(f"{key}_low", low), (f"{key}_high", high)]
    return points


def of_training(sidecar: Mapping[str, Any], weights: Path | None = None) -> Tracked:
    """A training: its recipe, its curves by optimiser step, its validation figures at the last one.

    Args:
        sidecar: what stands beside the weights.
        weights: their file; None: it is not sent along.
    """
    training = sidecar["training"]
    points = [
        (metric_name(key), int(entry["step"]), float(value))
        for entry in sidecar["history"]
        for key, value in entry.items()
        if key != "step"
    ]
    last = max((int(entry["step"]) for entry in sidecar["history"]), default=0)
    for figures in sidecar["validation"]:
        points += [
            (f"{metric_name(str(figures['task']))}/validation_{key}", last, float(figures[key]))
            for key in ("accuracy", "balanced_accuracy")
        ]
    name = f"train {training['model']} {training['data']} {sidecar['weights_sha256'][:8]}"
    params = _flat(training) | {"weights_sha256": sidecar["weights_sha256"]}
    files = () if weights is None else (weights, weights.with_suffix(".json"))
    return Tracked(name, params, points, files)


def of_certificate(certificate: Certificate) -> Tracked:
    """A certificate: the figures of each task."""
    spec = certificate.spec
    points = []
    for task in certificate.figures:
        for key in ("abstained", "certified_accuracy", "average_radius", "largest_radius"):
            points.append((f"{metric_name(task.task)}/{key}", 0, float(getattr(task, key))))
    name = (
        f"certify {spec.victim.model} sigma {spec.certificate.sigma:g} {spec.data.name}"
        f" {certificate.hash[:8]}"
    )
    return Tracked(name, _flat(spec.plain()) | {"record": certificate.short}, points, ())


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested dictionaries as `a.b.c`: text."""
    found: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{prefix}{key}.")
        else:
            found[metric_name(f"{prefix}{key}")] = (
                inner if isinstance(inner, str) else json.dumps(inner)
            )
    return found


def metric_name(name: str) -> str:
    """A name that MLflow takes: letters, digits and `_-. /`."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
