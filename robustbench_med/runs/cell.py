"""The runner: expands a run to cells, obtains each victim, evaluates what the store does not hold
yet.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from robustbench_med import naming
from robustbench_med.attacks import RefusedError, Threat, View, engines, radius_free, ran
from robustbench_med.data import Dataset, Samples
from robustbench_med.errors import UserError
from robustbench_med.evaluation import cost
from robustbench_med.evaluation import signs as diagnostics
from robustbench_med.evaluation.protocol import (
    attack_pass,
    choose_goals,
    clean_pass,
    is_whole,
    single_draw,
)
from robustbench_med.evaluation.types import Clean, Method, Outcome, Setting
from robustbench_med.naming import canonical_hash, radius_label
from robustbench_med.runs.checks import (
    engine_of,
    make_threat,
    parameters_of,
    sample_limit,
)
from robustbench_med.runs.commands import command_of
from robustbench_med.runs.device import BatchSize, peak_memory_mib
from robustbench_med.runs.identity import resolve, sweep_key
from robustbench_med.runs.session import Job
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.victims import Victim, Victims
from robustbench_med.store.store import Record, Store
from robustbench_med.training import loop as training
from robustbench_med.version import versions

T = TypeVar("T")
UNREPEATABLE = "not repeatable: the victim draws numbers that no seed repeats"


def evaluate_cell(
    cell: Cell,
    spec: RunSpec,
    dataset: Dataset,
    victims: Victims,
    store: Store[Record],
    device: torch.device,
    batch: BatchSize,
    job: Job,
    position: str,
) -> Record:
    """The record of one cell, from the store or measured now."""
    victim = victims.of(cell, dataset)
    samples = dataset.splits["test"].head(sample_limit(spec))
    threat = make_threat(cell, spec, dataset)
    params = parameters_of(
        cell.attack, spec, stochastic=victim.nature.stochastic, unaware=victim.plan.unaware
    )
    teachers = victims.sources(cell, dataset) if cell.attack == "transfer" else []
    resolved = resolve(cell, spec, dataset, victim, threat, params, samples, teachers)
    spec_hash = canonical_hash(resolved)
    label = (
        f"{victim.plan.name} {cell.attack} {radius_label(threat.radii, dataset.modalities)} on"
        f" {dataset.label}"
    )
    if not job.force and (kept := store.kept(spec_hash, job.display.warn)) is not None:
        job.display.say(f"[{position}] {label}: done before, record {spec_hash[:12]}")
        return kept

    def setting() -> Setting:
        return Setting(
            spec.protocol, spec.draws, cell.seed, device, batch.size, spec.batch_draws, spec.chunk
        )

    def fitted(work: Callable[[], T], *, whole: bool = victim.nature.drawing == "batch") -> T:
        """What `work` gives in batches that memory holds."""
        if not whole:
            return batch.fit(work)
        return batch.hold(
            work,
            spec.chunk,
            functools.partial(one_gradient, victim.module, samples, threat, device),
        )

    engine = engine_of(cell.attack, spec)
    if engine != "native" and (
        reason := engines.refusal(engine, cell.attack, threat, stochastic=victim.nature.stochastic)
    ):
        raise UserError(f"{label}: the engine {engine} refuses: {reason}")
    if spec.batch_draws > 1 and getattr(victim.module, "shares_noise", False):
        raise UserError(
            f"{cell.model} draws some of its noise once a batch: draws that share a batch would not"
            " be fresh; leave out --batch-draws"
        )
    if cell.seed not in victim.clean:
        with job.display.bar(
            f"[{position}] clean pass of {victim.plan.name} on {dataset.label}", len(samples)
        ) as advance:
            victim.clean[cell.seed] = fitted(
                lambda: clean_pass(
                    victim.module,
                    samples,
                    setting(),
                    lambda n: advance(n, ""),
                    stochastic=victim.nature.stochastic,
                    drawing=victim.nature.drawing,
                )
            )
    clean = victim.clean[cell.seed]
    if not victim.facts:
        victim.facts.update(
            cost.measure(victim.module, dataset.shapes),
            training=training.cost_of(victim.spec, victim.checkpoint),
        )
    swept = engine == "native" and len(spec.eps) > 1 and radius_free(cell.attack, threat.norm)
    method = Method(
        cell.attack,
        params,
        engine,
        [teacher.as_source for teacher in teachers],
        choose_goals(str(spec.target), clean, samples, cell.seed) if threat.targeted else None,
        victim.found.setdefault(sweep_key(resolved), {}) if swept else None,
    )
    noise = (
        None
        if cell.attack == "noise"
        else fitted(lambda: noise_control(victim, samples, clean, threat, setting()))
    )
    started = time.time()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def attacked() -> Outcome:
        with job.display.bar(f"[{position}] {label}", 2 * len(samples)) as advance:
            return attack_pass(
                victim.module, samples, clean, threat, method, setting(), lambda n: advance(n, "")
            )

    try:
        outcome = fitted(attacked, whole=is_whole(victim.nature.drawing, method))
    except RefusedError as error:
        raise UserError(f"{label}: {error}") from error
    if cell.attack == "noise":
        victim.noise[cell.seed, threat] = outcome.figures["robust"]
    signs = diagnostics.of_cell(
        victim.module, samples, clean, threat, method, outcome, setting(), noise
    )
    leaning = [each.nature.neighbours for each in (victim, *teachers) if each.nature.neighbours]
    signs += [diagnostics.depends_on_batch(leaning[0])] if leaning else []
    class_counts = {dataset.tasks[t]: len(dataset.classes[t]) for t in threat.tasks}
    made = (
        ran(cell.attack, params, class_counts, stochastic=clean.draws > 1)
        if engine == "native"
        else {}
    )
    record = {
        "hash": spec_hash,
        "spec": resolved,
        "command": command_of(cell, spec, len(samples), dataset),
        "names": {
            "modalities": list(dataset.modalities),
            "tasks": list(dataset.tasks),
            "classes": [list(c) for c in dataset.classes],
        },
        "figures": outcome.figures,
        **({"attack_ran": made} if made else {}),
        "trust": diagnostics.trust(signs),
        "diagnostics": diagnostics.plain(signs),
        "stochastic": clean.stochastic,
        **({"batch_dependent": leaning[0]} if leaning else {}),
        "draws": clean.draws,
        "naive": single_draw(clean, method) or victim.plan.unaware,
        "synthetic": dataset.synthetic,
        "notes": [*dataset.notes, *([] if victim.nature.repeatable else [UNREPEATABLE])],
        "unverified": dataset.unverified,
        "repeatable": victim.nature.repeatable,
        "architecture": naming.label(victim.plan.model),
        "on_gpu": device.type != "cpu",
        "distinct_images": dict(zip(dataset.modalities, samples.distinct, strict=True)),
        "victim": {
            **victim.facts,
            "checkpoint": str(victim.checkpoint.path.name),
            "origin": victim.checkpoint.origin,
        },
        "cost": {
            **outcome.cost,
            "batch_size": batch.size,
            "peak_memory_mib": peak_memory_mib(device),
        },
        "environment": {
            "device": cost.device_name(device),
            "versions": versions(),
            "started": started,
        },
    }
    return store.write(Record.of(record), outcome.arrays)


def one_gradient(
    victim: nn.Module, samples: Samples, threat: Threat, device: torch.device, n: int
) -> None:
    """The pass that needs most memory: forward and backward of the first n samples at once."""
    some = samples.head(n)
    x = some.batch(range(len(some)))
    view = View(victim, [tuple(m.shape[1:]) for m in x])  # type: ignore[misc]
    view.gradient(view.pack(x).to(device), some.labels.to(device), replace(threat, targeted=False))


def noise_control(
    victim: Victim, samples: Samples, clean: Clean, threat: Threat, setting: Setting
) -> float:
    """Robust accuracy under noise of the same radius, measured once a victim and threat."""
    key = (setting.seed, replace(threat, targeted=False))
    if key not in victim.noise:
        outcome = attack_pass(
            victim.module, samples, clean, key[1], Method("noise", {}), setting, lambda n: None
        )
        victim.noise[key] = outcome.figures["robust"]
    return victim.noise[key]
