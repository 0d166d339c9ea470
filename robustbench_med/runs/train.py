"""`medrobust train`: every model on every data set."""

from __future__ import annotations

import torch

from robustbench_med.data import Dataset
from robustbench_med.errors import UserError
from robustbench_med.naming import label
from robustbench_med.parameters import check_owners, of
from robustbench_med.paths import writable_folder
from robustbench_med.runs.checks import check_defense_owners
from robustbench_med.runs.device import choose_device
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import Job, load_all, on_disk
from robustbench_med.runs.spec import TrainOptions
from robustbench_med.runs.victims import announce_trivial, obtain_checkpoint
from robustbench_med.training import defenses, presets
from robustbench_med.training.checkpoints import Checkpoint, export, open_checkpoint
from robustbench_med.training.defenses import Plan
from robustbench_med.training.spec import TrainSpec


def train(models: list[str], data: list[str], options: TrainOptions, job: Job) -> list[Checkpoint]:
    """Trains every model on every data set, or finds that it was done before; copies the files to
    `job.out` when that is given.

    Raises:
        UserError: unknown names, bad parameters, missing data, an unwritable folder.
    """
    include(options.include, job.display.say)
    device = choose_device(job.device)
    if job.out is not None:
        writable_folder(job.out)
    start = open_checkpoint(options.checkpoint) if options.checkpoint is not None else None
    if start is not None and len(models) > 1:
        raise UserError("--checkpoint belongs to one model; train them one by one")
    datasets = load_all(options, on_disk(data, job), job).values()
    plans = check_trainings(models, options)
    checkpoints = []
    for dataset in datasets:
        specs = [
            training_of(model, plan, dataset, options, start)
            for model, plan in zip(models, plans, strict=True)
        ]  # every network of a data set is built before its first training
        checkpoints += [train_one(spec, dataset, device, job) for spec in specs]
    return checkpoints


def check_trainings(models: list[str], options: TrainOptions) -> list[Plan]:
    """Refuses (UserError) unknown names, and parameters that no model or defence has.

    Returns:
        Every model with the defence.
    """
    for params in (options.params, options.recipe):
        check_owners(params, [label(model) for model in models], "model")
    check_defense_owners(options.defense_params, [options.defense])
    plans = []
    for model in models:
        plan = defenses.plan(
            model, options.defense, options.defense_params, presets.preset(options.preset)
        )
        defenses.transforms(plan.inference)
        if not options.whole_range:
            defenses.check_radii(plan)
        plans.append(plan)
    return plans


def training_of(
    model: str, plan: Plan, dataset: Dataset, options: TrainOptions, start: Checkpoint | None
) -> TrainSpec:
    """The training of one model on one data set."""
    return presets.make_spec(
        plan.model,
        dataset,
        options.preset,
        params={**plan.params, **of(options.params, label(model))},
        recipe=of(options.recipe, label(model)),
        seed=options.seed,
        half=options.half,
        layers=plan.training,
        start=start,
    )


def train_one(spec: TrainSpec, dataset: Dataset, device: torch.device, job: Job) -> Checkpoint:
    """The checkpoint of one training, and what it does on the validation split, said."""
    checkpoint = obtain_checkpoint(spec, dataset, device, job.display, fresh=job.force)
    if job.out is not None:
        checkpoint = export(checkpoint, job.out)
    announce_trivial(checkpoint, spec, job.display)
    for figures in checkpoint.sidecar["validation"]:
        job.display.say(
            f"{spec.name} on {dataset.label}, task {figures['task']}: validation accuracy"
            f" {figures['accuracy']:.3f}, balanced {figures['balanced_accuracy']:.3f}, most"
            f" predicted class {figures['most_predicted_share']:.0%}"
        )
    job.display.say(f"{spec.name}: {checkpoint.path}")
    return checkpoint
