"""The worst case of a row of a comparison: every sample under the attack that hurts it most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.reports.areas import area
from robustbench_med.reports.families import groups_of
from robustbench_med.reports.floors import Floor
from robustbench_med.reports.shared_draws import share_of_draws, worth_of_draws
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

Arrays = Mapping[str, NDArray[Any]]
"""Per-sample outcomes of a record."""
ByTraining = Sequence[Sequence[statistics.Floats]]
"""Of every training and each of its evaluation seeds the (n, attacked tasks) fractions right."""


@dataclass(frozen=True)
class WorstCase:
    """Robust figures where each sample meets the attack that hurts it most, means over tasks; the
    accuracies with their Wilson 95 % intervals.

    Attributes:
        worst_std: standard deviation of `worst` over trainings, None for one.
        worst_balanced_accuracy: an attack hurts here by what the sample weighs in it: one over the
            samples of its class.
        worst_auc: under the one attack that leaves least of it, as it is no mean over samples;
            None where a class does not occur.
    """

    worst: float
    worst_low: float
    worst_high: float
    worst_std: float | None
    worst_balanced_accuracy: float
    worst_balanced_accuracy_low: float
    worst_balanced_accuracy_high: float
    worst_auc: float | None


@dataclass(frozen=True)
class Labelled:
    """The samples of a row at one attacked task after the other.

    Attributes:
        labels: (n, attacked tasks), -1 = not labelled.
        groups: of every task the (n,) patients or images of its samples; None in the oldest
            outcomes.
        images: of every task the (n,) images; None in the oldest outcomes.
        distinct: of every task its number of distinct images.
        worth: of every task what its samples are worth because draws are shared
            (`shared_draws.worth_of_draws`).
        of_draws: of every task what shared draws add to the variance of its mean over trainings and
            seeds (`shared_draws.share_of_draws`).
    """

    labels: NDArray[np.int64]
    groups: Sequence[NDArray[Any] | None]
    images: Sequence[NDArray[Any] | None]
    distinct: Sequence[int]
    worth: Sequence[float]
    of_draws: Sequence[float]

    @classmethod
    def of(
        cls, record: Record, arrays: Arrays, worth: Sequence[float], of_draws: Sequence[float]
    ) -> Labelled:
        """Those of a record."""
        tasks = record.spec.threat.tasks
        return cls(
            arrays["labels"][:, tasks],
            [groups_of(arrays, t) for t in tasks],
            [arrays.get(f"image_{t}") for t in tasks],
            [record.figures.tasks[t].n_distinct for t in tasks],
            worth,
            of_draws,
        )

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n, attacked tasks) which samples are labelled."""
        return self.labels >= 0

    @property
    def floor(self) -> Floor:
        """What the constant answer reaches on them."""
        return Floor.of_counts(
            [np.bincount(labels[labels >= 0]).tolist() for labels in self.labels.T]
        )

    @property
    def class_weights(self) -> statistics.Floats:
        """(n, attacked tasks) one over the number of the task's samples of that class, 0 where not
        labelled.
        """
        weights = np.zeros(self.labels.shape)
        for t, labels in enumerate(self.labels.T):
            counts = np.bincount(labels[labels >= 0])
            weights[labels >= 0, t] = 1 / counts[labels[labels >= 0]]
        return weights


def by_training(
    measured: Sequence[Record], rights: Mapping[str, statistics.Floats], weights: NDArray[Any]
) -> list[list[statistics.Floats]]:
    """For every training and each of its evaluation seeds the (n, attacked tasks) fraction right
    under the worst of the attacks.

    Args:
        rights: (n, attacked tasks) fraction right of every record, by its hash.
        weights: (n, attacked tasks) what each sample weighs in its task (`statistics.worst_case`).
    """
    by_seed: dict[tuple[int | None, int], list[Record]] = {}
    for record in measured:
        seeds = record.spec.victim.train_seed, record.spec.seed
        by_seed.setdefault(seeds, []).append(record)
    found: dict[int | None, list[statistics.Floats]] = {}
    for (train_seed, _), records in by_seed.items():
        mine = [rights[record.hash] for record in records]
        worst = statistics.worst_case(mine, weights, records[0].draws)
        found.setdefault(train_seed, []).append(worst)
    return list(found.values())


def over_trainings(worst: ByTraining) -> statistics.Floats:
    """(n, attacked tasks), the mean over trainings of the means over evaluation seeds."""
    return np.mean([np.mean(of_seeds, 0) for of_seeds in worst], 0)


@dataclass(frozen=True)
class OnSamples:
    """What was measured on the same samples: on the usual split, or on one fold.

    Attributes:
        plain: under the attacks that take most of the accuracy.
        balanced: under those that take most of the balanced accuracy.
        labelled: the samples.
    """

    plain: ByTraining
    balanced: ByTraining
    labelled: Labelled


