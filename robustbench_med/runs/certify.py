"""Certified robustness of smoothed victims: the grid of `medrobust certify`, one immutable
certificate record a case.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from robustbench_med import statistics
from robustbench_med.attacks import SCHEME, Threat
from robustbench_med.data import Dataset, Samples
from robustbench_med.errors import UserError
from robustbench_med.evaluation import cost, probes, smoothing
from robustbench_med.evaluation.types import Setting
from robustbench_med.models.defenses import Defended
from robustbench_med.models.defenses.randomised import InputNoise
from robustbench_med.naming import canonical_hash
from robustbench_med.paths import writable_folder
from robustbench_med.runs.cell import UNREPEATABLE, one_gradient
from robustbench_med.runs.checks import check_names, sample_limit
from robustbench_med.runs.device import BatchSize, choose_device
from robustbench_med.runs.identity import identity
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import Job, announce_limit, load_all, on_disk
from robustbench_med.runs.spec import Cell, RunSpec, cells
from robustbench_med.runs.victims import Victim, Victims
from robustbench_med.store.store import CERTIFICATES, Certificate, Store
from robustbench_med.training import defenses as defense
from robustbench_med.training import presets
from robustbench_med.version import versions

JOINT = "all modalities"


def certify(
    spec: RunSpec,
    job: Job,
    *,
    sigmas: Sequence[float] = (),
    n0: int,
    n: int,
    alpha: float,
    per_modality: bool,
) -> list[Certificate]:
    """Certificates of every noise, model, defence, data set and seed; finished ones are read from
    `<out>/certificates`.

    Args:
        sigmas: standard deviations of the noise, each with victims of its own where the defence
            trains with it; empty: the defence's.
        n0, n, alpha: draws that choose the class, draws that bound its probability, and how often a
            certificate may be wrong.
        per_modality: also certify each modality alone, noised alone, the others trusted.

    Raises:
        UserError: as `runner.run`; a defence without Gaussian noise directly on the input; before
            any training.
    """
    include(spec.include, job.display.say)
    spec = spec.model_copy(
        update={"data": on_disk(spec.data, job), "attack": ["pgd"], "control": False}
    )  # a cell a victim
    levels = [
        spec.model_copy(update={"defense_params": {**spec.defense_params, "sigma": sigma}})
        for sigma in dict.fromkeys(sigmas)
    ]
    for level in levels or [spec]:
        check_names(level)
        for model, name in itertools.product(level.model, level.defense):
            check_noise(
                defense.plan(model, name, level.defense_params, presets.preset(level.preset))
            )
    if job.out is None:
        raise ValueError("certify needs an output folder")
    store = Store(writable_folder(job.out), CERTIFICATES)
    device, batch = choose_device(job.device), BatchSize(job.batch_size, job.display)
    datasets = load_all(spec, spec.data, job)
    announce_limit(spec, datasets, job)
    records = []
    for level in levels or [spec]:
        victims = Victims(level, device, job)
        for cell in cells(level):
            dataset = datasets[cell.data, cell.fold]
            victim = victims.of(cell, dataset)
            samples = dataset.splits["test"].head(sample_limit(level))
            every = tuple(range(len(dataset.modalities)))
            for noised in [every, *((m,) for m in every if per_modality and len(every) > 1)]:
                draws = {"n0": n0, "n": n, "alpha": alpha}
                records.append(
                    _certificate(
                        cell,
                        level,
                        dataset,
                        victim,
                        samples,
                        noised,
                        store,
                        device,
                        batch,
                        job,
                        draws,
                    )
                )
    return records


def _certificate(
    cell: Cell,
    spec: RunSpec,
    dataset: Dataset,
    victim: Victim,
    samples: Samples,
    noised: tuple[int, ...],
    store: Store[Certificate],
    device: torch.device,
    batch: BatchSize,
    job: Job,
    draws: dict[str, Any],
) -> Certificate:
    """The record of one victim with noise on these modalities, from the store or certified now."""
    base, sigma = unsmoothed(victim.module)
    drawing = probes.examine(base, samples, device, cell.seed).drawing
    whole = drawing == "batch"
    together = {"chunk": spec.chunk} if whole else {}
    resolved = {
        **identity(victim, dataset, samples),
        "certificate": {"sigma": sigma, "noised": list(noised), **draws, **together},
        "seed": cell.seed,
        "randomness": SCHEME,
    }
    spec_hash = canonical_hash(resolved)
    name = (
        JOINT
        if len(noised) == len(dataset.modalities)
        else dataset.modalities[noised[0]] + " alone"
    )
    label = (
        f"certificates of {victim.plan.name} on {dataset.name}, sigma {sigma:g}, noise on {name}"
    )
    if not job.force and (kept := store.kept(spec_hash, job.display.warn)) is not None:
        job.display.say(f"{label}: done before, {spec_hash[:12]}")
        return kept
    started, device_name = time.time(), cost.device_name(device)

    def work() -> smoothing.Certificates:
        with job.display.bar(label, len(samples)) as advance:
            return smoothing.certify(
                base,
                samples,
                sigma=sigma,
                noised=noised,
                **draws,
                drawing=drawing,
                setting=Setting(
                    spec.protocol, spec.draws, cell.seed, device, batch.size, chunk=spec.chunk
                ),
                tick=lambda done: advance(done, ""),
            )

    threat = Threat("L2", tuple(1.0 for _ in dataset.modalities), tuple(range(len(dataset.tasks))))
    fits = functools.partial(one_gradient, base, samples, threat, device)
    found = batch.hold(work, spec.chunk, fits) if whole else batch.fit(work)
    record = {
        "hash": spec_hash,
        "spec": resolved,
        **described(cell, dataset, samples, found),
        "noised": name,
    }
    record["notes"] = [*dataset.notes, *([] if victim.nature.repeatable else [UNREPEATABLE])]
    if victim.nature.neighbours:
        record["batch_dependent"] = victim.nature.neighbours
    record["environment"] = {
        "device": device_name,
        "versions": versions(),
        "started": started,
        "seconds": time.time() - started,
    }
    arrays = {
        "ids": np.array(samples.ids),
        "labels": samples.labels.numpy(),
        "predicted": found.predicted,
    }
    for t in range(len(dataset.tasks)):
        arrays[f"image_{t}"], arrays[f"group_{t}"] = (
            samples.label_rows[:, t],
            samples.label_groups[:, t],
        )
    arrays |= {"radius": found.radius, "p_lower": found.p_lower}
    return store.write(Certificate.of(record), arrays)


def check_noise(plan: defense.Plan) -> None:
    """Refuses (UserError) a victim whose first input transform is not Gaussian noise."""
    transforms = defense.transforms(plan.inference)
    if not transforms or not isinstance(transforms[0], InputNoise):
        raise UserError(
            f"{plan.name} cannot be certified: the first input transform must be Gaussian noise, as"
            " in --defense smoothing (trained with it), input-noise or pgd-at+input-noise"
        )


def unsmoothed(module: nn.Module) -> tuple[nn.Module, float]:
    """The network behind the noise of a victim that `check_noise` lets pass, and the noise's
    standard deviation.
    """
    assert isinstance(module, Defended)
    first, *rest = module.transforms
    assert isinstance(first, InputNoise)
    return (Defended(module.network, rest).eval() if rest else module.network), first.sigma


def described(
    cell: Cell, dataset: Dataset, samples: Samples, found: smoothing.Certificates
) -> dict[str, Any]:
    """What a certificate record says besides its spec."""
    labels = samples.labels.numpy()
    tasks = []
    for t, (name, classes) in enumerate(zip(dataset.tasks, dataset.classes, strict=True)):
        known = labels[:, t] >= 0
        right = found.predicted[known, t] == labels[known, t]
        radius = found.radius[known, t]
        given = found.predicted[known, t] != smoothing.ABSTAIN
        groups, distinct = samples.label_groups[known, t], samples.distinct_labels[t]
        why = (
            statistics.trivial(
                right.astype(float),
                found.predicted[known, t][given],
                labels[known, t],
                len(classes),
            )
            if given.any()
            else "abstains on every sample"
        )
        tasks.append(
            {
                "task": name,
                "n": int(known.sum()),
                "n_distinct": distinct,
                "n_groups": len(np.unique(groups)),
                "n_effective": min(statistics.effective_n(right.astype(float), groups), distinct),
                "abstained": float((found.predicted[known, t] == smoothing.ABSTAIN).mean()),
                "certified_accuracy": float(right.mean()),
                "average_radius": float((radius * right).mean()),
                "largest_radius": float(radius.max()),
                "trivial": why,
            }
        )
    return {
        "defense": cell.defense,
        "names": {"modalities": list(dataset.modalities), "tasks": list(dataset.tasks)},
        "synthetic": dataset.synthetic,
        "figures": tasks,
    }
