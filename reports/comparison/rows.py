"""What a comparison measured: a row for every model with a defence on one data set under one
threat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.naming import canonical_hash
from robustbench_med.reports.comparison.entries import Entry
from robustbench_med.reports.families import groups_of
from robustbench_med.reports.tables import TRUST, doubts, trivial_on, trust
from robustbench_med.store.parts import DataSpec
from robustbench_med.store.record import Record, TrainingFacts, VictimFacts
from robustbench_med.store.store import Store

Arrays = Mapping[str, NDArray[Any]]
"""Per-sample outcomes of a record."""


@dataclass(frozen=True)
class Setting:
    """What victims have in common that stand in one table: the samples and the threat.

    Attributes:
        data: the data set, with the one fold of a cross-validation that was compared on.
        synthetic: whether some of its images are drawn.
        size: pixels of a side.
        norm, eps: of the threat; `eps` as people write it, with the modalities where they differ.
        protocol: how predictions are judged.
        n: samples.
    """

    data: str
    synthetic: bool
    size: int
    norm: str
    eps: str
    protocol: str
    n: int


@dataclass(frozen=True)
class WorstCase:
    """Robust accuracy where each sample meets the attack that hurts it most, the mean over tasks,
    with its Wilson 95 % interval; `worst_std` is over trainings (None for one).
    """

    worst: float
    worst_low: float
    worst_high: float
    worst_std: float | None


@dataclass(frozen=True)
class Naive:
    """Robust accuracy under an attack that ignores the defence; all None where none was run.

    `naive_how` says what is naive about it: `release`, the authors' release protocol on a random
    victim, or `unaware`, not knowing of an input transform.
    """

    naive: float | None = None
    naive_attack: str | None = None
    naive_how: str | None = None


@dataclass(frozen=True)
class Costs:
    """What a victim costs: GFLOPs and latency of one sample, parameters, and its training (None
    where nothing is known of it).
    """

    gflops: float
    latency_ms: float
    parameters: int
    training_gflops: float | None
    training_seconds: float | None


@dataclass(frozen=True)
class Trust:
    """Whether the figures can be believed: the worst verdict, the sign behind it (empty where all
    is well or nothing was checked), the marks, and whether the victim is no better than a constant
    on a task.
    """

    trust: str
    worst_sign: str
    marks: str
    is_trivial: bool


@dataclass(frozen=True)
class Outcomes:
    """What the paired statistics need of every unit, a labelled (sample, attacked task).

    Attributes:
        worst: (units,) worst-case fraction right, mean over trainings and seeds.
        first: (units,) the same of the first seed alone: McNemar's test takes each patient once,
            with one victim.
        units: (units,) their names.
        clusters: (units,) the patient or image behind each (`clusters`): units that share it are
            resampled together.
    """

    worst: statistics.Floats
    first: statistics.Floats
    units: tuple[str, ...]
    clusters: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One model with one defence on one data set under one threat.

    Attributes:
        model, defense: as they were asked for.
        victim: the name of the two together.
        setting: samples and threat.
        n_distinct: distinct images, of the task that has fewest.
        trainings: how many trained victims stand behind the row.
        evaluation_seeds: of each training, the fewest.
        clean: clean accuracy.
        robust: robust accuracy by attack, the noise control among them.
        worst, naive, costs, trust: see there.
        draws: forward passes behind a prediction.
        eot: draws of a gradient; None where no attack takes any.
        outcomes: the units of the paired statistics.
    """

    model: str
    defense: str
    victim: str
    setting: Setting
    n_distinct: int
    trainings: int
    evaluation_seeds: int
    clean: float
    robust: Mapping[str, float]
    worst: WorstCase
    naive: Naive
    draws: int
    eot: int | None
    costs: Costs
    trust: Trust
    outcomes: Outcomes

    def columns(self) -> dict[str, object]:
        """The row as the columns of compare.csv; each attack is one, between `clean` and
        `worst`.
        """
        return {
            "model": self.model,
            "defense": self.defense,
            "victim": self.victim,
            **asdict(self.setting),
            "n_distinct": self.n_distinct,
            "trainings": self.trainings,
            "evaluation_seeds": self.evaluation_seeds,
            "clean": self.clean,
            **self.robust,
            **asdict(self.worst),
            **asdict(self.naive),
            "draws": self.draws,
            "eot": self.eot,
            **asdict(self.costs),
            **asdict(self.trust),
        }


