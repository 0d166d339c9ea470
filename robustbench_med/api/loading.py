"""Data, victims and trainings from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from robustbench_med import parsing
from robustbench_med.api.asking import asked, job_of, random_states_kept
from robustbench_med.data import Dataset
from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError, nearest
from robustbench_med.runs import checks, entries, packages, spec, victims
from robustbench_med.runs import train as trainings
from robustbench_med.runs.device import choose_device
from robustbench_med.runs.session import load_one
from robustbench_med.runs.wording import in_python
from robustbench_med.store import loggers, tracking
from robustbench_med.training.checkpoints import Checkpoint

FILES = ("data_root", "accept_unverified")
VICTIM = (
    "defense",
    "defense_params",
    "checkpoint",
    "checkpoint_part",
    "checkpoint_map",
    "train",
)
"""What `load_model` takes besides: where data lie, and what the victim is."""


def load_data(
    name: str = "phantoms",
    *,
    preset: str = "quick",
    size: int | None = None,
    fold: tuple[int, int] | None = None,
    data_root: Path | str | None = None,
    accept_unverified: bool = False,
) -> Dataset:
    """A data set or pairing `a+b`, at a preset's image size and channels.

    Args:
        name: an id (`medrobust data list`), a pairing, a path to a YAML card, or one of your own
            (`register`).
        preset: sizes, as `medrobust models` shows them.
        size: pixels of a side, instead of the preset's.
        fold: (k, n): fold k, from 0, of a grouped n-fold cross-validation, instead of the usual
            split.
        data_root: folder that holds the data sets on disk.
        accept_unverified: use a file whose md5 is not the published one.

    Returns:
        The data set; `dataset.splits["test"].batch(range(8))` are M float32 tensors (8, C_m, S, S)
        in [0, 1].

    Raises:
        UserError: an unknown name, missing or unreadable files.

    Example:
        >>> data = load_data("phantoms")
        >>> mri, xray = data.splits["test"].batch(range(4))
    """
    files = {"data_root": data_root, "accept_unverified": accept_unverified}
    packages.load()
    with in_python(), random_states_kept():
        job = job_of(files, quiet=True)
        return load_one(name, preset, size, Preprocessing(), job, fold=fold)


def load_model(
    name: str,
    *,
    data: Dataset | str = "phantoms",
    preset: str = "quick",
    params: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
    **options: Any,
) -> nn.Module:
    """A trained victim, ready for attack; from the cache or the zoo, else trained now.

    Args:
        name: a model of `medrobust models`; or the id of an entry of the shipped leaderboard, or an
            entry's JSON file, whose data, defence, parameters and weights are taken.
        data: what it is trained on: a data set of `load_data` with the same preset, or of
            `make_data` with parts to train and validate on, or a name.
        params, recipe: constructor arguments; training settings, e.g. `{"epochs": 30}`.
        seed: seed of the training.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.
        **options: `defense`, a defence or chain such as "pgd-at+jpeg", with `defense_params`;
            `checkpoint`, weights in place of a training (`checkpoint_part`, `checkpoint_map`);
            `train=False`, yours as it is built; where `data` is a name, `data_root` and
            `accept_unverified` as in `load_data`.

    Returns:
        A module in evaluation mode without parameter gradients: M tensors (B, C_m, S, S) in [0, 1]
        in, a tuple of logits (B, classes_t) out, one a task.

    Raises:
        UserError: an unknown model, defence, parameter or option, weights that do not fit.

    Example:
        >>> model = load_model("late", data="phantoms", defense="jpeg")
    """
    files = {key: options.pop(key) for key in FILES if key in options}
    if entries.is_entry(name):
        more, given = bool(params or recipe or options), None if isinstance(data, str) else data
        with in_python(), random_states_kept():
            job = job_of(files, quiet=quiet)
            return entries.load(name, given, choose_device(device), job, more=more)
    check_options(options, files, data)
    dataset = load_data(data, preset=preset, **files) if isinstance(data, str) else data
    described = {
        "model": name,
        "data": dataset.name,
        "preset": preset,
        "model_params": dict(params or {}),
        "recipe": dict(recipe or {}),
        **options,
    }
    packages.load()
    with in_python(), random_states_kept():
        victim = parsing.validate(spec.VictimsSpec, described, "load_model")
        checks.check_victims(victim)
        display = job_of({}, quiet=quiet).display
        return victims.load_module(victim, dataset, seed, choose_device(device), display)


def check_options(
    options: Mapping[str, Any], files: Mapping[str, Any], data: Dataset | str
) -> None:
    """Raises UserError for an option that `load_model` does not have, or that belongs elsewhere."""
    for option in options:
        if option not in VICTIM:
            raise UserError(
                f"load_model: unknown option {option!r}; {nearest(option, (*VICTIM, *FILES))}"
            )
    if files and not isinstance(data, str):
        raise UserError(f"load_model: {', '.join(files)} belongs to load_data, which made the data")


def train(
    model: str | Sequence[str],
    *,
    out: Path | str | None = None,
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    mlflow: str | None = None,
    tensorboard: Path | str | None = None,
    wandb: str | None = None,
    **options: Any,
) -> list[Checkpoint]:
    """Trains victims and keeps their checkpoints; what was trained before is found.

    Args:
        model: one or several models, by name or `file.py:function`.
        out: a folder that weights and sidecars are copied into too.
        device: auto, cpu, cuda or mps.
        force: train although there is a checkpoint.
        quiet: no progress bars.
        mlflow: URI of an MLflow server or store that recipe and curves are sent to.
        tensorboard: folder of TensorBoard events.
        wandb: project of Weights & Biases (offline where `WANDB_MODE=offline`).
        **options: any further field of `medrobust train`: `data` (a name, or arrays with parts to
            train and validate on), `defense`, `train_seed`, `recipe`, `preset`, `half`, ...

    Returns:
        A checkpoint a training: `path` of the weights, and `sidecar`, which holds the curves under
        "history" and the validation figures under "validation".

    Raises:
        UserError: an unknown name or option, a bad value, missing data.

    Example:
        >>> (done,) = train("late", data="phantoms", recipe={"steps": 100})
        >>> load_model("late", checkpoint=done.path)
    """
    where = {"out": None if out is None else Path(out), "device": device, "force": force}
    log = loggers.loggers_of(mlflow=mlflow, tensorboard=tensorboard, wandb=wandb)
    with asked("train", {"model": model, **options}, quiet=quiet, **where) as (wanted, job):
        loggers.check(log)
        done = trainings.train(wanted, job)
        loggers.write([tracking.of_training(each.sidecar, each.path) for each in done], log)
        return done
