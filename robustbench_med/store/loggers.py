"""Where tracked runs go: MLflow, TensorBoard and Weights & Biases, behind one small contract. All
are extras, imported when they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from robustbench_med.errors import UserError
from robustbench_med.paths import writable_folder
from robustbench_med.store.tracking import Tracked, metric_name

EXPERIMENT = "medrobust"
"""Name of the experiment or project where none is given."""


class Logger(Protocol):
    """What takes tracked runs."""

    def check(self) -> None:
        """Refuses (UserError) an absent package, or a place that cannot be written."""

    def write(self, runs: Sequence[Tracked]) -> None:
        """Writes runs; a UserError where the other side refuses."""


@dataclass(frozen=True)
class MLflow:
    """An MLflow server or store, by its URI."""

    uri: str

    def check(self) -> None:
        """The package is there."""
        _needs("mlflow", "mlflow")

    def write(self, runs: Sequence[Tracked]) -> None:
        """One MLflow run each, with parameters, metrics and files."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing goes but to the URI
        if self.uri.startswith("file:") or "://" not in self.uri:
            # MLflow 3 wants to hear that a folder is meant
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.exceptions import MlflowException

        try:
            self._written(runs)
        except (MlflowException, OSError, ImportError) as error:
            raise UserError(f"--mlflow {self.uri}: {str(error).splitlines()[0]}") from error

    def _written(self, runs: Sequence[Tracked]) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
        for run in runs:
            started = client.create_run(experiment, run_name=run.name)
            key, now = started.info.run_id, started.info.start_time
            params = [Param(name, value[:500]) for name, value in list(run.params.items())[:100]]
            client.log_batch(key, params=params)
            for first in range(0, len(run.points), 1000):  # what one request may hold
                part = run.points[first : first + 1000]
                client.log_batch(
                    key, metrics=[Metric(name, value, now, step) for name, step, value in part]
                )
            for path in run.files:
                client.log_artifact(key, str(path))
            client.set_terminated(key)


@dataclass(frozen=True)
class TensorBoard:
    """A folder of TensorBoard events."""

    folder: Path

    def check(self) -> None:
        """The package is there, and the folder can be written."""
        _needs("tensorboard", "tensorboard")
        writable_folder(self.folder)

    def write(self, runs: Sequence[Tracked]) -> None:
        """Events of each run in a folder of its name."""
        import numpy as np
        from PIL import Image
        from torch.utils.tensorboard import SummaryWriter

        for run in runs:
            with SummaryWriter(str(self.folder / folder_name(run.name))) as writer:
                lines = [f"    {name}: {value}" for name, value in run.params.items()]
                writer.add_text("params", "\n".join(lines))
                for name, step, value in run.points:
                    writer.add_scalar(name, value, step)
                for path in run.files:
                    if path.suffix == ".png":
                        with Image.open(path) as image:
                            pixels = np.asarray(image.convert("RGB"))
                        writer.add_image(path.stem, pixels, dataformats="HWC")


@dataclass(frozen=True)
class WandB:
    """A project of Weights & Biases; where `WANDB_MODE=offline`, its files below `wandb/`."""

    project: str

    def check(self) -> None:
        """The package is there."""
        _needs("wandb", "wandb")

    def write(self, runs: Sequence[Tracked]) -> None:
        """One run each, with config, metrics and pictures."""
        import wandb

        try:
            for run in runs:
                self._written(run, wandb)
        except (wandb.Error, OSError) as error:
            raise UserError(
                f"--wandb {self.project}: {str(error).splitlines()[0]}; WANDB_MODE=offline needs no"
                " account"
            ) from error

    def _written(self, run: Tracked, wandb: Any) -> None:
        settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
        with wandb.init(
            project=self.project, name=run.name, config=run.params, settings=settings
        ) as going:
            steps: dict[int, dict[str, float]] = {}
            for name, step, value in run.points:
                steps.setdefault(step, {})[name] = value
            for step, values in sorted(steps.items()):
                going.log(values, step=step)
            for path in run.files:
                if path.suffix == ".png":
                    going.log({path.stem: wandb.Image(str(path))})


def loggers_of(
    *,
    mlflow: str | None = None,
    tensorboard: Path | str | None = None,
    wandb: str | None = None,
) -> list[Logger]:
    """The loggers that are asked for."""
    asked: list[Logger] = []
    if mlflow is not None:
        asked.append(MLflow(mlflow))
    if tensorboard is not None:
        asked.append(TensorBoard(Path(tensorboard)))
    if wandb is not None:
        asked.append(WandB(wandb))
    return asked


def check(loggers: Iterable[Logger]) -> None:
    """Refuses (UserError) loggers that could not write."""
    for logger in loggers:
        logger.check()


def write(runs: Sequence[Tracked], loggers: Iterable[Logger]) -> None:
    """Writes runs to each of the loggers."""
    for logger in loggers:
        logger.write(runs)


def folder_name(run: str) -> str:
    """Where the events of a run go: its name without anything that a path or a shell minds."""
    return metric_name(run).replace(" ", "-").replace("/", "-")


def _needs(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise UserError(f"--{extra} needs the package {package}: pip install 'medrobust[{extra}]'")
