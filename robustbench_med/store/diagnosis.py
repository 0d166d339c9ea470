"""The shape of a diagnosis: the signs that `medrobust diagnose` found on one victim under one
threat.
"""

from __future__ import annotations

from pydantic import Field

from robustbench_med.store.attacks import Sign, SourceSpec
from robustbench_med.store.parts import (
    DataSpec,
    Environment,
    InputsAndTasks,
    Kept,
    Part,
    VictimSpec,
)
from robustbench_med.store.record import Kind, ProtocolSpec
from robustbench_med.store.threat import ThreatSpec


class TrialsSpec(Part):
    """How hard its attacks tried."""

    steps: int = Field(ge=1)
    queries: int = Field(ge=1)
    eot: int = Field(ge=1)


class DiagnosisSpec(Part):
    """What the diagnosis' hash is taken over."""

    victim: VictimSpec
    data: DataSpec
    threat: ThreatSpec
    trials: TrialsSpec
    sources: list[SourceSpec] = Field([], description="victims that the transfer sign starts from")
    protocol: ProtocolSpec
    seed: int
    randomness: int = Field(ge=1, description="revision of the scheme of random numbers")


class Diagnosis(Kept):
    """Signs that attacks fail on one victim; the ids of the samples lie beside it as npz."""

    spec: DiagnosisSpec
    names: InputsAndTasks
    signs: list[Sign]
    environment: Environment


DIAGNOSES = Kind("diagnoses", "diagnosis", Diagnosis)
