"""The victims of a run: planned once, obtained from the cache, the zoo or a training, tried, and
kept while points of the grid need them.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import torch
from torch import nn

from robustbench_med import naming
from robustbench_med.attacks import Threat, gives
from robustbench_med.data import Dataset, Samples
from robustbench_med.data.splits import fold_label
from robustbench_med.dataspec import Fold
from robustbench_med.errors import UserError
from robustbench_med.evaluation import cost, probes
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Clean, Method, Setting, TransferSource
from robustbench_med.models import abstaining
from robustbench_med.parameters import owned
from robustbench_med.progress import Advance, Display, LazyBar
from robustbench_med.runs.commands import training_command
from robustbench_med.runs.device import BatchSize
from robustbench_med.runs.spec import ThreatsSpec, VictimPoint, VictimsSpec
from robustbench_med.runs.victim_plans import Datasets, Plans, VictimPlan
from robustbench_med.store.record import CONTROL
from robustbench_med.training import checkpoints, defenses, effort, loop, presets
from robustbench_med.training.checkpoints import Checkpoint
from robustbench_med.training.defenses import Plan
from robustbench_med.training.spec import TrainSpec


@dataclass
class LoadedVictim:
    """A loaded victim with what its records say about it."""

    spec: TrainSpec
    checkpoint: Checkpoint
    module: nn.Module
    nature: probes.Nature
    plan: Plan
    facts: dict[str, Any] = field(default_factory=dict)
    clean: dict[int, Clean] = field(default_factory=dict)
    """Clean pass by evaluation seed."""
    noise: dict[tuple[int, Threat], float] = field(default_factory=dict)
    """Robust accuracy under noise, by evaluation seed and threat."""
    surrogates: dict[tuple[int, int], nn.Module] = field(default_factory=dict)
    """Small networks that imitate it, by evaluation seed and number of answers (`rivals`)."""
    validated: set[str] = field(default_factory=set)
    """Hashes of its validations that are kept."""
    smallest: dict[str, dict[int, Any]] = field(default_factory=dict)
    """Smallest perturbations of attacks that serve several radii, by everything else that they
    depend on.
    """

    @property
    def is_deterministic(self) -> bool:
        """Whether a prediction depends on its image alone."""
        return not self.nature.stochastic and self.nature.drawing == "none"

    @property
    def as_source(self) -> TransferSource:
        """What `transfer` makes adversarials on."""
        return TransferSource(self.module, self.nature.stochastic, self.nature.drawing)

    def clean_pass(self, samples: Samples, setting: Setting, tick: Advance) -> Clean:
        """The clean pass under the seed of a setting, made once."""
        if setting.seed not in self.clean:
            self.clean[setting.seed] = clean_pass(
                self.module,
                samples,
                setting,
                tick,
                stochastic=self.nature.stochastic,
                drawing=self.nature.drawing,
            )
        return self.clean[setting.seed]

    def under_noise(self, samples: Samples, threat: Threat, setting: Setting) -> float:
        """Robust accuracy under noise of the same radius, measured once a seed and threat, after
        the clean pass.
        """
        untargeted = replace(threat, targeted=False)
        key = (setting.seed, untargeted)
        if key not in self.noise:
            outcome = attack_pass(
                self.module,
                samples,
                self.clean[setting.seed],
                untargeted,
                Method(CONTROL, {}),
                setting,
                lambda n: None,
            )
            self.noise[key] = outcome.figures["robust"]
        return self.noise[key]

    def cost(self, dataset: Dataset) -> dict[str, Any]:
        """What one sample and the training cost, measured once."""
        if not self.facts:
            asked = gives(self.module) is not None
            measured = cost.UNKNOWN if asked else cost.measure(self.module, dataset.shapes)
            self.facts.update(
                measured,
                training=effort.cost_of(self.spec, self.checkpoint),
            )
        return self.facts


class Victims:
    """Victims of a run: the current one, kept while points of the grid need it, and the sources of
    transfer attacks, each loaded once.
    """

    def __init__(
        self, spec: VictimsSpec, datasets: Datasets, device: torch.device, batch: BatchSize
    ) -> None:
        self.spec, self.datasets, self.device, self.batch = spec, datasets, device, batch
        self.source_models = spec.source if isinstance(spec, ThreatsSpec) else []
        self.plans = Plans(spec, datasets)
        self.source_plans = Plans(
            spec.model_copy(update={"checkpoint": None, "model_params": owned(spec.model_params)}),
            datasets,
        )
        self.current: tuple[tuple[str, Fold | None, str, str, int], LoadedVictim] | None = None
        self.loaded_sources: dict[tuple[str, Fold | None, str], LoadedVictim] = {}
        self.raised: dict[tuple[object, ...], tuple[BaseException, TracebackType | None]] = {}

    def plan(self, points: Iterable[VictimPoint]) -> None:
        """Plans every victim and source of a grid: what cannot be built is a UserError before the
        first training.
        """
        for point in points:
            self.plans.of(point)
            for source in self.source_points(point):
                self.source_plans.of(source)

    def of(self, point: VictimPoint) -> LoadedVictim:
        """The victim of a point; the grid has the points of a victim side by side. One that could
        not be had is not tried again: what it raised, it raises.
        """
        key = (point.data, point.fold, point.model, point.defense, point.train_seed)
        if self.current is None or self.current[0] != key:
            self.current = key, self._once(key, point, self.plans)
        return self.current[1]

    def forget(self) -> None:
        """Lets go of what is loaded, which code that raised may have left in any state."""
        self.current = None
        self.loaded_sources.clear()

    def twin(self, point: VictimPoint) -> Checkpoint | None:
        """The weights of an undefended victim beside the one that is evaluated; None where there
        are none. If the run evaluates it too it is trained for that: nothing depends on which of
        the two comes first.
        """
        spec, key = self.source_plans.of(point).spec, ("twin", point.model_dump_json())
        found = checkpoints.find(spec)
        if found is not None or key in self.raised or not self._is_of_run(point, spec):
            return found
        try:
            dataset = self.datasets[point.data, point.fold]
            return obtain_checkpoint(spec, dataset, self.device, self.batch.display)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # its own cells say so
            self.raised[key] = error, None
            return None

    def _is_of_run(self, point: VictimPoint, spec: TrainSpec) -> bool:
        """Whether a victim is in the grid, trained as `spec` says."""
        named = point.model in self.spec.model and point.defense in self.spec.defense
        return named and self.spec.checkpoint is None and self.plans.of(point).spec == spec

    def _once(self, key: tuple[object, ...], point: VictimPoint, plans: Plans) -> LoadedVictim:
        if key in self.raised:
            error, trace = self.raised[key]
            raise error.with_traceback(trace)
        try:
            return self._obtain(point, plans.of(point))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # code of the user's may end with any
            traceback.clear_frames(error.__traceback__)  # and with them what lies in memory
            self.raised[key] = error, error.__traceback__
            raise

    def sources(self, point: VictimPoint) -> list[LoadedVictim]:
        """The undefended victims that `--source` names, on the data of a point."""
        sources = []
        for source in self.source_points(point):
            key = (source.data, source.fold, source.model)
            if key not in self.loaded_sources:
                self.loaded_sources[key] = self._once(key, source, self.source_plans)
            sources.append(self.loaded_sources[key])
        return sources

    def source_points(self, point: VictimPoint) -> list[VictimPoint]:
        """The sources on the data of a point, as points."""
        return [
            VictimPoint(
                model=model, data=point.data, fold=point.fold, train_seed=0, seed=point.seed
            )
            for model in self.source_models
        ]

    def _obtain(self, point: VictimPoint, plan: VictimPlan) -> LoadedVictim:
        """Loads a victim, training it first when there is no checkpoint."""
        dataset, defended = self.datasets[point.data, point.fold], plan.defended
        test = dataset.splits["test"]
        checkpoint = plan.checkpoint
        if checkpoint is None:
            if naming.is_own(defended.model):  # a fault is said before the training, not after it
                fresh = abstaining.aware(
                    defenses.wrap(presets.build(plan.spec).eval(), defended.inference)
                )
                nature = probes.examine(fresh, test, torch.device("cpu"), point.seed)
                refuse_neighbours(defended.name, nature, self.spec)
            checkpoint = obtain_checkpoint(plan.spec, dataset, self.device, self.batch.display)
        network, checkpoint = presets.load(plan.spec, checkpoint, self.device)
        module = abstaining.aware(defenses.wrap(network, defended.inference).to(self.device))
        announce_trivial(checkpoint, plan.spec, self.batch.display)
        victim = LoadedVictim(
            plan.spec,
            checkpoint,
            module,
            probes.examine(module, test, self.device, point.seed),
            defended,
        )
        refuse_neighbours(defended.name, victim.nature, self.spec)
        box = getattr(module, "black_box", None)
        if box is not None and not victim.nature.stochastic:
            box.settle()
        self._announce_nature(victim)
        return victim

    def _announce_nature(self, victim: LoadedVictim) -> None:
        """Warns of what trying a victim found."""
        name, nature, display = victim.plan.name, victim.nature, self.batch.display
        if nature.neighbours:
            display.warn(
                f"{name}: {nature.neighbours}; evaluated in chunks of {self.spec.chunk}, its"
                " figures hold for these chunks alone"
            )
        if nature.stochastic and not getattr(victim.module, "stochastic", False):
            display.warn(
                f"{name} says it is deterministic, but passes on one input differ; it is"
                " evaluated as a random victim"
            )
        if not nature.repeatable:
            display.warn(
                f"{name} draws numbers that no seed of PyTorch, NumPy or random repeats: another"
                " run gives other figures"
            )
        if nature.rounding:
            display.say(
                f"{name}: passes on one image differ by up to {nature.rounding:.1g} of the logits'"
                " range; taken for rounding, evaluated as deterministic"
            )
        if nature.drawing == "batch" and not self.batch.auto:
            display.say(
                f"{name} is evaluated in chunks of {self.spec.chunk} whatever --batch-size says:"
                " its predictions depend on the batch"
            )


def load_module(
    spec: VictimsSpec, dataset: Dataset, seed: int, device: torch.device, display: Display
) -> nn.Module:
    """The one victim of a checked specification, trained first where there is no checkpoint.

    Args:
        dataset: what its data are.
        seed: of its training.

    Raises:
        UserError: a network that cannot be built, or weights that do not fit.
    """
    if len(spec.defense) != 1:
        raise UserError(f"one defence or chain, got {', '.join(spec.defense) or 'none'}")
    point = VictimPoint(
        model=spec.model[0],
        defense=spec.defense[0],
        data=dataset.name,
        fold=dataset.fold,
        train_seed=seed,
        seed=0,
    )
    plan = Plans(spec, {(dataset.name, dataset.fold): dataset}).of(point)
    checkpoint = plan.checkpoint or obtain_checkpoint(plan.spec, dataset, device, display)
    network, _ = presets.load(plan.spec, checkpoint, device)
    return defenses.wrap(network, plan.defended.inference).to(device)


def refuse_neighbours(name: str, nature: probes.Nature, spec: VictimsSpec) -> None:
    """Refuses (UserError) a victim whose predictions depend on their batch, unless that is
    allowed.
    """
    if nature.neighbours and not spec.allow_batch_dependent:
        raise UserError(
            f"{name} cannot be judged image by image: {nature.neighbours} (batch statistics at"
            " inference?); mend the model, or pass --allow-batch-dependent to evaluate it in"
            f" chunks of {spec.chunk}, marked and not to be trusted"
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
    spec: TrainSpec,
    dataset: Dataset,
    device: torch.device,
    display: Display,
    *,
    fresh: bool = False,
) -> Checkpoint:
    """The checkpoint of a training, with a progress bar when it has to be made; `fresh` trains even
    if it was done before.
    """
    with LazyBar(
        display,
        f"training {'+'.join((spec.name, *(layer.name for layer in spec.defense)))} on"
        f" {spec.data}{fold_label(spec.fold)}",
    ) as bar:
        make = loop.train if fresh else loop.obtain
        return make(
            spec,
            dataset,
            device,
            tick=bar,
            say=display.say,
            command=training_command(spec, dataset),
        )
