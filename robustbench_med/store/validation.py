"""The shape of a validation: what a victim predicts for clean validation images, which thresholds
are chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustbench_med.naming import canonical_hash
from robustbench_med.store.parts import (
    DataSpec,
    Environment,
    InputsAndTasks,
    Kept,
    Part,
    VictimSpec,
)
from robustbench_med.store.record import Kind, ProtocolSpec, Record
from robustbench_med.store.store import Store


class ValidationSpec(Part):
    """What its hash is taken over."""

    victim: VictimSpec
    data: DataSpec
    protocol: ProtocolSpec
    seed: int
    randomness: int


class Validation(Kept):
    """One clean pass over validation images; `labels` (n, T) and `probabilities_T` (n, classes) lie
    beside it as npz.
    """

    spec: ValidationSpec
    names: InputsAndTasks
    environment: Environment


VALIDATIONS = Kind("validations", "validation", Validation)


def validation_spec(
    record: Mapping[str, Any], validated: Mapping[str, Any], chunk: int | None
) -> dict[str, Any]:
    """The spec of the validation that goes with a record.

    Args:
        record: the record's whole spec.
        validated: the part `data` of the validation samples.
        chunk: samples that stay together; None: predictions do not depend on the batch.
    """
    protocol = {key: record["protocol"][key] for key in ("name", "draws")}
    return {
        "victim": record["victim"],
        "data": dict(validated),
        "protocol": protocol | ({} if chunk is None else {"chunk": chunk}),
        "seed": record["seed"],
        "randomness": record["randomness"],
    }


def key_of(spec: Mapping[str, Any]) -> str:
    """What a record and its validation have in common: all but the samples and the attack."""
    data = {k: v for k, v in spec["data"].items() if k not in ("split", "n", "samples")}
    protocol = {key: spec["protocol"][key] for key in ("name", "draws")}
    shared = {key: spec[key] for key in ("victim", "seed", "randomness")}
    return canonical_hash({**shared, "data": data, "protocol": protocol})


class Validations:
    """All validations of a store, looked up by record."""

    def __init__(self, out: Path) -> None:
        self.store = Store(out, VALIDATIONS)
        self.known: dict[str, Validation] = {}
        for each in sorted(self.store.records(), key=lambda each: (each.spec.data.n, each.hash)):
            self.known[key_of(each.spec.plain())] = each  # of several that of most samples

    def find(self, record: Record) -> Validation | None:
        """The validation of a record's victim; None where its validation images were never looked
        at.
        """
        return self.known.get(key_of(record.spec.plain()))
