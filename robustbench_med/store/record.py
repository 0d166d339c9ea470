"""The shape of a record, as a pydantic model and so as a JSON schema (`store.schemas`).

Fields may be added at any time: readers keep what they do not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr, model_validator

from robustbench_med.naming import CONTROL, CORRUPTION, OWN_THREAT, aim_label, radius_label
from robustbench_med.store.attacks import (
    AttackRan,
    AttackSpec,
    Carried,
    CarriedSpec,
    Challenge,
    Sign,
)
from robustbench_med.store.certificate import Certificate
from robustbench_med.store.figures import Figures
from robustbench_med.store.parts import (
    SHORT,
    DataSpec,
    Environment,
    InputsAndTasks,
    Kept,
    Number,
    Part,
    Share,
    VictimSpec,
)
from robustbench_med.store.threat import ThreatSpec
from robustbench_med.store.trust import alone
from robustbench_med.store.words import Trust

__all__ = [
    "CERTIFICATES",
    "CONTROL",
    "RECORDS",
    "SHORT",
    "Certificate",
    "Kind",
    "Record",
    "Sign",
]

SHAPE = 4
"""Version of the layout of records and certificates; the store lifts older ones to it on reading.
"""


class Names(InputsAndTasks):
    """What modalities, tasks and the classes of each task are called."""

    classes: list[list[str]]
    subgroups: list[str] = Field([], description="columns whose cells lie beside the outcomes")
    findings: list[str] = Field(
        [], description="tasks that are findings of a multi-label set, which AUC judges"
    )


class PublishedFigure(Part):
    """What a publication reports of an undefended model on the published test part of a task."""

    model: str
    size: int
    accuracy: Share
    auc: Share
    source: str


class AccelerateSpec(Part):
    """How an attack's passes were computed faster, and the revision of what does it."""

    how: list[str]
    revision: int


class ProtocolSpec(Part):
    """How predictions are judged."""

    name: str
    draws: int = Field(ge=1)
    judged: int | None = Field(
        None, ge=1, description="draws that judged, where draws shared by a chunk were too few"
    )
    chunk: int | None = Field(
        None,
        ge=1,
        description="samples that stayed together, where predictions or draws depend on the batch",
    )
    batch_draws: int | None = Field(
        None,
        ge=1,
        description="draws of one gradient that shared such a batch, where more than one",
    )
    max_queries: int | None = Field(
        None, ge=1, description="queries of a black box a sample, after which nothing was asked"
    )
    challenge: bool | None = Field(
        None, description="false where challengers were left out that usually run"
    )
    accelerate: AccelerateSpec | None = Field(
        None, description="how the attack's passes were computed faster; absent: as ever"
    )


class Spec(Part):
    """What the record's hash is taken over."""

    victim: VictimSpec
    data: DataSpec
    threat: ThreatSpec
    attack: AttackSpec
    engine: str = "native"
    carried: CarriedSpec | None = Field(
        None, description="absent: no record handed on what it broke"
    )
    protocol: ProtocolSpec
    seed: int
    randomness: int = Field(ge=1, description="revision of the scheme of random numbers")


class TrainingFacts(Part):
    """What the training took: steps, samples a step, forward and backward passes a sample and
    step.
    """

    steps: int
    batch_size: int
    forward: Number
    inner: Number = Field(
        0, description="passes of an attack in the training, which need no gradient of the weights"
    )
    backward: Number
    seconds: Number | None = None


class VictimFacts(Part):
    """What the victim costs, and where its weights came from."""

    parameters: int
    gflops: Number
    gmacs: Number
    latency_ms: Number
    peak_memory_mib: Number
    device: str | None = Field(None, description="on which `latency_ms` was measured")
    training: TrainingFacts | None = Field(None, description="null for foreign weights")
    checkpoint: str
    origin: str


