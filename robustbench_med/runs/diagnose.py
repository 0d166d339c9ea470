"""Every sign that an attack failed, for each victim and threat: the grid of
`medrobust diagnose`.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from robustbench_med.attacks import Threat
from robustbench_med.evaluation import diagnosis, signs
from robustbench_med.evaluation.signs import Sign
from robustbench_med.naming import radius_label
from robustbench_med.paths import write_text
from robustbench_med.runs.checks import check_threats
from robustbench_med.runs.device import one_gradient
from robustbench_med.runs.job import Job
from robustbench_med.runs.session import Session, announce_whole_range
from robustbench_med.runs.spec import Case, DiagnoseSpec, cases
from robustbench_med.runs.threats import threat_of
from robustbench_med.runs.victims import LoadedVictim


def diagnose(spec: DiagnoseSpec, job: Job) -> list[dict[str, Any]]:
    """Every sign for each model, defence, seed, data set, norm and radius; also written to
    `<out>/diagnostics.json`.

    Returns:
        A row a case: `model` (with its defences), `train_seed`, `seed`, `data`, `norm`, `eps`,
        `target`, `n`, `siblings`, `trust`, `signs`.

    Raises:
        UserError: as `run`; before any training where possible.
    """
    session = Session.open(spec, job, check_threats)
    announce_whole_range(session.spec, job.display)
    grid = cases(session.spec)
    threats = [threat_of(case, session.dataset(case)) for case in grid]
    session.victims.plan(grid)
    rows = [
        diagnose_case(case, threat, session) for case, threat in zip(grid, threats, strict=True)
    ]
    write_text(session.out / "diagnostics.json", json.dumps(rows, indent=1, allow_nan=False))
    return rows


def diagnose_case(case: Case, threat: Threat, session: Session[DiagnoseSpec]) -> dict[str, Any]:
    """One row of `diagnose`."""
    dataset, samples, victim = session.dataset(case), session.samples(case), session.victim(case)
    siblings = siblings_of(victim, session.sources(case))
    radii = radius_label(threat.radii, dataset.modalities)
    label = f"{victim.plan.name} {radii} on {dataset.label}"

    def work() -> list[Sign]:
        setting = session.setting(case.seed)
        return diagnosis.diagnose(
            victim.module,
            samples,
            victim.clean_pass(samples, setting, lambda n: None),
            threat,
            setting,
            sources=[sibling.as_source for sibling in siblings],
            effort=diagnosis.Effort(session.spec.steps, session.spec.queries, session.spec.eot),
            tick=lambda stage: session.job.display.say(f"{label}: {stage}"),
        )

    heaviest = functools.partial(one_gradient, victim.module, samples, threat, session.device)
    seen = session.fitted(work, heaviest, whole=victim.nature.drawing == "batch")
    if victim.nature.neighbours:
        seen.append(signs.depends_on_batch(victim.nature.neighbours))
    return {
        "model": victim.plan.name,
        "train_seed": case.train_seed,
        "seed": case.seed,
        "data": dataset.label,
        "norm": case.norm,
        "eps": radii,
        "target": case.target_task,
        "n": len(samples),
        "siblings": [sibling.spec.name for sibling in siblings],
        "trust": signs.trust(seen),
        "signs": signs.plain(seen),
    }


def siblings_of(victim: LoadedVictim, sources: list[LoadedVictim]) -> list[LoadedVictim]:
    """The sources that are not the victim itself: behind an input transform the same weights are
    another victim.
    """
    own = (victim.checkpoint.sha256, victim.plan)
    return [source for source in sources if (source.checkpoint.sha256, source.plan) != own]
