"""Certified robustness of smoothed victims: the grid of `medrobust certify`, one immutable certificate record a case."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from torch import nn

from robustbench_med import cost, smoothing
from robustbench_med.data import Dataset, Samples
from robustbench_med.device import BatchSize, choose_device
from robustbench_med.errors import UserError
from robustbench_med.models.defenses import Defended
from robustbench_med.models.defenses.randomised import InputNoise
from robustbench_med.paths import writable_folder
from robustbench_med.plan import check_names, sample_limit
from robustbench_med.runner import Job, Victim, Victims, identity, load_all, on_disk
from robustbench_med.spec import Cell, RunSpec, canonical_hash, cells
from robustbench_med.store import CERTIFICATES, Record, Store
from robustbench_med.versions import versions

JOINT = "all modalities"


def certify(spec: RunSpec, job: Job, *, n0: int, n: int, alpha: float, per_modality: bool) -> list[Record]:
    """Certificates of every model, defence, data set and seed; finished ones are read from `<out>/certificates`.

    Args:
        n0, n, alpha: draws that choose the class, draws that bound its probability, and how often a certificate may be wrong.
        per_modality: also certify each modality alone, noised alone, the others trusted.

    Raises:
        UserError: as `runner.run`; a defence without Gaussian noise directly on the input.
    """
    spec = spec.model_copy(update={"data": on_disk(spec.data, job), "attack": ["pgd"], "control": False})  # a cell a victim
    check_names(spec)
    if job.out is None:
        raise ValueError("certify needs an output folder")
    store = Store(writable_folder(job.out), CERTIFICATES)
    device, batch = choose_device(job.device), BatchSize(job.batch_size, job.display)
    datasets = load_all(spec, spec.data, job)
    victims, records = Victims(spec, device, job), []
    for cell in cells(spec):
        dataset = datasets[cell.data, cell.fold]
        victim = victims.of(cell, dataset)
        base, sigma = unsmoothed(victim)
        samples = dataset.splits["test"].head(sample_limit(spec))
        every = tuple(range(len(dataset.modalities)))
        for noised in [every, *((m,) for m in every if per_modality and len(every) > 1)]:
            resolved = {
                **identity(cell, dataset, victim, len(samples)),
                "certificate": {"sigma": sigma, "noised": list(noised), "n0": n0, "n": n, "alpha": alpha},
                "seed": cell.seed,
            }
            spec_hash = canonical_hash(resolved)
            name = JOINT if noised == every else dataset.modalities[noised[0]] + " alone"
            label = f"certificates of {victim.plan.name} on {dataset.name}, noise on {name}"
            if spec_hash in store and not job.force:
                job.display.say(f"{label}: done before, {spec_hash[:12]}")
                records.append(store.find(spec_hash))
                continue
            started, device_name = time.time(), cost.device_name(device)

            def work(
                base: nn.Module = base,
                samples: Samples = samples,
                noised: tuple[int, ...] = noised,
                sigma: float = sigma,
                seed: int = cell.seed,
                label: str = label,
            ) -> smoothing.Certificates:
                with job.display.bar(label, len(samples)) as advance:
                    return smoothing.certify(
                        base,
                        samples,
                        sigma=sigma,
                        noised=noised,
                        n0=n0,
                        n=n,
                        alpha=alpha,
                        seed=seed,
                        device=device,
                        batch_size=batch.size,
                        tick=lambda done: advance(done, ""),
                    )

            found = batch.fit(work)
            record = {"hash": spec_hash, "spec": resolved, **described(cell, dataset, victim, samples, found), "noised": name}
            record["environment"] = {"device": device_name, "versions": versions(), "started": started, "seconds": time.time() - started}
            arrays = {"ids": np.array(samples.ids), "labels": samples.labels.numpy(), "predicted": found.predicted}
            store.write(record, {**arrays, "radius": found.radius, "p_lower": found.p_lower})
            records.append(record)
    return records


def unsmoothed(victim: Victim) -> tuple[nn.Module, float]:
    """The network behind the noise, and the noise's standard deviation."""
    module = victim.module
    first = module.transforms[0] if isinstance(module, Defended) else None
    if not isinstance(module, Defended) or not isinstance(first, InputNoise):
        raise UserError(
            f"{victim.plan.name} cannot be certified: the first input transform must be Gaussian noise, as in --defense smoothing "
            "(trained with it), input-noise or pgd-at+input-noise"
        )
    rest = list(module.transforms)[1:]
    return (Defended(module.network, rest).eval() if rest else module.network), first.sigma


def described(cell: Cell, dataset: Dataset, victim: Victim, samples: Samples, found: smoothing.Certificates) -> dict[str, Any]:
    """What a certificate record says besides its spec."""
    labels = samples.labels.numpy()
    tasks = []
    for t, name in enumerate(dataset.tasks):
        known = labels[:, t] >= 0
        right = found.predicted[known, t] == labels[known, t]
        radius = found.radius[known, t]
        tasks.append(
            {
                "task": name,
                "n": int(known.sum()),
                "n_distinct": samples.distinct_labels[t],
                "abstained": float((found.predicted[known, t] == smoothing.ABSTAIN).mean()),
                "certified_accuracy": float(right.mean()),
                "average_radius": float((radius * right).mean()),
                "largest_radius": float(radius.max()),
            }
        )
    return {
        "defense": cell.defense,
        "names": {"modalities": list(dataset.modalities), "tasks": list(dataset.tasks)},
        "synthetic": dataset.synthetic,
        "notes": list(dataset.notes),
        "figures": tasks,
    }
