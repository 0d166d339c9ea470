"""Made-up rows of one deterministic victim, read together."""

import numpy as np

from robustbench_med.naming import canonical_hash
from robustbench_med.store import trust
from robustbench_med.store.diagnosis import Diagnosis
from robustbench_med.store.record import Record
from support.records import changed, outcomes, record

N = 100
CHALLENGE = {
    "challenger": "square",
    "family": "black box",
    "n": 20,
    "broken": [],
    "taken": 0.0,
    "bound": 0.0,
    "passes": 100,
}
"""A challenger that broke nothing."""


def row(attack="pgd", robust=0.5, *, challenges=(CHALLENGE,), random=False, **more) -> Record:
    """A row of one deterministic victim without soft gradients, at one task, challenged in vain."""
    more = {"n": N, "tasks": (0,), **more}
    made = changed(record(attack=attack, robust=robust, **more), stochastic=random)
    return changed(
        made, draws=16 if random else 1, challenges=list(challenges), soft_gradients=False
    )


def right(made: Record, left=None) -> dict[str, np.ndarray]:
    """Its outcomes, with these fractions right at every task, or at each its own (n, 2); the first
    `robust` of them where left out.
    """
    arrays = outcomes(made)
    if left is not None:
        both = left if left.ndim == 2 else np.stack([left, left], 1)
        arrays["robust_right"] = both.astype(np.float32)
    return arrays


def read(*rows, diagnoses=()):
    """The trust of each, read together; a row may come with its fractions right."""
    pairs = [each if isinstance(each, tuple) else (each, None) for each in rows]
    arrays = {made.hash: right(made, left) for made, left in pairs}
    found = trust.judged(
        [made for made, _ in pairs], lambda made, names: arrays[made.hash], diagnoses
    )
    return [found[made.hash] for made, _ in pairs]


def search(outcome="converged", kinds=("first", "another loss", "black box"), taken=0.0):
    """An adaptive attack's rounds."""
    rounds = [
        {
            "kind": kind,
            "attack": "square" if kind == "black box" else "apgd",
            "parameters": {},
            "why": "",
            "passes": 100,
            "queries": 0,
            "changed": 0,
            "taken": taken,
            "error": 0.0,
            "left": 0.5,
        }
        for kind in kinds
    ]
    return {
        "search": {
            "effort": "max" if outcome == "spent" else "auto",
            "outcome": outcome,
            "next_passes": 4000 if outcome == "capped" else None,
            "tolerance": 0.01,
            "rounds": rounds,
        }
    }


def adaptive(outcome="converged", robust=0.5, **more) -> Record:
    kinds = more.pop("kinds", ("first", "another loss", "black box"))
    taken = more.pop("taken", 0.0)
    ran = search(outcome, kinds, taken)
    return changed(row("adaptive", robust, **more), attack_ran=ran)


def sign(verdict, name="zero gradient") -> dict:
    return {"sign": name, "verdict": verdict, "figure": 0.5, "text": "half are 0", "advice": "BPDA"}


def diagnosed(made: Record, *signs) -> Diagnosis:
    spec = {
        key: made.spec.plain()[key]
        for key in ("victim", "data", "threat", "protocol", "seed", "randomness")
    } | {"trials": {"steps": 20, "queries": 500, "eot": 4}}
    return Diagnosis.of(
        {
            "hash": canonical_hash(spec),
            "spec": spec,
            "names": {"modalities": ["mri", "xray"], "tasks": ["lesion", "lung"]},
            "signs": list(signs),
            "environment": {"device": "cpu", "versions": {}, "started": 0},
        }
    )
