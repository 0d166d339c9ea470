"""One clean pass over the validation images of a victim, kept beside its records: thresholds are
chosen there, never on test images.
"""

from __future__ import annotations

import time
from typing import Any

from robustbench_med.evaluation import cost
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.naming import canonical_hash
from robustbench_med.runs.identity import Inputs, identity
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.store import Store
from robustbench_med.store.validation import VALIDATIONS, Validation, validation_spec
from robustbench_med.version import versions


def validate(inputs: Inputs, session: Session[RunSpec]) -> None:
    """Keeps the validation of a cell's victim, where it is not there and the data have a validation
    part: as many of its samples as are tested at most (`--limit`), drawn at random, the same ones
    every time.
    """
    dataset, victim, seed = inputs.dataset, inputs.victim, inputs.cell.seed
    samples = dataset.splits["val"].drawn(session.limit) if "val" in dataset.splits else None
    if samples is None or not len(samples):
        return
    data = identity(victim, dataset, samples)["data"] | {"split": "val"}
    whole = victim.nature.drawing == "batch"
    spec = validation_spec(inputs.spec, data, session.spec.chunk if whole else None)
    spec_hash, store = canonical_hash(spec), Store(session.out, VALIDATIONS)
    if spec_hash in victim.validated or store.kept(spec_hash, session.job.display.warn):
        victim.validated.add(spec_hash)
        return
    started = time.time()

    def work() -> dict[str, Any]:
        nature = victim.nature
        found = clean_pass(
            victim.module,
            samples,
            session.setting(seed),
            lambda n: None,
            stochastic=nature.stochastic,
            drawing=nature.drawing,
        )
        return {f"probabilities_{t}": each for t, each in enumerate(found.probabilities)}

    arrays = session.fitted(work, lambda n: None, whole=whole)
    kept = Validation.of(
        {
            "hash": spec_hash,
            "spec": spec,
            "names": {"modalities": list(dataset.modalities), "tasks": list(dataset.tasks)},
            "environment": {
                "device": cost.device_name(session.device),
                "versions": versions(),
                "started": started,
                "seconds": time.time() - started,
            },
        }
    )
    store.write(kept, {"labels": samples.labels.numpy(), **arrays})
    victim.validated.add(spec_hash)
