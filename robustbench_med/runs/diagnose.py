"""Every sign that an attack failed, for each victim and threat: the grid of
`medrobust diagnose`.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from robustbench_med.attacks import SCHEME, Threat
from robustbench_med.errors import UserError
from robustbench_med.evaluation import cost, diagnosis, signs
from robustbench_med.evaluation.signs import Sign
from robustbench_med.naming import canonical_hash, radius_label
from robustbench_med.paths import write_text
from robustbench_med.runs.checks import check_threats
from robustbench_med.runs.device import check_threads, one_gradient, threads
from robustbench_med.runs.identity import identity, source_identity, threat_identity
from robustbench_med.runs.job import Job
from robustbench_med.runs.session import Session, announce_whole_range
from robustbench_med.runs.spec import Case, DiagnoseSpec, cases
from robustbench_med.runs.threats import threat_of
from robustbench_med.runs.victims import LoadedVictim
from robustbench_med.store.diagnosis import DIAGNOSES, Diagnosis
from robustbench_med.store.store import Store
from robustbench_med.version import versions


def diagnose(spec: DiagnoseSpec, job: Job) -> list[dict[str, Any]]:
    """Every sign for each model, defence, seed, data set, norm and radius; also written to
    `<out>/diagnostics.json`, and to the store, where the rows of the victim are told of them.

    Returns:
        A row a case: `model` (with its defences), `train_seed`, `seed`, `data`, `norm`, `eps`,
        `target`, `n`, `siblings`, `verdict` (the worst), `signs` (the worst first).

    Raises:
        UserError: as `run`; before any training where possible.
    """
    check_threads(job.threads)
    session = Session.open(spec, job, check_threats)
    announce_whole_range(session.spec, job.display)
    grid = cases(session.spec)
    threats = [_threat(case, session) for case in grid]
    session.victims.plan(grid)
    with threads(job.threads):
        rows = [
            diagnose_case(case, threat, session) for case, threat in zip(grid, threats, strict=True)
        ]
    write_text(session.out / "diagnostics.json", json.dumps(rows, indent=1, allow_nan=False))
    return rows


def _threat(case: Case, session: Session[DiagnoseSpec]) -> Threat:
    """The threat of a case, of one radius a modality."""
    threat = threat_of(case, session.dataset(case), session.spec, session.samples(case))
    if threat.each:
        raise UserError(
            f"diagnose follows one radius for all images, and {case.eps} differs between the images"
            f" of {session.dataset(case).label}; write radii for pixels in 0..1"
        )
    return threat


def diagnose_case(case: Case, threat: Threat, session: Session[DiagnoseSpec]) -> dict[str, Any]:
    """One row of `diagnose`, kept in the store too."""
    dataset, samples, victim = session.dataset(case), session.samples(case), session.victim(case)
    siblings = siblings_of(victim, session.sources(case))
    started = time.time()
    seen = signs.plain(signs_of(case, threat, siblings, session))
    spec = resolve(case, threat, siblings, session)
    kept = Diagnosis.of(
        {
            "hash": canonical_hash(spec),
            "spec": spec,
            "names": {"modalities": list(dataset.modalities), "tasks": list(dataset.tasks)},
            "signs": seen,
            "environment": {
                "device": cost.device_name(session.device),
                "versions": versions(),
                "started": started,
                "seconds": time.time() - started,
            },
        }
    )
    Store(session.out, DIAGNOSES).write(kept, {"ids": np.array(samples.ids)})
    return {
        "model": victim.plan.name,
        "train_seed": case.train_seed,
        "seed": case.seed,
        "data": dataset.label,
        "norm": case.norm,
        "eps": radius_label(threat.radii, dataset.modalities, threat.said, dict(threat.units)),
        "target": case.target_task,
        "n": len(samples),
        "siblings": [sibling.spec.name for sibling in siblings],
        "verdict": seen[0]["verdict"],
        "signs": seen,
    }


def signs_of(
    case: Case,
    threat: Threat,
    siblings: Sequence[LoadedVictim],
    session: Session[DiagnoseSpec],
) -> list[Sign]:
    """Every sign of one case."""
    dataset, samples, victim = session.dataset(case), session.samples(case), session.victim(case)
    radii = radius_label(threat.radii, dataset.modalities, threat.said, dict(threat.units))
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
    return seen


def resolve(
    case: Case,
    threat: Threat,
    siblings: Sequence[LoadedVictim],
    session: Session[DiagnoseSpec],
) -> dict[str, Any]:
    """The full spec of a diagnosis: what its hash is taken over."""
    spec, victim = session.spec, session.victim(case)
    setting = session.setting(case.seed)
    whole = victim.nature.drawing == "batch"
    return {
        **identity(victim, session.dataset(case), session.samples(case)),
        "threat": threat_identity(threat),
        "trials": {"steps": spec.steps, "queries": spec.queries, "eot": spec.eot},
        **({"sources": [source_identity(one) for one in siblings]} if siblings else {}),
        "protocol": {
            "name": setting.protocol,
            "draws": setting.draws,
            **({"chunk": setting.chunk} if whole else {}),
        },
        "seed": case.seed,
        "randomness": SCHEME,
    }


def siblings_of(victim: LoadedVictim, sources: Sequence[LoadedVictim]) -> list[LoadedVictim]:
    """The sources that are not the victim itself: behind an input transform the same weights are
    another victim.
    """
    own = (victim.checkpoint.sha256, victim.plan)
    return [source for source in sources if (source.checkpoint.sha256, source.plan) != own]
