"""How long cells and trainings take: learned from like records, else from a few timed passes of the
victim, kept for each device.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import nn

from robustbench_med.attacks import APART
from robustbench_med.attacks.budget import Against, Budget
from robustbench_med.data import Dataset
from robustbench_med.evaluation import budget, cost, pace
from robustbench_med.evaluation.batching import judged_draws
from robustbench_med.evaluation.pace import Pace
from robustbench_med.evaluation.types import Method
from robustbench_med.naming import canonical_hash
from robustbench_med.paths import home, remember
from robustbench_med.runs.challenge import LEAST, SAMPLES, SHARE
from robustbench_med.runs.challengers import FRESH
from robustbench_med.runs.identity import Inputs
from robustbench_med.runs.past import Past
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.threats import effort_of, engine_of, parameters_of_cell, threat_of
from robustbench_med.store.record import CONTROL
from robustbench_med.training import loop
from robustbench_med.training.defenses import Plan
from robustbench_med.training.objective import objective
from robustbench_med.training.spec import TrainSpec
from robustbench_med.training.validation import ROBUST_VALIDATION

Basis = Literal["record", "passes"]
"""Of an estimate: a record of the same victim and attack on this device, or timed passes."""
TIMED = 16
"""Samples of a timed batch on a CPU, which is as fast with more of them."""
CHALLENGERS = 8
"""That measure what they took on fresh draws, about."""
UNKNOWN = 100
"""Gradients a sample that attacks are taken to ask for whose passes are not known."""
SIGNS = 16 * 40
"""Passes that look for signs after an attack, about: a few dozen over 16 samples."""
TO_WEIGHTS = 2
"""Seconds of a backward pass to the weights over those of one to the input alone."""


@dataclass(frozen=True)
class Estimate:
    """Seconds, and what they rest on."""

    seconds: float
    basis: Basis


@dataclass(frozen=True)
class Work:
    """What a cell takes at most, all samples together.

    Attributes:
        attack: None where the attack's passes are not known.
        besides: judging on fresh draws, challengers, signs.
    """

    attack: Budget | None
    besides: Budget

    @property
    def total(self) -> Budget | None:
        """All of it."""
        return None if self.attack is None else self.attack + self.besides


def work_of(inputs: Inputs, *, searched: bool = False) -> Work:
    """What a cell takes at most.

    Args:
        searched: another radius of the sweep has done the search.
    """
    n, victim, run = len(inputs.samples), inputs.victim, inputs.run
    draws = 1
    if victim.nature.stochastic and run.protocol == "sound":
        draws = judged_draws(run.draws, n, run.chunk, victim.nature.drawing)
    each = budget.of_method(inputs.method, against_of(inputs, min(draws, run.draws)))
    attack = None if each is None else each.times(0 if searched else n)
    besides = Budget(queries=draws * n)
    if inputs.before is not None:
        besides += Budget(queries=2 * n)  # candidates, and what was found besides them
    if inputs.challengeable:
        besides += Budget(gradients=SIGNS)
        if run.challenge:
            asked = 0 if attack is None else attack.forward + attack.backward
            besides += Budget(gradients=max(asked // SHARE, LEAST) // 2)
            besides += Budget(FRESH * SAMPLES * CHALLENGERS if draws > 1 else 0)
    return Work(attack, besides)


def against_of(inputs: Inputs, draws: int) -> Against:
    """What decides how long the attack of a cell takes."""
    threat, module = inputs.threat, inputs.victim.module
    return Against(
        draws,
        max(inputs.dataset.class_counts[t] for t in threat.tasks),
        len(threat.tasks),
        callable(getattr(module, "soft", None)),
        threat.targeted,
        len(inputs.sources),
        threat.norm,
    )


def weight_of(cell: Cell, session: Session[RunSpec]) -> int:
    """What a cell counts for in the time that a grid has left: the passes that it would take at
    most of a deterministic victim.
    """
    spec, dataset = session.spec, session.dataset(cell)
    plan, threat = (
        session.victims.plans.of(cell),
        threat_of(cell, dataset, spec, session.samples(cell)),
    )
    unaware = plan.defended.unaware
    method = Method(
        cell.attack,
        parameters_of_cell(cell, spec, stochastic=False, unaware=unaware),
        engine_of(cell.attack, spec),
        effort=effort_of(cell.attack, spec, stochastic=False, unaware=unaware),
    )
    classes = max(dataset.class_counts[t] for t in threat.tasks)
    tasks, norm = len(threat.tasks), threat.norm
    against = Against(classes=classes, tasks=tasks, sources=len(spec.source), norm=norm)
    each = budget.of_method(method, against) or Budget(gradients=UNKNOWN)
    asked = len(session.samples(cell)) * (1 + each.forward + each.backward)
    challenged = spec.challenge and cell.attack not in (CONTROL, *APART)
    return asked + (max(asked // SHARE, LEAST) if challenged else 0)


def seconds_of(work: Budget, paced: Pace) -> float:
    """Seconds of passes at a pace."""
    return work.queries * paced.forward + work.gradients * paced.gradient


# --- timed passes ---------------------------------------------------------------------------------


def kept_pace(spec: TrainSpec, plan: Plan, device: torch.device) -> Pace | None:
    """The pace of victims of this shape on this device, if it was timed before."""
    path = _pace_path(spec, plan, device)
    try:
        return Pace.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def timed_pace(
    spec: TrainSpec, plan: Plan, module: nn.Module, dataset: Dataset, device: torch.device
) -> Pace:
    """The pace of victims of this shape on this device, timed where it never was."""
    kept = kept_pace(spec, plan, device)
    if kept is not None:
        return kept
    batch = 128 if device.type == "cuda" else TIMED
    timed = pace.measure(module.to(device), dataset.shapes, batch)
    remember(_pace_path(spec, plan, device), timed.model_dump_json(indent=1))
    return timed


def _pace_path(spec: TrainSpec, plan: Plan, device: torch.device) -> Path:
    shape = {
        "model": plan.name,
        "params": spec.params,
        "source": [spec.source_sha256, spec.code],
        "size": spec.size,
        "channels": spec.channels,
        "classes": spec.class_counts,
        "layers": plan.layers,
        "device": cost.device_name(device),
        "torch": torch.__version__,
    }
    return home() / "paces" / f"{canonical_hash(shape)[:16]}.json"


def estimate(
    inputs: Inputs, work: Work, past: Past, paced: Pace | None, device: torch.device
) -> Estimate | None:
    """How long a cell takes; None where neither a record nor its passes tell."""
    seconds = past.like(inputs.spec, cost.device_name(device))
    if seconds is not None:
        return Estimate(seconds, "record")
    if work.total is None or paced is None:
        return None
    return Estimate(seconds_of(work.total, paced), "passes")


def expected(
    inputs: Inputs, past: Past, device: torch.device, *, searched: bool
) -> Estimate | None:
    """How long a cell takes as far as it is known without timing anything.

    Args:
        searched: another radius of the sweep has done the search.
    """
    paced = kept_pace(inputs.victim.spec, inputs.victim.plan, device)
    return estimate(inputs, work_of(inputs, searched=searched), past, paced, device)


# --- trainings ------------------------------------------------------------------------------------


def training_seconds(spec: TrainSpec, dataset: Dataset, paced: Pace) -> float:
    """Seconds of a training at a pace, its validations among them; it may end earlier."""
    asked = objective(spec.defense, dataset.shapes, dataset.modalities, spec.seed).passes
    steps, every = loop.lengths(spec, dataset)
    trained, validated = steps * spec.recipe.batch_size, len(dataset.splits["val"])
    checks = math.ceil(steps / every)
    attacked = trained + checks * min(validated, ROBUST_VALIDATION)
    plain = (asked.forward - asked.inner) * trained + checks * validated
    backward = max(paced.gradient - paced.forward, 0.0)
    to_weights = TO_WEIGHTS * backward * asked.backward * trained
    return seconds_of(Budget(max(plain, 0), asked.inner * attacked), paced) + to_weights


def trained_seconds(
    spec: TrainSpec,
    dataset: Dataset,
    sidecars: Iterable[Mapping[str, Any]],
    device: torch.device,
) -> float | None:
    """Seconds of a training by earlier ones of the same victim and batch on such a device, whatever
    their seeds and data; None where there is none.
    """
    steps, _ = loop.lengths(spec, dataset)
    wanted = spec.model_dump(mode="json")
    alike = ("model", "params", "size", "channels", "defense")
    rates = [
        sidecar["seconds"] / sidecar["history"][-1]["step"]
        for sidecar in sidecars
        if sidecar.get("device") == cost.device_name(device)
        and all(sidecar["training"].get(key) == wanted.get(key) for key in alike)
        and sidecar["training"]["recipe"]["batch_size"] == spec.recipe.batch_size
    ]
    return statistics.median(rates) * steps if rates else None
