"""`--attack missing`: every victim of a grid on samples whose modalities are replaced one by
one.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from robustbench_med.attacks import SCHEME
from robustbench_med.evaluation import absence, cost
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.naming import MISSING, canonical_hash
from robustbench_med.runs.identity import identity
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec, VictimPoint, victim_points
from robustbench_med.runs.victims import LoadedVictim
from robustbench_med.store.absence import ABSENCES, Absence
from robustbench_med.store.store import Store
from robustbench_med.version import versions


def absences(session: Session[RunSpec]) -> list[Absence]:
    """What the victims of a grid make of missing modalities, from the store or measured now; none
    where `--attack` does not name it.
    """
    if MISSING not in session.spec.attack:
        return []
    return [absence_of(point, session) for point in victim_points(session.spec)]


def absence_of(point: VictimPoint, session: Session[RunSpec]) -> Absence:
    """Of one victim, data set and seed."""
    victim, dataset = session.victim(point), session.dataset(point)
    spec, display = resolve(point, victim, session), session.job.display
    store, hash_ = Store(session.out, ABSENCES), canonical_hash(spec)
    kept = store.kept(hash_, display.warn)
    if kept is not None and not session.job.force:
        return kept
    display.say(f"{victim.plan.name} {MISSING} on {dataset.label}")
    started = time.time()
    rows = rows_of(point, victim, session)
    made = Absence.of(
        {
            "hash": hash_,
            "spec": spec,
            "names": {"modalities": list(dataset.modalities), "tasks": list(dataset.tasks)},
            "rows": rows,
            "synthetic": dataset.synthetic,
            "environment": {
                "device": cost.device_name(session.device),
                "versions": versions(),
                "started": started,
                "seconds": time.time() - started,
            },
        }
    )
    return store.write(made, {"ids": np.array(session.samples(point).ids)})


def rows_of(
    point: VictimPoint, victim: LoadedVictim, session: Session[RunSpec]
) -> list[dict[str, Any]]:
    """Figures of each task: of the samples as they are, then with each modality replaced."""
    dataset, samples = session.dataset(point), session.samples(point)
    setting = session.setting(point.seed)
    clean = victim.clean_pass(samples, setting, lambda n: None)
    rows = absence.figures(samples, clean, dataset.tasks)
    for m, modality in enumerate(dataset.modalities):
        for by in absence.REPLACEMENTS:
            without = clean_pass(
                victim.module,
                absence.replaced(samples, m, by, point.seed),
                setting,
                lambda n: None,
                stochastic=victim.nature.stochastic,
                drawing=victim.nature.drawing,
            )
            found = absence.figures(samples, without, dataset.tasks)
            rows += [{"modality": modality, "by": by, **row} for row in found]
    return rows


def resolve(point: VictimPoint, victim: LoadedVictim, session: Session[RunSpec]) -> dict[str, Any]:
    """The full spec of an absence: what its hash is taken over."""
    setting = session.setting(point.seed)
    whole = victim.nature.drawing == "batch"
    return {
        **identity(victim, session.dataset(point), session.samples(point)),
        "replaced": {"by": list(absence.REPLACEMENTS), "revision": absence.REVISION},
        "protocol": {
            "name": setting.protocol,
            "draws": setting.draws,
            **({"chunk": setting.chunk} if whole else {}),
        },
        "seed": point.seed,
        "randomness": SCHEME,
    }