class CostFacts(Part):
    """What the cell cost."""

    attack_forward: int | None = Field(None, description="forward passes, all samples together")
    attack_backward: int | None = Field(None, description="backward passes, the same")
    attack_forward_per_sample: Number
    attack_backward_per_sample: Number
    evaluation_forward: int | None = Field(None, description="forward passes outside the attack")
    attacked_samples: int | None = Field(
        None, description="samples that were right at an attacked task before the attack"
    )
    nonfinite_gradients: int | None = None
    seconds: Number
    clean_seconds: Number | None = Field(None, description="of the clean pass")
    challenge_passes: int | None = Field(
        None, description="forward and backward passes of the challengers, and of their fresh draws"
    )
    challenge_seconds: Number | None = Field(None, description="of the challengers")
    estimated_seconds: Number | None = Field(
        None,
        description="what `seconds` and `challenge_seconds` together were expected to be, where a"
        " like record or timed passes told",
    )
    estimate_basis: Literal["record", "passes"] | None = Field(
        None, description="what that rests on; passes bound it from above"
    )
    batch_size: int
    peak_memory_mib: Number


class Record(Kept):
    """One evaluated cell."""

    spec: Spec
    command: str
    names: Names
    references: list[PublishedFigure | None] | None = Field(
        None, description="the best published figure of each task; absent: there is none"
    )
    figures: Figures
    attack_ran: AttackRan | None = Field(
        None, description="of native attacks whose parameters leave something open"
    )
    diagnostics: list[Sign] = Field([], description="signs that the attack may have failed")
    challenges: list[Challenge] = Field(
        [], description="what short attacks of other kinds took of what was left; empty: none ran"
    )
    carried: Carried | None = Field(
        None, description="samples that were not attacked; absent: none was handed on"
    )
    soft_gradients: bool | None = Field(
        None, description="whether the victim offers soft gradients; absent: not known"
    )
    stochastic: bool
    batch_dependent: str | None = Field(
        None, description="how predictions for an image depend on its neighbours in the batch"
    )
    draws: int = Field(ge=1)
    naive: bool = Field(description="a random victim attacked without EOT")
    synthetic: bool
    notes: list[str]
    unverified: bool = Field(description="a file of the data is not the published one")
    repeatable: bool = Field(description="one seed gives the same predictions twice")
    architecture: str = Field(description="the victim's model without its defences")
    on_gpu: bool = Field(description="whether `victim.latency_ms` was measured on a GPU")
    distinct_images: dict[str, int]
    victim: VictimFacts
    cost: CostFacts
    environment: Environment

    _trust: Trust | None = PrivateAttr(None)

    @property
    def trust(self) -> Trust:
        """How far its figures can be believed: what reading it together with the others of its
        store found (`store.reading`), else what it says by itself.
        """
        return self._trust or alone(self)

    def with_trust(self, found: Trust) -> Self:
        """The same record, read together with others."""
        read = self.model_copy()
        read._trust = found
        return read

    @property
    def eps(self) -> str:
        """The radii as tables show them."""
        threat = self.spec.threat
        return radius_label(threat.radii, self.names.modalities, threat.columns, threat.units)

    @property
    def within(self) -> str:
        """What bounds the perturbation, as captions show it; of a patch its attack says it."""
        if self.corruption:
            return f"severity {self.spec.attack.params['severity']}"
        patched = self.own_threat and self.spec.attack.name == "patch"
        return "" if patched else f"{self.spec.threat.norm_label} {self.eps}"

    @property
    def trusted(self) -> tuple[str, ...]:
        """Modalities that were not attacked where others were."""
        radii = dict(zip(self.names.modalities, self.spec.threat.radii, strict=True))
        return tuple(name for name, radius in radii.items() if not radius and any(radii.values()))

    @property
    def targets(self) -> list[str]:
        """The tasks aimed at."""
        return [self.names.tasks[t] for t in self.spec.threat.tasks]

    @property
    def multilabel(self) -> bool:
        """Whether all that it aims at are findings of a multi-label set."""
        return set(self.targets) <= set(self.names.findings)

    @property
    def joint(self) -> bool:
        """Whether every task was aimed at."""
        return len(self.spec.threat.tasks) == len(self.names.tasks)

    @property
    def target(self) -> str:
        """What was aimed at, as tables show it: `joint` or the names of tasks."""
        if self.spec.threat.least:
            return aim_label(self.spec.threat.least)
        return "joint" if self.joint else "+".join(self.targets)

    @property
    def cross_modal(self) -> bool:
        """Whether exactly one of several modalities has a radius, and one task is the target."""
        radii = self.spec.threat.radii
        attacked = sum(radius > 0 for radius in radii)
        return len(radii) > 1 and attacked == 1 and len(self.spec.threat.tasks) == 1

    @property
    def attack_label(self) -> str:
        """The attack, with the victims its adversarials come from and the classes it aims at, where
        it has any, and a patch's size; all attacks of a cascade, whose worst case it is.
        """
        attack, target = self.spec.attack, self.spec.threat.target
        sources = "+".join(source.model for source in attack.sources)
        return (
            (f"cascade {'+'.join(attack.after)}+" if attack.after else "")
            + attack.called
            + (f" from {sources}" if sources else "")
            + (" from a surrogate" if attack.surrogate and attack.name == "transfer" else "")
            + (f" to {target}" if target else "")
        )

    @property
    def accelerate(self) -> list[str]:
        """How the attack's passes were computed faster."""
        given = self.spec.protocol.accelerate
        return [] if given is None else given.how

    @property
    def attack_params(self) -> dict[str, Any]:
        """What may tell its attack from another of the same name: the parameters, and how its
        passes were computed faster.
        """
        faster = {"accelerate": ",".join(self.accelerate)} if self.accelerate else {}
        return {**self.spec.attack.params, **faster}

    @property
    def control(self) -> bool:
        """Whether no attack but random noise stood in for one."""
        return self.spec.attack.name == CONTROL

    @property
    def corruption(self) -> bool:
        """Whether no adversary chose the perturbation: a worse scanner, camera or archive did."""
        return self.spec.engine == CORRUPTION

    @property
    def own_threat(self) -> bool:
        """Whether its threat is its own: a patch, or one perturbation for all patients."""
        return self.spec.engine == OWN_THREAT

    @property
    def apart(self) -> bool:
        """Whether a section of its own shows it, and not the leaderboard of attacks."""
        return self.corruption or self.own_threat

    @property
    def unaware(self) -> bool:
        """Whether the attack did not know of the victim's input transform."""
        return any(layer.unaware for layer in self.spec.victim.defense)

    @property
    def trivial(self) -> list[str]:
        """Tasks at which the victim is no better than a constant."""
        tasks = zip(self.names.tasks, self.figures.tasks, strict=True)
        return [name for name, figures in tasks if figures.trivial]

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        """Every list that goes by modality or by task has the length of their names."""
        modalities, tasks = len(self.names.modalities), len(self.names.tasks)
        threat = self.spec.threat
        by_modality: dict[str, Sequence[object]] = {
            "spec.data.channels": self.spec.data.channels,
            "spec.threat.radii": threat.radii,
        }
        by_task: dict[str, Sequence[object]] = {
            "names.classes": self.names.classes,
            "figures.tasks": self.figures.tasks,
            **({} if self.references is None else {"references": self.references}),
        }
        for n, kind, lists in ((modalities, "modalities", by_modality), (tasks, "tasks", by_task)):
            for name, values in lists.items():
                if len(values) != n:
                    raise ValueError(f"{name} has {len(values)} entries for {n} {kind}")
        if not all(0 <= task < tasks for task in threat.tasks):
            raise ValueError(f"spec.threat.tasks names a task that is none of the {tasks}")
        for figures, classes in zip(self.figures.tasks, self.names.classes, strict=True):
            counts = figures.class_samples
            if counts is not None and (len(counts) != len(classes) or not any(counts)):
                raise ValueError(f"class_samples {counts} is not of {len(classes)} classes")
        return self


K = TypeVar("K", bound=Kept)


@dataclass(frozen=True)
class Kind(Generic[K]):
    """What a store keeps in one of its folders."""

    folder: str
    noun: str
    model: type[K]


RECORDS = Kind("records", "record", Record)
CERTIFICATES = Kind("certificates", "certificate", Certificate)
"""What `certify` proved: immutable and addressed like records, but not measured under an attack."""
