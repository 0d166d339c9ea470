"""What identifies a record: every input of its result, which its hash is taken over
(docs/records.md).
"""

from __future__ import annotations

import hashlib
from typing import Any

from robustbench_med.attacks import SCHEME, Threat, attack_code, revision
from robustbench_med.data import Dataset, Samples
from robustbench_med.evaluation.protocol import is_whole
from robustbench_med.evaluation.types import Method
from robustbench_med.naming import canonical_hash, training_hash
from robustbench_med.runs.checks import engine_of
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.victims import Victim
from robustbench_med.training import defenses as defense


def identity(victim: Victim, dataset: Dataset, samples: Samples) -> dict[str, Any]:
    """Which victim on which samples: the part of a spec that does not depend on an attack."""
    trained = victim.checkpoint.sidecar.get("training")
    layers = (*victim.plan.training, *victim.plan.inference)
    code = defense.code_of_layers(layers)
    return {
        "victim": {
            "model": victim.plan.name,
            "params": victim.spec.params,
            "preset": victim.spec.preset,
            "recipe": trained and trained["recipe"],
            "training": (
                trained
                and training_hash(
                    {
                        key: trained[key]
                        for key in trained.keys() - {"seed", "data", "manifest", "fold"}
                    }
                )
            ),
            "train_seed": trained and trained["seed"],
            "weights_sha256": victim.checkpoint.sha256,
            **({"defense": victim.plan.layers} if victim.plan.layers else {}),
            **({"source_sha256": victim.spec.source_sha256} if victim.spec.source_sha256 else {}),
            "revision": defense.revisions(victim.spec.model, layers),
            **({"code": code} if code else {}),
        },
        "data": {
            "name": dataset.name,
            "split": "test",
            "n": len(samples),
            "samples": (
                hashlib.sha256(
                    "\n".join(samples.ids).encode("utf-8", "surrogateescape")
                ).hexdigest()
            ),
            "size": dataset.size,
            "channels": list(dataset.channels),
            "preprocessing": dataset.preprocessing.model_dump(),
            "manifest": dataset.manifest_hash,
            **(
                {
                    "fold": {
                        "number": dataset.fold[0],
                        "of": dataset.fold[1],
                        "content": dataset.content,
                    }
                }
                if dataset.fold
                else {}
            ),
        },
    }


def resolve(
    cell: Cell,
    spec: RunSpec,
    dataset: Dataset,
    victim: Victim,
    threat: Threat,
    params: dict[str, Any],
    samples: Samples,
    sources: list[Victim],
) -> dict[str, Any]:
    """The full spec of a cell: what its hash is taken over. What is at its usual value (native,
    untargeted) is left out.
    """
    engine = engine_of(cell.attack, spec)
    method = Method(cell.attack, params, engine, [source.as_source for source in sources])
    together = {"chunk": spec.chunk} if is_whole(victim.nature.drawing, method) else {}
    if (
        spec.batch_draws > 1 and victim.nature.drawing == "batch"
    ):  # such draws are one draw of a larger batch
        together["batch_draws"] = spec.batch_draws
    return {
        **identity(victim, dataset, samples),
        "threat": (
            {"norm": threat.norm, "radii": list(threat.radii), "tasks": list(threat.tasks)}
            | ({"target": spec.target} if threat.targeted else {})
        ),
        "attack": (
            {"name": cell.attack, "params": params, "revision": revision(cell.attack, engine)}
            | ({"code": code} if (code := attack_code(cell.attack, params, engine)) else {})
            | ({"sources": [source_identity(source) for source in sources]} if sources else {})
        ),
        **({"engine": engine} if engine != "native" else {}),
        "protocol": {"name": spec.protocol, "draws": spec.draws, **together},
        "seed": cell.seed,
        "randomness": SCHEME,
    }


def source_identity(source: Victim) -> dict[str, Any]:
    """Which victim adversarials were made on."""
    facts = {
        "model": source.spec.name,
        "params": source.spec.params,
        "weights_sha256": source.checkpoint.sha256,
        "revision": defense.revisions(source.spec.model, ()),
    }
    return facts | (
        {"source_sha256": source.spec.source_sha256} if source.spec.source_sha256 else {}
    )


def sweep_key(resolved: dict[str, Any]) -> str:
    """Everything that smallest perturbations depend on: a cell's spec, but for the scale of its
    radii.
    """
    threat = resolved["threat"]
    largest = max(threat["radii"]) or 1.0
    return canonical_hash(
        {
            **resolved,
            "threat": {**threat, "radii": [round(r / largest, 9) for r in threat["radii"]]},
        }
    )
