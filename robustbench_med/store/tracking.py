"""What a run or a training gave, sent to MLflow or written as TensorBoard events; both are extras,
imported when they are asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.naming import canonical_hash
from robustbench_med.paths import writable_folder
from robustbench_med.store.figures import Figures, TaskFigures
from robustbench_med.store.record import Record

EXPERIMENT = "medrobust"
RUN_FILES = ("leaderboard.csv", "cells.csv", "records.csv", "cost.csv", "robust_accuracy.png")
FIGURES = ("clean", "robust", "clean_vote", "robust_vote", "asr", "balanced_accuracy", "auc")


@dataclass(frozen=True)
class Tracked:
    """One run of a tracker: `points` are (metric, step, value), `files` its artefacts."""

    name: str
    params: dict[str, str]
    points: list[tuple[str, int, float]]
    files: tuple[Path, ...]


def check(mlflow: str | None, tensorboard: Path | None) -> None:
    """UserError, with the pip command, where an extra that is asked for is absent or the events'
    folder cannot be written.
    """
    for extra, wanted in (("mlflow", mlflow), ("tensorboard", tensorboard)):
        if wanted is not None and find_spec(extra) is None:
            raise UserError(
                f"--{extra} needs the package {extra}: pip install 'medrobust[{extra}]'"
            )
    if tensorboard is not None:
        writable_folder(tensorboard)


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
        points += [(f"{_metric(task)}/{key}", step, value) for key, value in _figures(figures)]
    return points


def _figures(figures: Figures | TaskFigures) -> list[tuple[str, float]]:
    shares = [(key, getattr(figures, key)) for key in FIGURES]
    points = [(key, float(share)) for key, share in shares if share is not None]
    intervals = {"clean": figures.clean_interval, "robust": figures.robust_interval}
    for key, (low, high) in intervals.items():
        points += [(f"{key}_low", low), (f"{key}_high", high)]
    return points


def of_training(sidecar: Mapping[str, Any], weights: Path) -> Tracked:
    """A training: its curves by optimiser step, its validation figures at the last one. `sidecar`:
    what stands beside the weights.
    """
    training = sidecar["training"]
    points = [
        (_metric(key), int(entry["step"]), float(value))
        for entry in sidecar["history"]
        for key, value in entry.items()
        if key != "step"
    ]
    last = max((int(entry["step"]) for entry in sidecar["history"]), default=0)
    for figures in sidecar["validation"]:
        points += [
            (f"{_metric(str(figures['task']))}/validation_{key}", last, float(figures[key]))
            for key in ("accuracy", "balanced_accuracy")
        ]
    name = f"train {training['model']} {training['data']} {sidecar['weights_sha256'][:8]}"
    params = _flat(training) | {"weights_sha256": sidecar["weights_sha256"]}
    return Tracked(name, params, points, (weights, weights.with_suffix(".json")))


def write(runs: Sequence[Tracked], *, mlflow: str | None, tensorboard: Path | None) -> None:
    """Writes runs to an MLflow server or store (a URI), and as TensorBoard events below a folder.

    Raises:
        UserError: a package is absent, or MLflow refuses.
    """
    check(mlflow, tensorboard)
    if mlflow is not None:
        _to_mlflow(runs, mlflow)
    if tensorboard is not None:
        _to_tensorboard(runs, tensorboard)


def _to_mlflow(runs: Sequence[Tracked], uri: str) -> None:
    os.environ.setdefault(
        "MLFLOW_DISABLE_TELEMETRY", "true"
    )  # nothing goes anywhere but to the URI
    if uri.startswith("file:") or "://" not in uri:
        os.environ.setdefault(
            "MLFLOW_ALLOW_FILE_STORE", "true"
        )  # MLflow 3 wants to hear that a folder is meant
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
        for run in runs:
            started = client.create_run(experiment, run_name=run.name)
            key, now = started.info.run_id, started.info.start_time
            client.log_batch(
                key,
                params=[Param(name, value[:500]) for name, value in list(run.params.items())[:100]],
            )
            for first in range(0, len(run.points), 1000):  # what one request may hold
                part = run.points[first : first + 1000]
                client.log_batch(
                    key, metrics=[Metric(name, value, now, step) for name, step, value in part]
                )
            for path in run.files:
                client.log_artifact(key, str(path))
            client.set_terminated(key)
    except (MlflowException, OSError, ImportError) as error:
        raise UserError(f"--mlflow {uri}: {str(error).splitlines()[0]}") from error


def _to_tensorboard(runs: Sequence[Tracked], folder: Path) -> None:
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    for run in runs:
        with SummaryWriter(str(folder / folder_name(run.name))) as writer:
            writer.add_text(
                "params", "\n".join(f"    {name}: {value}" for name, value in run.params.items())
            )
            for name, step, value in run.points:
                writer.add_scalar(name, value, step)
            for path in run.files:
                if path.suffix == ".png":
                    with Image.open(path) as image:
                        writer.add_image(
                            path.stem, np.asarray(image.convert("RGB")), dataformats="HWC"
                        )


def folder_name(run: str) -> str:
    """Where the events of a run go: its name without anything that a path or a shell minds."""
    return _metric(run).replace(" ", "-").replace("/", "-")


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested dictionaries as `a.b.c`: text."""
    found: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{prefix}{key}.")
        else:
            found[_metric(f"{prefix}{key}")] = (
                inner if isinstance(inner, str) else json.dumps(inner)
            )
    return found


def _metric(name: str) -> str:
    """A name that MLflow takes: letters, digits and `_-. /`."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
