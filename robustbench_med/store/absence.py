"""The shape of an absence: what a victim makes of samples whose modalities are replaced one by
one.
"""

from __future__ import annotations

from pydantic import Field

from robustbench_med.store.parts import (
    DataSpec,
    Environment,
    InputsAndTasks,
    Interval,
    Kept,
    Part,
    Share,
    VictimSpec,
)
from robustbench_med.store.record import Kind, ProtocolSpec


class ReplacedSpec(Part):
    """What takes the place of each modality, in order, and the revision of what does it."""

    by: list[str] = Field(min_length=1)
    revision: int = Field(ge=1)


class AbsenceSpec(Part):
    """What the absence's hash is taken over."""

    victim: VictimSpec
    data: DataSpec
    replaced: ReplacedSpec
    protocol: ProtocolSpec
    seed: int
    randomness: int = Field(ge=1, description="revision of the scheme of random numbers")


class AbsenceRow(Part):
    """Figures of one task; without `modality` of the samples as they are."""

    modality: str | None = None
    by: str | None = None
    task: str
    n: int = Field(ge=1)
    accuracy: Share
    interval: Interval
    balanced_accuracy: Share
    auc: Share | None
    coverage: Share | None = Field(
        None,
        description="of a victim that may abstain, whose `accuracy` counts what it rejects as"
        " right: share of samples that it answers",
    )
    answered: Share | None = Field(None, description="accuracy on what it answers")


class Absence(Kept):
    """Accuracy with all modalities and with each replaced; the ids of the samples lie beside it as
    npz.
    """

    spec: AbsenceSpec
    names: InputsAndTasks
    rows: list[AbsenceRow]
    synthetic: bool = False
    environment: Environment


ABSENCES = Kind("absences", "absence", Absence)
