"""The victims of a specification before they are trained or loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from robustbench_med import naming
from robustbench_med.data import Dataset, GivenData
from robustbench_med.dataspec import Fold
from robustbench_med.errors import UserError
from robustbench_med.models import abstaining, registry
from robustbench_med.models.black_box import Unasked
from robustbench_med.models.given import device_of, precision_of, takes_by_name, victim_of
from robustbench_med.parameters import of
from robustbench_med.runs.built import as_built
from robustbench_med.runs.spec import VictimPoint, VictimsSpec
from robustbench_med.training import defenses, presets
from robustbench_med.training.checkpoints import (
    Checkpoint,
    Held,
    Origin,
    known,
    model_parameters,
    open_checkpoint,
)
from robustbench_med.training.defenses import Plan
from robustbench_med.training.spec import TrainSpec

Datasets = Mapping[tuple[str, Fold | None], Dataset]
"""The data sets of a run, by name and fold."""


@dataclass(frozen=True)
class VictimPlan:
    """A victim before it is trained or loaded.

    Attributes:
        defended: the network, and what its defences change.
        spec: its training.
        checkpoint: the weights that the user names, in place of a training.
        abstains: whether it has a reject option, which none of medrobust's own has.
    """

    defended: Plan
    spec: TrainSpec
    checkpoint: Checkpoint | None
    abstains: bool = False


class Plans:
    """The victims of a specification, each network built once to see that it can be."""

    def __init__(self, spec: VictimsSpec, datasets: Datasets) -> None:
        self.spec, self.datasets = spec, datasets
        self.checkpoint = (
            open_checkpoint(spec.checkpoint, spec.reading) if spec.checkpoint is not None else None
        )
        self.plans: dict[tuple[str, Fold | None, str, str], VictimPlan] = {}

    def of(self, point: VictimPoint) -> VictimPlan:
        """The victim of a point; a network that cannot be built is a UserError."""
        key = (point.data, point.fold, point.model, point.defense)
        if key not in self.plans:
            self.plans[key] = self._plan(point)
        plan = self.plans[key]
        spec = plan.spec.model_copy(update={"seed": point.train_seed})
        if self.spec.train is False and plan.checkpoint is None and known(spec) is None:
            raise UserError(
                f"--no-train: {plan.defended.name} has no weights yet; give --checkpoint, or train"
                " it before (`medrobust train`)"
            )
        return replace(plan, spec=spec)

    def _plan(self, point: VictimPoint) -> VictimPlan:
        spec, name = self.spec, naming.label(point.model)
        defended = defenses.plan(
            point.model, point.defense, spec.defense_params, presets.preset(spec.preset)
        )
        dataset = self.datasets[point.data, point.fold]
        checkpoint: Checkpoint | None = self.checkpoint or self._held(point, defended.model)
        params = model_parameters(
            self.checkpoint,
            defended.model,
            {**defended.params, **of(spec.model_params, name)},
        )
        train_spec = presets.make_spec(
            defended.model,
            dataset,
            spec.preset,
            params=params,
            recipe=of(spec.recipe, name),
            seed=point.train_seed,
            layers=defended.training,
        )
        if checkpoint is None:
            checkpoint = as_built(train_spec, defended, train=spec.train)
        if checkpoint is None:
            presets.check_parts(dataset)
        abstains = may_abstain(train_spec, checkpoint, defended)
        return VictimPlan(defended, train_spec, checkpoint, abstains)

    def _held(self, point: VictimPoint, model: str) -> Held | None:
        """A network that is there as an object, as a victim on the data of a point."""
        given = registry.network_of(model)
        if given is None:
            return None
        dataset = self.datasets[point.data, point.fold]
        victim = victim_on(given.network, dataset)
        made_by: Origin = "black box" if isinstance(given.network, Unasked) else "object"
        if tuple(victim.class_counts) != dataset.class_counts:
            raise UserError(
                f"{model} has outputs of {victim.class_counts} classes, {dataset.name} has tasks of"
                f" {dataset.class_counts}"
            )
        return Held(Path(model), given.identity.weights_sha256, {}, module=victim, made_by=made_by)


def may_abstain(spec: TrainSpec, checkpoint: Checkpoint | None, defended: Plan) -> bool:
    """Whether a victim has a reject option, before it is trained.

    Raises:
        UserError: it has one, and stands behind an input transform.
    """
    if isinstance(checkpoint, Held):
        network = checkpoint.module
    elif spec.source_sha256:
        network = presets.build(spec)
    else:
        return False
    return abstaining.may_abstain(abstaining.aware(defenses.wrap(network, defended.inference)))


def victim_on(network: nn.Module, dataset: Dataset) -> Any:
    """A network of the user's as a victim on some data, which it is tried on.

    Raises:
        UserError: it does not take the images, or returns something else than logits.
    """
    samples = dataset.splits["test"]
    if isinstance(network, Unasked):
        few = samples.batch(range(min(2, len(samples))))
        open_classes = isinstance(dataset, GivenData) and dataset.inferred
        scored = open_classes and network.device.gives == "scores"
        counts = None if scored else dataset.class_counts
        return network.on(dataset.modalities, dataset.tasks, counts, few)
    device, precision = device_of(network), precision_of(network)
    x = [m.to(device, precision) for m in samples.batch(range(min(2, len(samples))))]
    named = isinstance(dataset, GivenData) and dataset.by_name
    by_name = named or takes_by_name(network, dataset.modalities)
    return victim_of(network, x, dataset.modalities, by_name=by_name)
