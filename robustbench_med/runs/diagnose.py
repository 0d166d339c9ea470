"""Every sign that an attack failed, for each victim and threat: the grid of
`medrobust diagnose`.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import torch

from robustbench_med.attacks import Threat
from robustbench_med.data import Dataset
from robustbench_med.evaluation import diagnosis
from robustbench_med.evaluation import signs as diagnostics
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.evaluation.types import Setting
from robustbench_med.naming import radius_label
from robustbench_med.paths import writable_folder, write_text
from robustbench_med.runs.cell import one_gradient
from robustbench_med.runs.checks import check_names, make_threat, sample_limit
from robustbench_med.runs.device import BatchSize, choose_device
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import Job, announce_whole_range, load_all, on_disk
from robustbench_med.runs.spec import Cell, RunSpec, cells
from robustbench_med.runs.victims import Victims


def diagnose(
    spec: RunSpec, job: Job, *, steps: int, queries: int, eot: int
) -> list[dict[str, Any]]:
    """Every sign for each model, defence, seed, data set, norm and radius; also written to
    `<out>/diagnostics.json`.

    Returns a row a case: `model` (with its defences), `train_seed`, `seed`, `data`, `norm`, `eps`,
        `target`, `n`, `siblings`, `trust`, `signs`.
    """
    include(spec.include, job.display.say)
    one_attack = ["transfer" if spec.source else "pgd"]  # a case is a cell of one attack
    spec = spec.model_copy(
        update={"data": on_disk(spec.data, job), "attack": one_attack, "control": False}
    )
    check_names(spec)
    if job.out is None:
        raise ValueError("diagnose needs an output folder")
    out, device, batch = (
        writable_folder(job.out),
        choose_device(job.device),
        BatchSize(job.batch_size, job.display),
    )
    datasets = load_all(spec, spec.data, job)
    announce_whole_range(spec, job)
    grid = cells(spec)
    threats = [make_threat(cell, spec, datasets[cell.data, cell.fold]) for cell in grid]
    victims, rows = Victims(spec, device, job), []
    for cell, threat in zip(grid, threats, strict=True):
        dataset = datasets[cell.data, cell.fold]
        rows.append(
            diagnose_cell(
                cell,
                threat,
                spec,
                dataset,
                victims,
                device,
                batch,
                job,
                steps=steps,
                queries=queries,
                eot=eot,
            )
        )
    write_text(out / "diagnostics.json", json.dumps(rows, indent=1, allow_nan=False))
    return rows


def diagnose_cell(
    cell: Cell,
    threat: Threat,
    spec: RunSpec,
    dataset: Dataset,
    victims: Victims,
    device: torch.device,
    batch: BatchSize,
    job: Job,
    *,
    steps: int,
    queries: int,
    eot: int,
) -> dict[str, Any]:
    """One row of `diagnose`."""
    victim = victims.of(cell, dataset)
    samples = dataset.splits["test"].head(sample_limit(spec))
    own = (
        victim.checkpoint.sha256,
        victim.plan,
    )  # behind an input transform the same weights are another victim
    label = (
        f"{victim.plan.name} {radius_label(threat.radii, dataset.modalities)} on {dataset.label}"
    )
    siblings = [
        source
        for source in victims.sources(cell, dataset)
        if (source.checkpoint.sha256, source.plan) != own
    ]

    def signs() -> list[diagnostics.Sign]:
        setting = Setting(
            spec.protocol, spec.draws, cell.seed, device, batch.size, spec.batch_draws, spec.chunk
        )
        if cell.seed not in victim.clean:
            victim.clean[cell.seed] = clean_pass(
                victim.module,
                samples,
                setting,
                lambda n: None,
                stochastic=victim.nature.stochastic,
                drawing=victim.nature.drawing,
            )
        signs = diagnosis.diagnose(
            victim.module,
            samples,
            victim.clean[cell.seed],
            threat,
            setting,
            sources=[sibling.as_source for sibling in siblings],
            steps=steps,
            queries=queries,
            eot=eot,
            tick=lambda stage: job.display.say(f"{label}: {stage}"),
        )
        return signs + (
            [diagnostics.depends_on_batch(victim.nature.neighbours)]
            if victim.nature.neighbours
            else []
        )

    whole = victim.nature.drawing == "batch"
    fits = functools.partial(one_gradient, victim.module, samples, threat, device)
    found = batch.hold(signs, spec.chunk, fits) if whole else batch.fit(signs)
    return {
        "model": victim.plan.name,
        "train_seed": cell.train_seed,
        "seed": cell.seed,
        "data": dataset.label,
        "norm": cell.norm,
        "eps": radius_label(threat.radii, dataset.modalities),
        "target": cell.target_task,
        "n": len(samples),
        "siblings": [sibling.spec.name for sibling in siblings],
        "trust": diagnostics.trust(found),
        "signs": diagnostics.plain(found),
    }
