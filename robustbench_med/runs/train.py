"""The grid of `medrobust train`: every model with every defence on every data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from robustbench_med.data import Dataset
from robustbench_med.errors import UserError
from robustbench_med.naming import label
from robustbench_med.parameters import check_owners, of
from robustbench_med.paths import writable_folder
from robustbench_med.progress import Display
from robustbench_med.runs.checks import check_defense_owners
from robustbench_med.runs.device import choose_device
from robustbench_med.runs.job import Job
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import load_all, on_disk
from robustbench_med.runs.spec import TrainingsSpec
from robustbench_med.runs.victims import announce_trivial, obtain_checkpoint
from robustbench_med.training import defenses, presets
from robustbench_med.training.checkpoints import Checkpoint, export, open_checkpoint
from robustbench_med.training.spec import TrainSpec


def train(spec: TrainingsSpec, job: Job) -> list[Checkpoint]:
    """Trains every victim of a grid, or finds that it was done before; copies the files to
    `job.out` when that is given.

    Returns:
        The checkpoints: data sets outermost, then folds, models, defences and training seeds.

    Raises:
        UserError: unknown names, bad parameters, missing data, an unwritable folder; of one data
            set before its first training.
    """
    include(spec.include, job.display.say)
    device = choose_device(job.device)
    if job.out is not None:
        writable_folder(job.out)
    start = open_checkpoint(spec.checkpoint) if spec.checkpoint is not None else None
    if start is not None and len(spec.model) > 1:
        raise UserError("--checkpoint belongs to one model; train them one by one")
    checkpoints = []
    for dataset in load_all(spec, on_disk(spec.data, job), job).values():
        for training in list(trainings(spec, dataset, start)):
            checkpoint = obtain_checkpoint(training, dataset, device, job, fresh=job.force)
            if job.out is not None:
                checkpoint = export(checkpoint, job.out)
            _announce(checkpoint, training, dataset, job.display)
            checkpoints.append(checkpoint)
    return checkpoints


def trainings(
    spec: TrainingsSpec, dataset: Dataset, start: Checkpoint | None
) -> Iterator[TrainSpec]:
    """The trainings of a grid on one data set; names and parameters that do not fit are refused."""
    for params in (spec.model_params, spec.recipe):
        check_owners(params, list(map(label, spec.model)), "model")
    check_defense_owners(spec.defense_params, spec.defense)
    victims = itertools.product(dict.fromkeys(spec.model), dict.fromkeys(spec.defense))
    for model, defense in victims:
        plan = defenses.plan(model, defense, spec.defense_params, presets.preset(spec.preset))
        defenses.transforms(plan.inference)
        if not spec.whole_range:
            defenses.check_radii(plan)
        for seed in dict.fromkeys(spec.train_seed):
            yield presets.make_spec(
                plan.model,
                dataset,
                spec.preset,
                params={**plan.params, **of(spec.model_params, label(model))},
                recipe=of(spec.recipe, label(model)),
                seed=seed,
                half=spec.half,
                layers=plan.training,
                start=start,
            )


def _announce(
    checkpoint: Checkpoint, training: TrainSpec, dataset: Dataset, display: Display
) -> None:
    """Says how good a victim is on validation data, and where it lies."""
    announce_trivial(checkpoint, training, display)
    for figures in checkpoint.sidecar["validation"]:
        display.say(
            f"{training.name} on {dataset.label}, task {figures['task']}: validation accuracy"
            f" {figures['accuracy']:.3f}, balanced {figures['balanced_accuracy']:.3f}, most"
            f" predicted class {figures['most_predicted_share']:.0%}"
        )
    display.say(f"{training.name}: {checkpoint.path}")
