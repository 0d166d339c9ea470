"""The victims of a run: obtained from the cache, the zoo or a training, tried, and kept while cells
need them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from robustbench_med import naming
from robustbench_med.attacks import Threat
from robustbench_med.data import Dataset
from robustbench_med.data.splits import fold_label
from robustbench_med.dataspec import Fold
from robustbench_med.errors import UserError
from robustbench_med.evaluation import probes
from robustbench_med.evaluation.types import Clean, Source
from robustbench_med.parameters import of, owned
from robustbench_med.progress import Display, LazyBar
from robustbench_med.runs.commands import training_command
from robustbench_med.runs.session import Job
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.training import defenses as defense
from robustbench_med.training import loop as training
from robustbench_med.training import presets
from robustbench_med.training.checkpoints import Checkpoint, model_parameters, open_checkpoint
from robustbench_med.training.spec import TrainSpec


@dataclass
class Victim:
    """A loaded victim with what its records say about it."""

    spec: TrainSpec
    checkpoint: Checkpoint
    module: nn.Module
    nature: probes.Nature
    plan: defense.Plan
    facts: dict[str, Any] = field(default_factory=dict)
    clean: dict[int, Clean] = field(default_factory=dict)
    """Clean pass by evaluation seed."""
    noise: dict[tuple[int, Threat], float] = field(default_factory=dict)
    """Robust accuracy under noise, by evaluation seed and threat."""
    found: dict[str, dict[int, Any]] = field(default_factory=dict)
    """Smallest perturbations of attacks that serve several radii, by everything else that they
    depend on.
    """

    @property
    def as_source(self) -> Source:
        """What `transfer` makes adversarials on."""
        return Source(self.module, self.nature.stochastic, self.nature.drawing)


class Victims:
    """Victims of a run: the current one, kept while cells need it, and the sources of transfer
    attacks, each loaded once.
    """

    def __init__(self, spec: RunSpec, device: torch.device, job: Job) -> None:
        self.spec, self.device, self.job = spec, device, job
        self.current: tuple[tuple[str, Fold | None, str, str, int], Victim] | None = None
        self.loaded: dict[tuple[str, Fold | None, str], Victim] = {}

    def of(self, cell: Cell, dataset: Dataset) -> Victim:
        """The victim of a cell; the grid has its cells side by side."""
        key = (cell.data, cell.fold, cell.model, cell.defense, cell.train_seed)
        if self.current is None or self.current[0] != key:
            self.current = key, obtain_victim(cell, self.spec, dataset, self.device, self.job)
        return self.current[1]

    def sources(self, cell: Cell, dataset: Dataset) -> list[Victim]:
        """The undefended victims that `--source` names, on the data of a cell."""
        plain = self.spec.model_copy(
            update={"checkpoint": None, "model_params": owned(self.spec.model_params)}
        )
        for model in self.spec.source:
            if (cell.data, cell.fold, model) not in self.loaded:
                source = cell.model_copy(
                    update={"model": model, "defense": "none", "train_seed": 0}
                )
                self.loaded[cell.data, cell.fold, model] = obtain_victim(
                    source, plain, dataset, self.device, self.job
                )
        return [self.loaded[cell.data, cell.fold, model] for model in self.spec.source]


def planned(
    cell: Cell, spec: RunSpec, dataset: Dataset
) -> tuple[defense.Plan, TrainSpec, Checkpoint | None]:
    """The victim of a cell, its training, and the weights that the user names; a network that
    cannot be built is a UserError.
    """
    checkpoint = open_checkpoint(spec.checkpoint) if spec.checkpoint is not None else None
    plan = defense.plan(cell.model, cell.defense, spec.defense_params, presets.preset(spec.preset))
    name = naming.label(cell.model)
    params = model_parameters(
        checkpoint, plan.model, {**plan.params, **of(spec.model_params, name)}
    )
    train_spec = presets.make_spec(
        plan.model,
        dataset,
        spec.preset,
        params=params,
        recipe=of(spec.recipe, name),
        seed=cell.train_seed,
        layers=plan.training,
    )
    return plan, train_spec, checkpoint


def obtain_victim(
    cell: Cell, spec: RunSpec, dataset: Dataset, device: torch.device, job: Job
) -> Victim:
    """Loads the victim of a cell, training it first when there is no checkpoint."""
    plan, train_spec, checkpoint = planned(cell, spec, dataset)
    test = dataset.splits["test"]
    if checkpoint is None:
        if naming.is_own(plan.model):  # a fault is said before the training, not after it
            fresh = defense.wrap(presets.build(train_spec).eval(), plan.inference)
            refuse_neighbours(
                plan.name, probes.examine(fresh, test, torch.device("cpu"), cell.seed), spec
            )
        checkpoint = obtain_checkpoint(train_spec, dataset, device, job)
    module = defense.wrap(presets.load(train_spec, checkpoint, device), plan.inference).to(device)
    announce_trivial(checkpoint, train_spec, job.display)
    nature = probes.examine(module, test, device, cell.seed)
    refuse_neighbours(plan.name, nature, spec)
    announce_nature(plan.name, module, nature, spec, job)
    return Victim(train_spec, checkpoint, module, nature, plan)


def refuse_neighbours(name: str, nature: probes.Nature, spec: RunSpec) -> None:
    """Refuses (UserError) a victim whose predictions depend on their batch, unless that is
    allowed.
    """
    if nature.neighbours and not spec.allow_batch_dependent:
        raise UserError(
            f"{name} cannot be judged image by image: {nature.neighbours} (batch statistics at"
            " inference?); mend the model, or pass --allow-batch-dependent to evaluate it in"
            f" chunks of {spec.chunk}, marked and not to be trusted"
        )


def announce_nature(
    name: str, module: nn.Module, nature: probes.Nature, spec: RunSpec, job: Job
) -> None:
    """Warns of what trying a victim found."""
    if nature.neighbours:
        job.display.warn(
            f"{name}: {nature.neighbours}; evaluated in chunks of {spec.chunk}, its figures hold"
            " for these chunks alone"
        )
    if nature.stochastic and not getattr(module, "stochastic", False):
        job.display.warn(
            f"{name} says it is deterministic, but two passes on one input differ; it is evaluated"
            " as a random victim"
        )
    if not nature.repeatable:
        job.display.warn(
            f"{name} draws numbers that no seed of PyTorch, NumPy or random repeats: another run"
            " gives other figures"
        )
    if nature.drawing == "batch" and job.batch_size != "auto":
        job.display.say(
            f"{name} is evaluated in chunks of {spec.chunk} whatever --batch-size says: its"
            " predictions depend on the batch"
        )


def announce_trivial(checkpoint: Checkpoint, spec: TrainSpec, display: Display) -> None:
    """Warns of a victim that is no better than chance on validation data."""
    for figures in checkpoint.sidecar.get("validation", []):
        if figures["trivial"]:
            display.warn(
                f"{spec.name} on {spec.data} is no better than chance at task {figures['task']}:"
                f" {figures['trivial']} (validation); its robustness means nothing there"
            )


def obtain_checkpoint(
    spec: TrainSpec, dataset: Dataset, device: torch.device, job: Job, *, fresh: bool = False
) -> Checkpoint:
    """The checkpoint of a training, with a progress bar when it has to be made; `fresh` trains even
    if it was done before.
    """
    with LazyBar(
        job.display,
        f"training {'+'.join((spec.name, *(layer.name for layer in spec.defense)))} on"
        f" {spec.data}{fold_label(spec.fold)}",
    ) as bar:
        make = training.train if fresh else training.obtain
        return make(
            spec,
            dataset,
            device,
            tick=bar,
            say=job.display.say,
            command=training_command(spec, dataset),
        )
