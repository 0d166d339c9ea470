"""What a comparison measured: a row for every model with a defence on one data set under one
threat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.naming import canonical_hash
from robustbench_med.reports import floors, under_training
from robustbench_med.reports.comparison.believed import Trust, trust_of
from robustbench_med.reports.comparison.entries import Entry
from robustbench_med.reports.comparison.metrics import no_robustness
from robustbench_med.reports.comparison.worst import (
    Arrays,
    OnSamples,
    WorstCase,
    lowest_auc,
    on_samples,
    over_trainings,
    worst_case,
)
from robustbench_med.reports.families import exact, groups_of, without_midway
from robustbench_med.reports.floors import Floor
from robustbench_med.reports.tables import Shortfalls
from robustbench_med.store.parts import DataSpec
from robustbench_med.store.record import Record, TrainingFacts, VictimFacts
from robustbench_med.store.store import Store


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
class Naive:
    """Robust figures under an attack that ignores the defence; all None where none was run.

    `naive_how` says what is naive about it: `release`, the authors' release protocol on a random
    victim, or `unaware`, not knowing of an input transform.
    """

    naive: float | None = None
    naive_balanced_accuracy: float | None = None
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
class OfAttack:
    """Robust figures under one attack; the AUC is None where a class does not occur."""

    robust: float
    balanced_accuracy: float
    auc: float | None


@dataclass(frozen=True)
class Outcomes:
    """What the paired statistics need of every unit, a labelled (sample, attacked task).

    Attributes:
        worst: (units,) worst-case fraction right, mean over trainings and seeds.
        balanced: (units,) the same under the attacks that take most of the balanced accuracy.
        first: (units,) the same of the first seed alone: McNemar's test takes each patient once,
            with one victim.
        units: (units,) their names.
        clusters: (units,) the patient or image behind each (`clusters`): units that share it are
            resampled together.
        tasks, classes: (units,) the task of each, and its label.
        of_draws: (units,) what shared draws add to the variance of the task's mean p, over
            p (1 - p) (`shared_draws.share_of_draws`).
    """

    worst: statistics.Floats
    balanced: statistics.Floats
    first: statistics.Floats
    units: tuple[str, ...]
    clusters: tuple[int, ...]
    tasks: tuple[int, ...]
    classes: tuple[int, ...]
    of_draws: tuple[float, ...]


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
        clean, clean_balanced_accuracy: without an attack.
        robust: robust figures by attack, the noise control among them.
        worst, naive, costs, trust: see there.
        floor: what the constant answer reaches on the samples.
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
    clean_balanced_accuracy: float
    robust: Mapping[str, OfAttack]
    worst: WorstCase
    floor: Floor
    naive: Naive
    draws: int
    eot: int | None
    costs: Costs
    trust: Trust
    outcomes: Outcomes

    @property
    def is_below_floor(self) -> bool:
        """Whether its worst-case robust accuracy, or what it is judged on, is no higher than the
        constant answer's.
        """
        worst = self.worst
        return no_robustness(worst.worst, worst.worst_balanced_accuracy, self.floor)

    @property
    def marks(self) -> str:
        """What a reader must know before believing it."""
        below = [floors.BELOW] if self.is_below_floor else []
        return "; ".join([*filter(None, [self.trust.marks]), *below])

    def columns(self) -> dict[str, object]:
        """The row as the columns of compare.csv; the robust accuracy under each attack is one,
        between `clean` and `worst`.
        """
        others = {
            f"{attack}_{name}": getattr(figures, name)
            for attack, figures in self.robust.items()
            for name in ("balanced_accuracy", "auc")
        }
        return {
            "model": self.model,
            "defense": self.defense,
            "victim": self.victim,
            **asdict(self.setting),
            "n_distinct": self.n_distinct,
            "trainings": self.trainings,
            "evaluation_seeds": self.evaluation_seeds,
            "clean": self.clean,
            **{attack: figures.robust for attack, figures in self.robust.items()},
            **asdict(self.worst),
            "clean_balanced_accuracy": self.clean_balanced_accuracy,
            **others,
            "judged_on": floors.judged_metric(self.floor),
            "floor_accuracy": self.floor.accuracy,
            "floor_balanced_accuracy": self.floor.balanced_accuracy,
            **asdict(self.naive),
            "draws": self.draws,
            "eot": self.eot,
            **asdict(self.costs),
            **asdict(self.trust),
            "marks": self.marks,
            "is_below_floor": self.is_below_floor,
        }


def rows_of(
    entry: Entry, store: Store[Record], shortfalls: Shortfalls = MappingProxyType({})
) -> list[Row]:
    """One row a data set and threat model of an entry; and one for all norms together where several
    were asked for, whose worst case is that of samples that stand under every one of them.

    Args:
        shortfalls: by hash of a record, the tasks at which its victim is under-trained.
    """
    groups, naive = _by_setting(entry.records), _by_setting(entry.naive)
    rows = [
        _row(entry, records, naive.get(key, []), store, shortfalls)
        for key, records in groups.items()
    ]
    for records in _by_setting(entry.records, whatever_ball=True).values():
        if len({record.spec.threat.norm_label for record in records}) > 1:
            row = _row(entry, records, [], store, shortfalls)
            rows.append(replace(row, setting=_under_every_norm(records), robust={}))
    return rows


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


def _by_setting(
    records: Sequence[Record], *, whatever_ball: bool = False
) -> dict[str, list[Record]]:
    """The records of each data set and threat; `whatever_ball`: norms and radii do not part
    them.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        data, threat = record.spec.data.plain(), record.spec.threat.plain()
        if whatever_ball:
            threat = {key: threat[key] for key in threat.keys() - {"norm", "radii", "counts"}}
        key = canonical_hash({"data": data, "threat": threat})
        groups.setdefault(key, []).append(record)
    return groups


