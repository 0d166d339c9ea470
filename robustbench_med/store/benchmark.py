"""Benchmarks: data, threats and a reference set of attacks that have a name and a version.

Rows are ranked within one benchmark alone, and only with its whole reference set. A benchmark
never changes: another figure, or a raised revision of one of its attacks, makes a new version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from robustbench_med.errors import unknown
from robustbench_med.naming import Norm, canonical_hash
from robustbench_med.store.entry import AttackResult, EntryData, ThreatResult

FOLDER = files("robustbench_med.store") / "benchmarks"
UNVERIFIED = "unverified copy of the data"


class _Fixed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BenchmarkData(_Fixed):
    """The samples.

    Attributes:
        name: data set or pairing.
        published: md5 of its published files by name, where the set has any; a record on other
            files is of an unverified copy.
        manifest: hash of splits and pairing; None where the published files were not at hand.
        split, n, size: first n samples of the split, pixels of a side.
        preset: that victims of the benchmark are trained with.
    """

    name: str
    published: dict[str, str] = {}
    manifest: str | None = None
    split: str
    n: int = Field(ge=1)
    size: int = Field(ge=16)
    preset: str


class BenchmarkThreat(_Fixed):
    """A norm, its radii (all modalities alike) and the tasks aimed at."""

    norm: Norm
    eps: list[str] = Field(min_length=1)
    target: str = "joint"


class Reference(_Fixed):
    """An attack of the reference set.

    Attributes:
        attack: its name.
        why: what it is there for.
        params: parameters that it has at least.
        max_passes: budget of its search, at least; None for one without.
        revision: of the files that it is made of.
    """

    attack: str
    why: str
    params: dict[str, Any] = {}
    max_passes: int | None = None
    revision: dict[str, int] = Field(min_length=1)


class Benchmark(_Fixed):
    """A benchmark as its file says it."""

    name: str = Field(pattern=r"^[a-z0-9-]+-v\d+$")
    title: str
    description: str
    synthetic: bool
    data: BenchmarkData
    threats: list[BenchmarkThreat] = Field(min_length=1)
    protocol: str = "sound"
    draws: int = 16
    reference: list[Reference] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    trainings: int = Field(ge=1)

    @property
    def hash(self) -> str:
        """Of everything that it says, but for how it is described."""
        told = {"title", "description"}
        return canonical_hash(self.model_dump(mode="json", exclude=told))

    def has(self, data: EntryData, threat: ThreatResult) -> bool:
        """Whether a row is of its samples and threats."""
        mine = self.data
        samples = (data.name, data.split, data.n, data.size, data.folds_of)
        if samples != (mine.name, mine.split, mine.n, mine.size, None):
            return False
        balls = [(t.norm, eps, t.target) for t in self.threats for eps in t.eps]
        ball = (threat.norm_label, threat.eps, threat.target)
        return ball in balls and threat.protocol == self.protocol

    def missing(self, data: EntryData, threat: ThreatResult) -> list[str]:
        """What a row of it lacks to be ranked, in words."""
        other = self.data.manifest is not None and data.manifests != [self.data.manifest]
        found = [UNVERIFIED] if data.unverified or other else []
        if threat.random and threat.draws < self.draws:
            found.append(f"{threat.draws} of {self.draws} draws")
        for wanted in self.reference:
            reasons = [_lacks(wanted, ran, self.seeds) for ran in threat.attacks]
            if "" not in reasons:
                near = [reason for reason in reasons if reason]
                found.append(f"{wanted.attack}{near[0]}" if near else wanted.attack)
        return found

    def run_options(self) -> dict[str, Any]:
        """What `medrobust run` is to do for a victim, by field of its specification."""
        params = {
            f"{each.attack}.{key}": value
            for each in self.reference
            for key, value in each.params.items()
        }
        return {
            "data": [self.data.name],
            "preset": self.data.preset,
            "size": self.data.size,
            "limit": self.data.n,
            "norm": list(dict.fromkeys(threat.norm for threat in self.threats)),
            "eps": [
                f"{threat.norm}:{eps}" if len(self.threats) > 1 else eps
                for threat in self.threats
                for eps in threat.eps
            ],
            "target_task": self.threats[0].target,
            "protocol": self.protocol,
            "draws": self.draws,
            "attack": [each.attack for each in self.reference],
            "attack_params": params,
            "seed": list(self.seeds),
            "train_seed": list(range(self.trainings)),
        }


def _lacks(wanted: Reference, ran: AttackResult, seeds: Sequence[int]) -> str | None:
    """What an attack that was run lacks to be one of the reference set, put behind its name; empty
    where nothing; None where it is another attack.
    """
    if (ran.name, ran.engine) != (wanted.attack, "native"):
        return None
    if wanted.revision != (ran.revision or {}):
        return " of the benchmark's revision"
    other = [key for key, value in wanted.params.items() if ran.params.get(key) != value]
    if other:
        return " with " + " ".join(f"{key}={wanted.params[key]}" for key in other)
    if wanted.max_passes is not None and (
        ran.effort is None or ran.effort.max_passes < wanted.max_passes
    ):
        return f" with --max-passes {wanted.max_passes}"
    if ran.accelerate:
        return " without --accelerate"
    absent = [str(seed) for seed in seeds if seed not in ran.evaluation_seeds]
    return f" with --seed {','.join(absent)}" if absent else ""


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """All by name, newer versions behind older ones."""
    import yaml

    found = {}
    for file in sorted(FOLDER.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            read = Benchmark.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
            found[read.name] = read
    return found


def benchmark(name: str) -> Benchmark:
    """The one of a name.

    Raises:
        UserError: there is none.
    """
    if name not in benchmarks():
        raise unknown("benchmark", name, benchmarks())
    return benchmarks()[name]


def benchmark_of(data: EntryData, threat: ThreatResult) -> Benchmark | None:
    """That of a row: of those with its samples and threat the newest of which nothing is missing,
    else the newest.
    """
    mine = [each for each in benchmarks().values() if each.has(data, threat)]
    whole = [each for each in mine if not each.missing(data, threat)]
    fitting = whole or mine
    return fitting[-1] if fitting else None