def rows_of(entry: Entry, store: Store[Record]) -> list[Row]:
    """One row a data set and threat model of an entry."""
    groups, naive = _by_setting(entry.records), _by_setting(entry.naive)
    return [_row(entry, records, naive.get(key, []), store) for key, records in groups.items()]


def clusters(arrays: Arrays) -> NDArray[np.int64]:
    """Of every sample, the patient (or image, where the card names none) in the set of the pairing
    that has fewest.

    Samples that share one are resampled together. Older outcomes know their images by id alone.
    """
    by_task = [groups_of(arrays, t) for t in range(arrays["labels"].shape[1])]
    parts = [groups for groups in by_task if groups is not None]
    if not parts:
        parts = list(np.array([str(i).split("+") for i in arrays["ids"]]).T)
    index = [np.unique(part, return_inverse=True)[1] for part in parts]
    return min(index, key=lambda codes: int(codes.max()))


def _by_setting(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each data set and threat."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        data, threat = record.spec.data.plain(), record.spec.threat.plain()
        key = canonical_hash({"data": data, "threat": threat})
        groups.setdefault(key, []).append(record)
    return groups


def _row(
    entry: Entry, records: Sequence[Record], naive: Sequence[Record], store: Store[Record]
) -> Row:
    first = records[0]
    measured = [record for record in records if not record.control]
    arrays = store.arrays(first)
    known = arrays["labels"][:, first.spec.threat.tasks] >= 0
    by_training = _worst_by_training(measured, known, store)
    of_trainings = [np.mean(of_seeds, 0) for of_seeds in by_training]
    return Row(
        model=entry.model,
        defense=entry.defense,
        victim=first.spec.victim.model,
        setting=_setting(first),
        n_distinct=min(_distinct(first)),
        trainings=len(by_training),
        evaluation_seeds=min(map(len, by_training)),
        clean=float(np.mean([record.figures.clean for record in records])),
        robust=_robust(records),
        worst=_worst_case(of_trainings, known, first, arrays),
        naive=_naive(naive),
        draws=first.draws,
        eot=measured[0].spec.attack.params.get("eot"),
        costs=_costs(first.victim),
        trust=_trust(records, measured),
        outcomes=_outcomes(np.mean(of_trainings, 0), by_training[0][0], known, arrays),
    )


def _setting(record: Record) -> Setting:
    return Setting(
        data=_data(record.spec.data),
        synthetic=record.synthetic,
        size=record.spec.data.size,
        norm=record.spec.threat.norm,
        eps=record.eps,
        protocol=record.spec.protocol.name,
        n=record.spec.data.n,
    )


def _data(data: DataSpec) -> str:
    """The data set, with the one fold of a cross-validation that was compared on."""
    return data.name + (f" (fold {data.fold.number} of {data.fold.of})" if data.fold else "")


def _distinct(record: Record) -> list[int]:
    """Distinct images of each attacked task."""
    return [record.figures.tasks[t].n_distinct for t in record.spec.threat.tasks]


def _robust(records: Sequence[Record]) -> dict[str, float]:
    """Robust accuracy by attack."""
    by_attack: dict[str, list[float]] = {}
    for record in records:
        by_attack.setdefault(record.attack_label, []).append(record.figures.robust)
    return {attack: float(np.mean(figures)) for attack, figures in by_attack.items()}


def _naive(records: Sequence[Record]) -> Naive:
    if not records:
        return Naive()
    robust = float(np.mean([record.figures.robust for record in records]))
    how = "release" if records[0].spec.protocol.name == "release" else "unaware"
    return Naive(robust, records[0].attack_label, how)


def _costs(victim: VictimFacts) -> Costs:
    training = victim.training
    return Costs(
        gflops=victim.gflops,
        latency_ms=victim.latency_ms,
        parameters=victim.parameters,
        training_gflops=None if training is None else _passes(training) * victim.gflops,
        training_seconds=None if training is None else training.seconds,
    )


def _passes(training: TrainingFacts) -> float:
    """All passes of a training in forward ones: a backward pass to the input costs one, to the
    weights too two. Older records count both kinds as the latter.
    """
    passes = int(training.forward + training.inner + 2 * training.backward)
    return training.steps * training.batch_size * passes


def _trust(records: Sequence[Record], measured: Sequence[Record]) -> Trust:
    return Trust(
        trust=trust(measured),
        worst_sign=_worst_sign(measured),
        marks="; ".join(doubts(records)),
        is_trivial=bool(trivial_on(records)),
    )


def _worst_sign(records: Sequence[Record]) -> str:
    """The sign behind the worst trust verdict; empty where all is well or nothing was checked."""
    signs = [sign for record in records for sign in record.diagnostics if sign.verdict != "pass"]
    return min(signs, key=lambda sign: TRUST.index(sign.verdict)).sign if signs else ""


# --- the worst case -------------------------------------------------------------------------------


def _worst_by_training(
    measured: Sequence[Record], known: NDArray[np.bool_], store: Store[Record]
) -> list[list[statistics.Floats]]:
    """For every training and each of its evaluation seeds the (n, attacked tasks) fraction right
    under the worst of the attacks.
    """
    by_seed: dict[tuple[int | None, int], list[Record]] = {}
    for record in measured:
        seeds = record.spec.victim.train_seed, record.spec.seed
        by_seed.setdefault(seeds, []).append(record)
    by_training: dict[int | None, list[statistics.Floats]] = {}
    for (train_seed, _), records in by_seed.items():
        first = records[0]
        tasks = first.spec.threat.tasks
        rights = [store.arrays(record)["robust_right"][:, tasks] for record in records]
        worst = statistics.worst_case(rights, known, first.draws)
        by_training.setdefault(train_seed, []).append(worst)
    return list(by_training.values())


def _worst_case(
    of_trainings: Sequence[statistics.Floats],
    known: NDArray[np.bool_],
    first: Record,
    arrays: Arrays,
) -> WorstCase:
    mean = np.mean(of_trainings, 0)
    rates: list[float] = []
    counts: list[float] = []
    for i, (t, distinct) in enumerate(zip(first.spec.threat.tasks, _distinct(first), strict=True)):
        labelled = known[:, i]
        right, groups = mean[labelled, i], groups_of(arrays, t)
        rates.append(float(right.mean()))
        if groups is None:
            counts.append(distinct)
        else:
            counts.append(min(statistics.effective_n(right, groups[labelled]), distinct))
    rate = float(np.mean(rates))
    low, high = statistics.wilson(rate, min(counts))
    spread = [worst[known].mean() for worst in of_trainings]
    return WorstCase(rate, low, high, float(np.std(spread, ddof=1)) if len(spread) > 1 else None)


def _outcomes(
    mean: statistics.Floats,
    first: statistics.Floats,
    known: NDArray[np.bool_],
    arrays: Arrays,
) -> Outcomes:
    samples, attacked = np.nonzero(known)
    return Outcomes(
        worst=mean[known],
        first=first[known],
        units=tuple(f"{arrays['ids'][s]}/{t}" for s, t in zip(samples, attacked, strict=True)),
        clusters=tuple(clusters(arrays)[samples].tolist()),
    )
