"""The shape of an entry: what a leaderboard says of one victim on one data set, without pixels.

A store gives entries, `results/` keeps them, and the leaderboard is made of them either way.
`python -m robustbench_med.store.schemas docs` writes the schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from robustbench_med.naming import Norm
from robustbench_med.store.attacks import EffortSpec
from robustbench_med.store.parts import (
    SHORT,
    DefenseSpec,
    Hash,
    Interval,
    Number,
    Part,
    Share,
    Size,
)
from robustbench_med.store.words import Word

FORMAT = 1
"""Version of the layout of an entry."""
Family = Literal["gradient", "transfer", "black box", "minimal"]
"""Kinds of attacks that a worst case is over."""
Convergence = Literal["converged", "capped", "spent"]


class Paper(Part):
    """Where a model or a defence comes from."""

    title: str
    link: str
    year: int | None = None


class Reported(Part):
    """What a paper reports of the victim, to stand beside what was measured."""

    figure: Literal["clean", "robust"] = "robust"
    value: Share
    norm: Norm | None = Field(None, description="of the threat it is beside; absent: of all")
    eps: str | None = Field(None, description="as the leaderboard writes it; absent: at all radii")
    setting: str = Field(description="data, attack and whatever else differs from the entry's")
    source: str = Field(description="paper, table, page")


class Weights(Part):
    """One training behind an entry, and where its weights are."""

    train_seed: int | None = Field(description="null: foreign weights")
    fold: int | None = None
    sha256: Hash
    origin: str = Field(description="zoo (in the wheel), cache, file or url")
    file: str = Field(description="name of the file")
    url: str | None = Field(None, description="where anybody gets it")


class EntryVictim(Part):
    """Who was attacked."""

    model: str = Field(description="with its defences, as tables call it")
    architecture: str = Field(description="without them")
    defense: list[DefenseSpec] = Field([], description="its layers in order")
    params: dict[str, Any]
    preset: str
    recipe: dict[str, Any] | None = None
    variant: str = Field("", description="what tells it from others of its name in its store")
    parameters: int
    gflops: Number
    gmacs: Number
    weights: list[Weights] = Field(min_length=1)


class EntryData(Part):
    """What it was attacked on; `manifest` is the hash of splits and pairing, of every fold one."""

    name: str
    split: str
    n: int = Field(ge=1)
    n_distinct: int
    size: int
    channels: list[int]
    manifests: list[str] = Field(min_length=1)
    samples: list[Hash] = Field(min_length=1)
    folds: int = Field(1, description="folds of a cross-validation that are there")
    folds_of: int | None = Field(None, description="and that there should be; null: usual split")
    synthetic: bool
    unverified: bool = Field(description="a file is not the published one")
    modalities: list[str]
    tasks: list[str]

    @property
    def label(self) -> str:
        """As tables call it."""
        return self.name + (f" ({self.folds_of}-fold)" if self.folds_of else "")


class TaskResult(Part):
    """One task before the attacks and in their worst case, mean over trainings."""

    task: str
    attacked: bool
    n: int
    clean: Share
    clean_interval: Interval
    worst: Share | None = Field(None, description="null: not attacked")
    worst_interval: Interval | None = None


class AttackResult(Part):
    """One attack of the worst case."""

    label: str = Field(description="as tables call it, engine and parameters that differ included")
    name: str
    engine: str
    params: dict[str, Any]
    effort: EffortSpec | None = None
    revision: dict[str, int] | None = None
    families: list[Family]
    convergence: Convergence | None = Field(None, description="of its search; null: ran once")
    robust: Share
    robust_interval: Interval
    trainings: int
    evaluation_seeds: list[int]
    trust: Word | None = None
    signs: list[str] = Field([], description="what speaks against it, the worst first")
    records: list[Hash]
    command: str = Field(description="that makes its first record again")
    accelerate: list[str] = Field(
        [], description="how its passes were computed faster; absent: as ever"
    )


class WorstResult(Part):
    """The worst case: every sample under the attack that harms it most (compare.csv)."""

    worst: Share
    worst_low: Share
    worst_high: Share
    worst_std: Number | None
    worst_balanced_accuracy: Share
    worst_balanced_accuracy_low: Share
    worst_balanced_accuracy_high: Share
    worst_auc: Share | None


class ThreatResult(Part):
    """One row of the leaderboard: the victim under one threat."""

    norm: Norm
    counts: str | None = None
    radii: list[Size]
    eps: str
    target: str
    tasks: list[int]
    protocol: str
    draws: int
    clean: Share
    clean_interval: Interval
    clean_balanced_accuracy: Share
    clean_auc: Share | None = Field(None, description="null: not defined, or not kept")
    multilabel: bool = Field(
        False, description="all attacked tasks are findings of a multi-label set: AUC judges them"
    )
    worst: WorstResult
    decided_by: str
    attacks: list[AttackResult] = Field(min_length=1)
    noise: Share | None = Field(None, description="under the noise control; null: it did not run")
    by_task: list[TaskResult]
    trainings: int
    evaluation_seeds: list[int]
    trust: Word | None
    why: str
    brief: str
    marks: list[str]
    naive: bool
    trivial: bool
    random: bool
    floor_accuracy: Share | None
    floor_balanced_accuracy: Share | None
    imbalanced: bool

    @property
    def norm_label(self) -> str:
        """The norm as tables name it."""
        return f"{self.norm} {self.counts}" if self.counts else self.norm


class About(Part):
    """What no record knows: who handed the entry in, what the papers are and what they report."""

    who: str | None = None
    paper: Paper | None = None
    defense_paper: Paper | None = None
    extra_data: str | None = Field(
        None, description="data besides the entry's that the victim was trained with"
    )
    reported: list[Reported] = Field([], description="what papers report of it")
    note: str | None = Field(None, description="why a figure stands although its trust failed")
    urls: dict[str, str] = Field(
        {}, description="where weights are, by their sha256's first digits"
    )


class EntryEnvironment(Part):
    """Where it ran."""

    devices: list[str]
    versions: dict[str, str]


class Entry(Part):
    """What a leaderboard says of one victim on one data set."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """One made of what JSON holds.

        Raises:
            pydantic.ValidationError: it breaks the schema.
            ValueError: it holds a number that is not finite.
        """
        return cls.model_validate(json.loads(json.dumps(content, allow_nan=False)), strict=True)

    format: int = Field(FORMAT, ge=1)
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.+_-]*$", max_length=150)
    victim: EntryVictim
    data: EntryData
    threats: list[ThreatResult] = Field(min_length=1)
    about: About = Field(default_factory=About.model_construct)
    environment: EntryEnvironment

    @property
    def checkpoint(self) -> str:
        """First digits of the first training's weights."""
        return self.victim.weights[0].sha256[:SHORT]