def _row(
    entry: Entry,
    records: Sequence[Record],
    naive: Sequence[Record],
    store: Store[Record],
    shortfalls: Shortfalls,
) -> Row:
    first = records[0]
    measured = [record for record in records if not record.control]
    found = on_samples(measured, store)
    worst = worst_case([found], lowest_auc(measured))
    return Row(
        model=entry.model,
        defense=entry.defense,
        victim=first.spec.victim.model,
        setting=_setting(first),
        n_distinct=min(found.labelled.distinct),
        trainings=len(found.plain),
        evaluation_seeds=min(map(len, found.plain)),
        clean=float(np.mean([exact(record, "clean") for record in records])),
        clean_balanced_accuracy=float(np.mean([_clean_balanced(record) for record in records])),
        robust=_robust(without_midway(records)),
        worst=worst,
        floor=found.labelled.floor,
        naive=_naive(naive),
        draws=first.draws,
        eot=measured[0].spec.attack.params.get("eot"),
        costs=_costs(first.victim),
        trust=trust_of(
            records, measured, worst.worst, under_training.of_family(records, shortfalls)
        ),
        outcomes=_outcomes(found, store.arrays(first)),
    )


def _setting(record: Record) -> Setting:
    return Setting(
        data=_data(record.spec.data),
        synthetic=record.synthetic,
        size=record.spec.data.size,
        norm=record.spec.threat.norm_label,
        eps=record.eps,
        protocol=record.spec.protocol.name,
        n=record.spec.data.n,
    )


def _under_every_norm(records: Sequence[Record]) -> Setting:
    """What stands in the place of a threat: the norms, and the largest radius of each."""
    largest: dict[str, Record] = {}
    for record in records:
        norm = record.spec.threat.norm_label
        other = largest.setdefault(norm, record)
        if max(record.spec.threat.radii) > max(other.spec.threat.radii):
            largest[norm] = record
    eps = " + ".join(record.eps for record in largest.values())
    return replace(_setting(records[0]), norm=" + ".join(largest), eps=eps)


def _data(data: DataSpec) -> str:
    """The data set, with the one fold of a cross-validation that was compared on."""
    return data.name + (f" (fold {data.fold.number} of {data.fold.of})" if data.fold else "")


def _clean_balanced(record: Record) -> float:
    """Clean balanced accuracy, the mean over the attacked tasks."""
    tasks = [record.figures.tasks[t] for t in record.spec.threat.tasks]
    return float(np.mean([task.clean_balanced_accuracy for task in tasks]))


def _robust(records: Sequence[Record]) -> dict[str, OfAttack]:
    """Robust figures by attack."""
    by_attack: dict[str, list[Record]] = {}
    for record in records:
        by_attack.setdefault(record.attack_label, []).append(record)
    return {
        attack: OfAttack(
            float(np.mean([exact(record, "robust") for record in under])),
            float(np.mean([record.figures.balanced_accuracy for record in under])),
            lowest_auc(under),
        )
        for attack, under in by_attack.items()
    }


def _naive(records: Sequence[Record]) -> Naive:
    if not records:
        return Naive()
    (attack, figures), *_ = _robust(records).items()
    how = "release" if records[0].spec.protocol.name == "release" else "unaware"
    return Naive(figures.robust, figures.balanced_accuracy, attack, how)


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


def _outcomes(found: OnSamples, arrays: Arrays) -> Outcomes:
    plain, labelled = found.plain, found.labelled
    known = labelled.known
    samples, attacked = np.nonzero(known)
    return Outcomes(
        worst=over_trainings(plain)[known],
        balanced=over_trainings(found.balanced)[known],
        first=plain[0][0][known],
        units=tuple(f"{arrays['ids'][s]}/{t}" for s, t in zip(samples, attacked, strict=True)),
        clusters=tuple(clusters(arrays)[samples].tolist()),
        tasks=tuple(attacked.tolist()),
        classes=tuple(labelled.labels[known].tolist()),
        of_draws=tuple(np.array(labelled.of_draws)[attacked].tolist()),
    )