def on_samples(measured: Sequence[Record], store: Store[Record]) -> OnSamples:
    """What the attacks on a victim left of one and the same samples under one threat.

    Args:
        measured: records of all attacks and seeds; no noise control.
    """
    first, arrays = measured[0], store.arrays(measured[0])
    chunked = [(record, store.arrays(record)) for record in measured if record.spec.protocol.chunk]
    worth = [
        min((worth_of_draws(*each, t) for each in chunked), default=1.0)
        for t in first.spec.threat.tasks
    ]
    of_draws = [_of_draws(measured, chunked, t) for t in first.spec.threat.tasks]
    labelled = Labelled.of(first, arrays, worth, of_draws)
    tasks, rights = first.spec.threat.tasks, {}
    for record in measured:
        right = store.arrays(record, ["robust_right"])["robust_right"][:, tasks]
        rights[record.hash] = statistics.shares(right, record.draws)
    return OnSamples(
        by_training(measured, rights, labelled.known),
        by_training(measured, rights, labelled.class_weights),
        labelled,
    )


def _of_draws(
    measured: Sequence[Record], chunked: Sequence[tuple[Record, Arrays]], t: int
) -> float:
    """What shared draws add to the variance of task t: those of a training and seed under the
    attack where they add most; of several, which draw apart, that of their mean.
    """
    most = {(r.spec.victim.train_seed, r.spec.seed): 0.0 for r in measured}
    for record, arrays in chunked:
        of = record.spec.victim.train_seed, record.spec.seed
        most[of] = max(most[of], share_of_draws(record, arrays, t))
    return sum(most.values()) / len(most) ** 2


def worst_case(parts: Sequence[OnSamples], auc: float | None) -> WorstCase:
    """The figures of a row: means over its folds, whose samples add up.

    Args:
        parts: of every fold; of the usual split one.
        auc: the lowest of an attack.
    """
    accuracies = [_accuracy(over_trainings(part.plain), part.labelled) for part in parts]
    balanced = [_balanced_accuracy(over_trainings(part.balanced), part.labelled) for part in parts]
    spread = [
        _rate(np.mean(of_seeds, 0), part.labelled) for part in parts for of_seeds in part.plain
    ]
    deviation = float(np.std(spread, ddof=1)) if len(spread) > 1 else None
    return WorstCase(
        *_with_interval(accuracies), deviation, *_with_interval(balanced), worst_auc=auc
    )


def of_tasks(parts: Sequence[OnSamples]) -> list[tuple[float, float, float]]:
    """The worst case of every attacked task with its interval, as `worst_case`."""
    by_fold = [_accuracy(over_trainings(part.plain), part.labelled) for part in parts]
    tasks = range(len(by_fold[0].rates))
    return [
        _with_interval([_Rates([fold.rates[t]], [fold.counts[t]]) for fold in by_fold])
        for t in tasks
    ]


def lowest_auc(measured: Sequence[Record]) -> float | None:
    """The lowest robust AUC of an attack, the mean over its records; None where one has none."""
    by_attack: dict[str, list[float]] = {}
    for record in measured:
        if (found := area(record, "robust")) is None:
            return None
        by_attack.setdefault(record.attack_label, []).append(found)
    return min(float(np.mean(values)) for values in by_attack.values())


@dataclass(frozen=True)
class _Rates:
    """Of every task the share right, and how many independent samples it is worth."""

    rates: Sequence[float]
    counts: Sequence[float]


def _rate(right: statistics.Floats, labelled: Labelled) -> float:
    """The mean over tasks."""
    return float(
        np.mean([r[there].mean() for r, there in zip(right.T, labelled.known.T, strict=True)])
    )


def _accuracy(right: statistics.Floats, labelled: Labelled) -> _Rates:
    rates: list[float] = []
    counts: list[float] = []
    for t, (groups, distinct) in enumerate(zip(labelled.groups, labelled.distinct, strict=True)):
        there = labelled.known[:, t]
        rates.append(float(right[there, t].mean()))
        if groups is None:
            counts.append(distinct)
        else:
            counts.append(min(statistics.effective_n(right[there, t], groups[there]), distinct))
    return _Rates(rates, [n * worth for n, worth in zip(counts, labelled.worth, strict=True)])


def _balanced_accuracy(right: statistics.Floats, labelled: Labelled) -> _Rates:
    """As `_accuracy`, of the mean over classes: its variance is that of an accuracy over the
    harmonic mean of the classes' samples times their number.
    """
    rates: list[float] = []
    counts: list[float] = []
    for t, labels in enumerate(labelled.labels.T):
        classes = np.unique(labels[labels >= 0])
        recalls = [right[labels == c, t].mean() for c in classes]
        samples = [_independent(right[:, t], labels == c, labelled, t) for c in classes]
        rates.append(float(np.mean(recalls)))
        counts.append(labelled.worth[t] * len(classes) ** 2 / sum(1 / n for n in samples))
    return _Rates(rates, counts)


def _independent(
    right: statistics.Floats, there: NDArray[np.bool_], labelled: Labelled, t: int
) -> float:
    """How many independent samples those of a class are worth; those of outcomes that do not name
    their images repeat as often as all of their task.
    """
    groups, images = labelled.groups[t], labelled.images[t]
    if groups is None:
        return float(there.sum()) * labelled.distinct[t] / float(labelled.known[:, t].sum())
    distinct = len(np.unique((groups if images is None else images)[there]))
    return min(statistics.effective_n(right[there], groups[there]), distinct)


def _with_interval(folds: Sequence[_Rates]) -> tuple[float, float, float]:
    """The mean over tasks and folds, with its interval on the samples of the task that has
    fewest.
    """
    rate = float(np.mean([fold.rates for fold in folds]))
    return rate, *statistics.wilson(rate, float(np.sum([fold.counts for fold in folds], 0).min()))
