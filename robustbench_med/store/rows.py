"""What rows share that are read together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustbench_med.naming import canonical_hash

if TYPE_CHECKING:
    from robustbench_med.store.record import Record


def search_made(record: Record) -> str:
    """What a search for the smallest perturbation is told by, whatever its radius."""
    spec = record.spec
    told = {"attack": spec.attack.plain(), "seed": spec.seed, "data": spec.data.plain()}
    return canonical_hash(told)


def victim_and_threat(spec: Any, *, any_size: bool = False) -> str:
    """What rows share that are read together, however many samples each has: the victim, whether or
    not the attack knew of its defence, the data and the threat; of `any_size`, the proportions of
    its radii alone.
    """
    victim, data = spec.victim.plain(), spec.data.plain()
    layers = [dict(layer, params=dict(layer["params"])) for layer in victim.get("defense", ())]
    for layer in layers:
        layer["params"].pop("attack", None)
    threat = spec.threat.plain()
    if any_size:
        largest = max(threat["radii"]) or 1.0
        threat = threat | {"radii": [round(r / largest, 9) for r in threat["radii"]]}
    told = ("weights_sha256", "params", "source_sha256", "revision", "code", "abstains")
    return canonical_hash(
        {
            "model": victim["model"].removesuffix(" (unaware attack)"),
            "victim": {key: victim.get(key) for key in told},
            "defense": layers,
            "data": {key: data[key] for key in data.keys() - {"n", "samples"}},
            "threat": threat,
        }
    )
