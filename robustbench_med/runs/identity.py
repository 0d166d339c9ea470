"""What identifies a record: every input of its result, which its hash is taken over
(docs/records.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from robustbench_med.attacks import SCHEME, Threat, accelerated, attack_code, gives, revision
from robustbench_med.data import Dataset, Samples
from robustbench_med.evaluation import carrying, parted
from robustbench_med.evaluation.assembling import assemble
from robustbench_med.evaluation.batching import judged_draws
from robustbench_med.evaluation.protocol import is_whole
from robustbench_med.evaluation.search import search
from robustbench_med.evaluation.types import Method
from robustbench_med.models import abstaining
from robustbench_med.naming import CORRUPTION, OWN_THREAT, canonical_hash, training_hash
from robustbench_med.provenance import code
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.victims import LoadedVictim
from robustbench_med.store.attacks import SurrogateSpec
from robustbench_med.store.record import CONTROL
from robustbench_med.training import defenses

BESIDE = (CORRUPTION, OWN_THREAT)
"""Who computes what nothing challenges: corruptions, and attacks of a threat of their own."""


@dataclass(frozen=True)
class Inputs:
    """Every input of a record's result: a cell whose victim and data are known."""

    cell: Cell
    run: RunSpec
    dataset: Dataset
    samples: Samples
    victim: LoadedVictim
    threat: Threat
    method: Method
    """Without what the clean pass decides: the classes aimed at."""
    sources: Sequence[LoadedVictim]
    """Victims that `transfer` makes its adversarials on."""
    surrogate: SurrogateSpec | None = None
    """What it makes them on that the victim's answers train; None: nothing."""
    before: Inputs | None = None
    """Of the record whose adversarials are candidates here; None: of none."""

    @cached_property
    def whole(self) -> bool:
        """Whether samples stay in fixed chunks during the attack."""
        return is_whole(self.victim.nature.drawing, self.method)

    @property
    def challengeable(self) -> bool:
        """Whether challengers usually run: there is an attack, as strong as it can be, to be
        challenged.
        """
        bounded = self.run.protocol == "sound" and not self.threat.targeted
        attacked = self.method.name != CONTROL and self.method.engine not in BESIDE
        chosen = self.threat.least is not None  # challengers are of all tasks, or of one
        return bounded and attacked and not chosen and max(self.threat.radii) > 0

    @property
    def chain(self) -> list[Inputs]:
        """Those of the records before it in its chain, the first at the front."""
        return [] if self.before is None else [*self.before.chain, self.before]

    @property
    def cells(self) -> list[Cell]:
        """Its cell, behind those of its chain before it."""
        return [*(each.cell for each in self.chain), self.cell]

    @property
    def after(self) -> list[str]:
        """The attacks whose leavings this one gets."""
        return [each.method.name for each in self.chain if each.method.name != self.method.name]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The full spec of the cell."""
        return resolve(self)

    @cached_property
    def hash(self) -> str:
        """The name of the record."""
        return canonical_hash(self.spec)


def identity(victim: LoadedVictim, dataset: Dataset, samples: Samples) -> dict[str, Any]:
    """Which victim on which samples: the part of a spec that does not depend on an attack."""
    trained = victim.checkpoint.sidecar.get("training")
    layers = (*victim.plan.training, *victim.plan.inference)
    code = defenses.code_of_layers(layers)
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
            **({"access": access} if (access := gives(victim.module)) else {}),
            **({"abstains": abstaining.REVISION} if abstaining.may_abstain(victim.module) else {}),
            **({"reading": reading} if (reading := victim.checkpoint.reading.told) else {}),
            **({"defense": victim.plan.layers} if victim.plan.layers else {}),
            **({"source_sha256": victim.spec.source_sha256} if victim.spec.source_sha256 else {}),
            "revision": defenses.revisions(victim.spec.model, layers),
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
            **_shapes(dataset),
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


def _shapes(dataset: Dataset) -> dict[str, Any]:
    """The part `shapes`, of images that are no squares of one size."""
    squares = [(c, dataset.size, dataset.size) for c in dataset.channels]
    return {} if dataset.shapes == squares else {"shapes": [list(s) for s in dataset.shapes]}


def resolve(inputs: Inputs) -> dict[str, Any]:
    """The full spec of a cell: what its hash is taken over. What is at its usual value (native,
    untargeted) is left out.
    """
    engine = inputs.method.engine
    return {
        **identity(inputs.victim, inputs.dataset, inputs.samples),
        "threat": threat_identity(inputs.threat, inputs.run.target),
        "attack": attack_identity(inputs),
        **({"engine": engine} if engine != "native" else {}),
        **carried_identity(inputs.before),
        "protocol": protocol_identity(inputs),
        "seed": inputs.cell.seed,
        "randomness": SCHEME,
    }


def threat_identity(threat: Threat, target: str | None = None) -> dict[str, Any]:
    """What the attacker may do, and aims at where the attack is targeted."""
    bounds: dict[str, Any] = {
        "norm": threat.norm,
        "radii": list(threat.radii),
        "tasks": list(threat.tasks),
    }
    if threat.counts != "pixels":
        bounds["counts"] = threat.counts
    if threat.columns:
        bounds["columns"] = threat.said
    if threat.least is not None:
        bounds["least"] = threat.least
    if threat.units:
        bounds["units"] = dict(threat.units)
    if threat.each:
        bounds["each"] = hashlib.sha256(repr(threat.each).encode()).hexdigest()
    return bounds | ({"target": target} if threat.targeted else {})


def carried_identity(before: Inputs | None) -> dict[str, Any]:
    """The part `carried`: the record that a chain goes on from, and so all before it."""
    if before is None:
        return {}
    return {"carried": {"record": before.hash, "revision": carrying.REVISION}}


def attack_identity(inputs: Inputs) -> dict[str, Any]:
    """The attack with all its parameters, the user's own code in it, the victims it starts from,
    and the attacks whose leavings it gets.
    """
    method = inputs.method
    name, params, engine = method.name, dict(method.parameters), method.engine
    attack: dict[str, Any] = {
        "name": name,
        "params": params,
        "revision": revision(name, engine),
    }
    if (own := attack_code(name, params, engine)) is not None:
        attack["code"] = own
    if method.effort is not None:
        made_by = search if inputs.surrogate is None else assemble
        attack["effort"] = asdict(method.effort)
        attack["revision"] = code.revisions(made_by, "the search") | attack["revision"]
    if parted.is_universal(method):
        halves = code.revisions(parted.attack_parts, "universal perturbations")
        attack["revision"] = halves | attack["revision"]
    if inputs.sources:
        attack["sources"] = [source_identity(source) for source in inputs.sources]
    if inputs.surrogate is not None:
        attack["surrogate"] = inputs.surrogate.plain()
    if inputs.after:
        attack["after"] = inputs.after
    return attack


def protocol_identity(inputs: Inputs) -> dict[str, Any]:
    """How predictions are judged, and which samples and draws stay together where predictions
    depend on the batch.
    """
    run, nature = inputs.run, inputs.victim.nature
    protocol: dict[str, Any] = {"name": run.protocol, "draws": run.draws}
    if inputs.whole:
        protocol["chunk"] = run.chunk
    judged = judged_draws(run.draws, len(inputs.samples), run.chunk, nature.drawing)
    if nature.stochastic and run.protocol == "sound" and judged > run.draws:
        protocol["judged"] = judged
    if run.max_queries is not None:
        protocol["max_queries"] = run.max_queries
    if run.batch_draws > 1 and nature.drawing == "batch":
        protocol["batch_draws"] = run.batch_draws  # they are one draw of a larger batch
    if inputs.challengeable and not run.challenge:
        protocol["challenge"] = False  # else the record is that of a challenged attack
    if run.accelerate and inputs.method.is_ours:
        protocol["accelerate"] = {"how": run.accelerate, "revision": accelerated.REVISION}
    return protocol


def source_identity(source: LoadedVictim) -> dict[str, Any]:
    """Which victim adversarials were made on."""
    facts = {
        "model": source.spec.name,
        "params": source.spec.params,
        "weights_sha256": source.checkpoint.sha256,
        "revision": defenses.revisions(source.spec.model, ()),
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
