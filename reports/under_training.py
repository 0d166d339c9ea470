"""Victims that classify worse than others of the same data: an attack on them measures the
training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from robustbench_med.statistics import auc_error
from robustbench_med.store.record import Record

MARGIN = 0.03
"""How far a victim's clean AUC may lie below the reference."""


@dataclass(frozen=True)
class Shortfall:
    """A task at which a victim's clean AUC lies below a reference: the best undefended victim of
    the same data, or the figure published for them.
    """

    task: str
    auc: float
    reference: str
    reference_auc: float

    def __str__(self) -> str:
        return (
            f"under-trained on {self.task} (AUC {self.auc:.3f}, {self.reference}"
            f" {self.reference_auc:.3f})"
        )


@dataclass(frozen=True)
class _Auc:
    """A clean AUC at one task: whose it is, and its standard error (0 where that is not known)."""

    name: str
    auc: float
    error: float = 0.0


def under_trained(records: Sequence[Record]) -> dict[str, list[Shortfall]]:
    """By hash of a record, the tasks at which its victim is under-trained.

    It is where its clean AUC lies more than MARGIN below a reference, and by more than chance
    explains: 1.96 standard errors of a difference (Hanley and McNeil 1982, doi
    10.1148/radiology.143.1.7063747), as if the two AUCs were of different samples, which overstates
    it. So few samples give no mark, and neither do records that do not say how many samples each
    class has. References are the best undefended victim of the same data set, fold, size and split
    in the store, and the published figure where all files are the published ones. Of every victim
    the record with most samples counts.

    Args:
        records: all of a store.
    """
    shortfalls: dict[tuple[object, ...], list[Shortfall]] = {}
    for samples, group in _by_samples(records).items():
        for t, task in enumerate(group[0].names.tasks):
            aucs = _aucs(group, t)
            references = [*_undefended(group, aucs), *_published(group, t)]
            for victim, measured in aucs.items():
                short = [reference for reference in references if _short(measured, reference)]
                if short:
                    best = max(short, key=lambda reference: reference.auc)
                    name = best.name
                    if name == measured.name:
                        name = f"another training of {name}"
                    found = Shortfall(task, measured.auc, name, best.auc)
                    shortfalls.setdefault((samples, victim), []).append(found)
    return {
        record.hash: shortfalls[key]
        for record in records
        if (key := (_samples(record), _victim(record))) in shortfalls
    }


def of_family(family: Sequence[Record], shortfalls: Mapping[str, Sequence[Shortfall]]) -> list[str]:
    """The marks of a family's trainings: of every task the worst one.

    Args:
        shortfalls: as `under_trained` gives them.
    """
    worst: dict[str, Shortfall] = {}
    for record in family:
        for found in shortfalls.get(record.hash, ()):
            if found.task not in worst or found.auc < worst[found.task].auc:
                worst[found.task] = found
    return [str(found) for found in worst.values()]


def _samples(record: Record) -> tuple[object, ...]:
    """What victims must share to be compared: data set, fold, size and split; the manifest tells
    sets of one name apart that have other images, labels or tasks.
    """
    data = record.spec.data
    fold = data.fold.number if data.fold else None
    return data.label, data.manifest, tuple(record.names.tasks), fold, data.size, data.split


def _victim(record: Record) -> tuple[str, str]:
    """The model with its defences, and the weights."""
    return record.spec.victim.model, record.spec.victim.weights_sha256


def _by_samples(records: Sequence[Record]) -> dict[tuple[object, ...], list[Record]]:
    """The records of each data set, those with most samples first."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in sorted(records, key=lambda record: (-record.spec.data.n, record.hash)):
        groups.setdefault(_samples(record), []).append(record)
    return groups


def _aucs(group: Sequence[Record], t: int) -> dict[tuple[str, str], _Auc]:
    """The clean AUC of every victim at task t, where its error is known."""
    aucs: dict[tuple[str, str], _Auc] = {}
    for record in group:
        task = record.figures.tasks[t]
        counts = task.class_samples or [0]
        if task.clean_auc is None or not all(counts) or _victim(record) in aucs:
            continue
        independent = task.independent("clean") / task.n
        aucs[_victim(record)] = _Auc(
            record.spec.victim.model,
            task.clean_auc,
            auc_error(task.clean_auc, [samples * independent for samples in counts]),
        )
    return aucs


def _undefended(group: Sequence[Record], aucs: Mapping[tuple[str, str], _Auc]) -> Iterator[_Auc]:
    """The best victim without a defence, if there is any."""
    plain = {_victim(record) for record in group if not record.spec.victim.defense}
    measured = [auc for victim, auc in sorted(aucs.items()) if victim in plain]
    if measured:
        yield max(measured, key=lambda auc: auc.auc)


def _published(group: Sequence[Record], t: int) -> Iterator[_Auc]:
    """The figure published for task t, if there is one and all files are the published ones."""
    for record in group:
        if record.references is not None and not record.unverified:
            figure = record.references[t]
            if figure is not None:
                yield _Auc(f"published {figure.model}", figure.auc)
                return


def _short(measured: _Auc, reference: _Auc) -> bool:
    """Whether an AUC lies below a reference by more than MARGIN and more than chance explains."""
    gap = reference.auc - measured.auc
    return gap > MARGIN and gap > 1.96 * math.hypot(measured.error, reference.error)
