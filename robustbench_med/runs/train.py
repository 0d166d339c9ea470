"""The grid of `medrobust train`: every model with every defence on every data set."""

from __future__ import annotations

import itertools

import torch

from robustbench_med.data import Dataset
from robustbench_med.errors import UserError
from robustbench_med.naming import is_box, label
from robustbench_med.parameters import check_owners, of
from robustbench_med.paths import writable_folder
from robustbench_med.runs import packages
from robustbench_med.runs.checks import box_of, check_defense_owners
from robustbench_med.runs.device import check_threads, choose_device, threads
from robustbench_med.runs.job import Job
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import load_all, on_disk
from robustbench_med.runs.spec import TrainingsSpec
from robustbench_med.runs.victims import announce_trivial, obtain_checkpoint
from robustbench_med.training import defenses, presets
from robustbench_med.training.checkpoints import (
    Checkpoint,
    Validation,
    export,
    open_checkpoint,
)
from robustbench_med.training.defenses import Plan
from robustbench_med.training.spec import TrainSpec


def train(spec: TrainingsSpec, job: Job) -> list[Checkpoint]:
    """Trains every model with every defence and training seed on every data set, or finds that it
    was done before; copies the files to `job.out` when that is given.

    Raises:
        UserError: unknown names, bad parameters, missing data, an unwritable folder.
    """
    check_threads(job.threads)
    packages.load()
    include(spec.include, job.display.say)
    device = choose_device(job.device)
    if job.out is not None:
        writable_folder(job.out)
    start = open_checkpoint(spec.checkpoint, spec.reading) if spec.checkpoint is not None else None
    if start is not None and len(spec.model) > 1:
        raise UserError("--checkpoint belongs to one model; train them one by one")
    datasets = load_all(spec, on_disk(spec.data, job), job).values()
    plans = check_trainings(spec)
    checkpoints = []
    for dataset in datasets:
        trainings = [
            training_of(model, plan, seed, dataset, spec, start)
            for model, plan in plans
            for seed in dict.fromkeys(spec.train_seed)
        ]  # every network of a data set is built before its first training
        with threads(job.threads):
            checkpoints += [train_one(training, dataset, device, job) for training in trainings]
    return checkpoints


def check_trainings(spec: TrainingsSpec) -> list[tuple[str, Plan]]:
    """Refuses (UserError) unknown names, and parameters that no model or defence has.

    Returns:
        Every model with every defence: its name and what is trained.
    """
    for model in spec.model:
        if is_box(model) or box_of(model) is not None:
            raise UserError(
                f"{label(model)} is a black box, which has no weights to train; evaluate it (run)"
            )
    for params in (spec.model_params, spec.recipe):
        check_owners(params, [label(model) for model in spec.model], "model")
    check_defense_owners(spec.defense_params, spec.defense)
    plans = []
    victims = itertools.product(dict.fromkeys(spec.model), dict.fromkeys(spec.defense))
    for model, defense in victims:
        plan = defenses.plan(model, defense, spec.defense_params, presets.preset(spec.preset))
        defenses.transforms(plan.inference)
        if not spec.whole_range:
            defenses.check_radii(plan)
        plans.append((model, plan))
    return plans


def training_of(
    model: str,
    plan: Plan,
    seed: int,
    dataset: Dataset,
    spec: TrainingsSpec,
    start: Checkpoint | None,
) -> TrainSpec:
    """The training of one victim on one data set."""
    presets.check_parts(dataset)
    return presets.make_spec(
        plan.model,
        dataset,
        spec.preset,
        params={**plan.params, **of(spec.model_params, label(model))},
        recipe=of(spec.recipe, label(model)),
        seed=seed,
        layers=plan.training,
        start=start,
    ).model_copy(update={"half": spec.half})


def train_one(spec: TrainSpec, dataset: Dataset, device: torch.device, job: Job) -> Checkpoint:
    """The checkpoint of one training, and what it does on the validation split, said."""
    checkpoint = obtain_checkpoint(spec, dataset, device, job.display, fresh=job.force)
    if job.out is not None:
        checkpoint = export(checkpoint, job.out)
    announce_trivial(checkpoint, spec, job.display)
    for figures in checkpoint.sidecar["validation"]:
        job.display.say(
            f"{spec.name} on {dataset.label}, {figures_line(Validation.model_validate(figures))}"
        )
    job.display.say(f"{spec.name}: {checkpoint.path}")
    return checkpoint


def figures_line(figures: Validation) -> str:
    """What a victim does on a task's validation images; what is published of the test images."""
    area = "" if figures.auc is None else f", AUC {figures.auc:.3f}"
    published = figures.published
    beside = "" if published is None else f" (published of the test images, {published.result})"
    return (
        f"task {figures.task}: validation accuracy {figures.accuracy:.3f}, balanced"
        f" {figures.balanced_accuracy:.3f}{area}, most predicted class"
        f" {figures.most_predicted_share:.0%}{beside}"
    )
