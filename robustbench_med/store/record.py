"""The shape of records and certificates, as pydantic models and so as JSON schemas.

`python -m robustbench_med.store.record docs` writes the schemas.

Fields may be added at any time: readers ignore what they do not know.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SHAPE = 3
"""Version of the layout of records and certificates; the store lifts older ones to it on reading.
"""

Share = Annotated[float, Field(ge=0, le=1)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class InputsAndTasks(_Open):
    """What modalities and tasks are called."""

    modalities: list[str] = Field(min_length=1)
    tasks: list[str] = Field(min_length=1)


class Names(InputsAndTasks):
    """What modalities, tasks and the classes of each task are called."""

    classes: list[list[str]]


class VictimSpec(_Open):
    """The trained network."""

    model: str
    params: dict[str, Any]
    preset: str
    recipe: dict[str, Any] | None = Field(
        None, description="of the training that its sidecar tells of; null for foreign weights"
    )
    training: Hash | None = Field(
        None, description="of that training's specification without its seed and data"
    )
    train_seed: int | None
    weights_sha256: Hash
    source_sha256: Hash | None = Field(
        None, description="of the file that builds a model of the user's own"
    )


class FoldSpec(_Open):
    """Fold `number` (from 0) of the `of` of a cross-validation; `content` is the hash of the files
    and the split's seed.
    """

    number: int = Field(ge=0)
    of: int = Field(ge=2)
    content: Hash


class DataSpec(_Open):
    """The samples: `n` first ones of a split, images of `size` pixels, `manifest` the hash of
    splits and pairing.
    """

    name: str
    split: str
    n: int = Field(ge=1)
    samples: Hash = Field(description="of their ids in order")
    size: int = Field(ge=1)
    channels: list[int]
    manifest: str
    fold: FoldSpec | None = None


class ThreatSpec(_Open):
    """What the attacker may do: a radius per modality (pixels in 0..1, 0 = trusted) and the tasks
    aimed at.
    """

    norm: Literal["Linf", "L2"]
    radii: list[Annotated[float, Field(ge=0)]]
    tasks: list[int] = Field(min_length=1)


class AttackSpec(_Open):
    """The attack with all its parameters."""

    name: str
    params: dict[str, Any]


class ProtocolSpec(_Open):
    """How predictions are judged."""

    name: str
    draws: int = Field(ge=1)
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


class Spec(_Open):
    """What the record's hash is taken over."""

    victim: VictimSpec
    data: DataSpec
    threat: ThreatSpec
    attack: AttackSpec
    protocol: ProtocolSpec
    seed: int
    randomness: int = Field(ge=1, description="revision of the scheme of random numbers")
    engine: str = "native"


class TaskFigures(_Open):
    """Figures of one task over its labelled samples."""

    n: int
    n_distinct: int
    n_groups: int | None = Field(
        None, description="patients, or what else the card groups by; images where it names nothing"
    )
    n_effective_clean: float | None = Field(
        None, description="independent samples that `clean` is worth: its interval counts these"
    )
    n_effective_robust: float | None = Field(None, description="the same of `robust`")
    clean: Share
    clean_interval: Interval
    clean_vote: Share
    clean_balanced_accuracy: Share
    clean_auc: Share | None
    trivial: str | None = Field(
        description="why the victim is no better than chance at this task, or null"
    )
    robust: Share
    robust_interval: Interval
    robust_vote: Share
    asr: Share | None
    balanced_accuracy: Share
    auc: Share | None
    most_predicted_share: Share
    not_finite: int = Field(
        0,
        ge=0,
        description=(
            "samples with NaN or infinite logits before or after the attack; such are never right"
        ),
    )


class MinimalNorm(_Open):
    """Perturbation sizes of a minimal-norm attack: median, and [radius, robust accuracy] pairs."""

    median: float | None
    curve: list[list[float]]


class Figures(_Open):
    """Means over the attacked tasks, and every task."""

    tasks: list[TaskFigures] = Field(min_length=1)
    clean: Share
    clean_interval: Interval
    clean_vote: Share
    robust: Share
    robust_interval: Interval
    robust_vote: Share
    asr: Share | None
    balanced_accuracy: Share
    auc: Share | None
    not_finite: int = Field(
        0, ge=0, description="samples with NaN or infinite logits at an attacked task"
    )
    minimal_norm: MinimalNorm | None = None
    attack_loss: list[float | None] | None = Field(
        None,
        description=(
            "of attacks that step along a gradient, in their first run (restart, likeliest target,"
            " member of autoattack): what they ascend before each step, summed over the attacked"
            " tasks, mean over the attacked samples; a sample that fell keeps its last"
        ),
    )


class MemberRan(_Open):
    """An attack of an ensemble, and the loss that each attacked task got where the attack ascends a
    loss of choice.
    """

    attack: str
    losses: dict[str, str] | None = None


class AttackRan(_Open):
    """What the attack made of its parameters on these tasks: DLR needs 3 classes, targeted DLR 4,
    and a task of fewer gets the margin.
    """

    losses: dict[str, str] | None = Field(
        None, description="by attacked task, where the attack ascends a loss of choice"
    )
    version: str | None = Field(None, description="of autoattack; its parameter may be `auto`")
    members: list[MemberRan] | None = Field(None, description="of autoattack, in their order")


class Sign(_Open):
    """One sign that the attack may have failed."""

    sign: str
    verdict: Literal["pass", "warn", "fail"]
    figure: float | None
    text: str
    advice: str


class TrainingFacts(_Open):
    """What the training took: steps, samples a step, forward and backward passes a sample and
    step.
    """

    steps: int
    batch_size: int
    forward: float
    backward: float
    inner: float = Field(
        0, description="passes of an attack in the training, which need no gradient of the weights"
    )
    seconds: float | None = None


class VictimFacts(_Open):
    """What the victim costs, and where its weights came from."""

    parameters: int
    gflops: float
    gmacs: float
    latency_ms: float
    peak_memory_mib: float
    checkpoint: str
    origin: str
    training: TrainingFacts | None = Field(None, description="null for foreign weights")


class CostFacts(_Open):
    """What the cell cost."""

    attack_forward_per_sample: float
    attack_backward_per_sample: float
    seconds: float
    peak_memory_mib: float
    batch_size: int


class Environment(_Open):
    """Where it ran."""

    device: str
    versions: dict[str, str]
    started: float


class Digests(_Open):
    """What a reader checks before it believes: sha256 of the outcomes' npz, and of everything else
    here as canonical JSON.
    """

    outcomes: Hash
    record: Hash


class _Kept(_Open):
    """What records and certificates share."""

    hash: Hash
    schema_: int = Field(1, alias="schema", ge=1, description="version of what the hash means")
    shape: int = Field(1, ge=1, description="version of the layout")
    digests: Digests | None = Field(
        None, description="absent in what was written before there were any (shape 1)"
    )


class RecordModel(_Kept):
    """One evaluated cell."""

    spec: Spec
    command: str
    names: Names
    figures: Figures
    stochastic: bool
    draws: int = Field(ge=1)
    batch_dependent: str | None = Field(
        None, description="how predictions for an image depend on its neighbours in the batch"
    )
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
    attack_ran: AttackRan | None = Field(
        None, description="of native attacks whose parameters leave something open"
    )
    trust: Literal["pass", "warn", "fail"] | None = None
    diagnostics: list[Sign] = []

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        """Every list that goes by modality or by task has the length of their names."""
        modalities, tasks, threat = (
            len(self.names.modalities),
            len(self.names.tasks),
            self.spec.threat,
        )
        by_modality: dict[str, Sequence[object]] = {
            "spec.data.channels": self.spec.data.channels,
            "spec.threat.radii": threat.radii,
        }
        by_task: dict[str, Sequence[object]] = {
            "names.classes": self.names.classes,
            "figures.tasks": self.figures.tasks,
        }
        for n, kind, lists in ((modalities, "modalities", by_modality), (tasks, "tasks", by_task)):
            for name, values in lists.items():
                if len(values) != n:
                    raise ValueError(f"{name} has {len(values)} entries for {n} {kind}")
        if not all(0 <= task < tasks for task in threat.tasks):
            raise ValueError(f"spec.threat.tasks names a task that is none of the {tasks}")
        return self


class SmoothingSpec(_Open):
    """Randomised smoothing: noise, which modalities carry it (numbers), draws that choose a class
    and that bound its probability.
    """

    sigma: float = Field(gt=0)
    noised: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    n0: int = Field(ge=1)
    n: int = Field(ge=1)
    alpha: float = Field(gt=0, lt=1, description="chance that a certificate is wrong")


class CertificateSpec(_Open):
    """What the certificate's hash is taken over."""

    victim: VictimSpec
    data: DataSpec
    certificate: SmoothingSpec
    seed: int


class CertifiedTask(_Open):
    """Figures of one task over its labelled samples; radii are L2 sizes for pixels in 0..1."""

    task: str
    n: int
    n_distinct: int
    n_groups: int | None = Field(
        None, description="patients, or what else the card groups by; images where it names nothing"
    )
    n_effective: float | None = Field(
        None,
        description=(
            "independent samples that `certified_accuracy` is worth: its interval counts these"
        ),
    )
    abstained: Share
    certified_accuracy: Share = Field(description="share certified right, at whatever radius")
    average_radius: Annotated[float, Field(ge=0)] = Field(
        description="mean radius, 0 where wrong or abstained"
    )
    largest_radius: Annotated[float, Field(ge=0)]
    trivial: str | None = Field(
        None,
        description="why the smoothed victim is no better than a constant at this task, or null",
    )


class CertificateModel(_Kept):
    """What was proved about one victim with noise on some of its modalities; the radius of every
    sample lies beside it as npz.
    """

    spec: CertificateSpec
    names: InputsAndTasks
    defense: str
    noised: str = Field(
        description=(
            "what the radius bounds: `all modalities` jointly, or one `alone`, the others trusted"
        )
    )
    figures: list[CertifiedTask] = Field(min_length=1)
    batch_dependent: str | None = Field(
        None, description="how predictions for an image depend on its neighbours in the batch"
    )
    synthetic: bool
    notes: list[str]
    environment: Environment

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        """Figures go by task, noised modalities by number."""
        if [figures.task for figures in self.figures] != self.names.tasks:
            raise ValueError("figures are not those of the tasks named")
        if max(self.spec.certificate.noised) >= len(self.names.modalities):
            raise ValueError("spec.certificate.noised names a modality that is none")
        return self


SCHEMAS: dict[str, type[_Open]] = {"record": RecordModel, "certificate": CertificateModel}


def json_schema(name: str = "record") -> str:
    """The JSON schema of a record, or of a certificate."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SCHEMAS[name].model_json_schema(),
    }
    return json.dumps(schema | {"title": f"medrobust {name}"}, indent=1) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        Path(sys.argv[1], f"{name}.schema.json").write_text(json_schema(name), encoding="utf-8")
