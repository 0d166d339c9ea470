"""The floor beside every figure: what always answering the most frequent class reaches on the same
samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med.reports.families import by_fold
from robustbench_med.store import reading
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

CONSTANT = "always the most frequent class"
"""What tables call the constant answer."""
BELOW = "below the constant answer"
"""The mark of a robust accuracy that is no higher than the floor's accuracy."""
IMBALANCED = 0.6
"""Share of the samples above which the largest class of a task makes accuracy misleading."""
SAMPLES = ["data", "size", "n", "target"]
"""Columns of the leaderboard and the cells that say which samples and tasks a floor is of."""
Judged = Literal["robust", "balanced_accuracy"]
Drawn = Literal["robust", "balanced_accuracy", "auc"]


@dataclass(frozen=True)
class Floor:
    """What always answering the most frequent class reaches, before and after any attack; means
    over the attacked tasks.

    Attributes:
        accuracy: share of the most frequent class among the labelled samples of a task.
        balanced_accuracy: one over the number of classes that occur.
        imbalanced: whether the largest class of an attacked task holds more than IMBALANCED of its
            samples.
        auc: area under the ROC curve of a constant.
        multilabel: whether the attacked tasks are findings of a multi-label set: most are rare, so
            that the constant answer's AUC is the floor, not its accuracy.
    """

    accuracy: float
    balanced_accuracy: float
    imbalanced: bool
    auc: float = 0.5
    multilabel: bool = False

    @classmethod
    def of_counts(cls, tasks: Sequence[Sequence[int]], *, multilabel: bool = False) -> Floor:
        """The floor of tasks with so many labelled samples of each class, at least one a task."""
        largest = [max(counts) / sum(counts) for counts in tasks]
        occurring = [sum(count > 0 for count in counts) for counts in tasks]
        return cls(
            accuracy=float(np.mean(largest)),
            balanced_accuracy=float(np.mean([1 / classes for classes in occurring])),
            imbalanced=max(largest) > IMBALANCED,
            multilabel=multilabel,
        )


def of(records: Sequence[Record]) -> Floor | None:
    """The floor of a family of records: of the samples of its folds together, at the tasks it
    attacks.

    Returns:
        None where a record does not say how many samples each class has (`counted`).
    """
    return of_tasks(records, records[0].spec.threat.tasks)


def of_tasks(records: Sequence[Record], tasks: Sequence[int]) -> Floor | None:
    """As `of`, at the tasks of these numbers."""
    counts = []
    for t in tasks:
        folds = [record.figures.tasks[t].class_samples for record in by_fold(records)]
        known = [samples for samples in folds if samples is not None]
        if len(known) < len(folds):
            return None
        counts.append(np.sum(known, 0).tolist())
    return Floor.of_counts(counts, multilabel=records[0].multilabel)


def accuracy_at(record: Record, t: int) -> float | None:
    """The constant answer's accuracy at task t; None where the floor is not known."""
    floor = of_tasks([record], [t])
    return None if floor is None else floor.accuracy


def below_floor(robust: float, floor: Floor | None, auc: float | None = None) -> bool:
    """Whether a robust accuracy is no higher than the constant answer's, of findings the robust
    AUC; False where the floor, or that AUC, is not known.
    """
    if floor is None:
        return False
    if floor.multilabel:
        return auc is not None and auc <= floor.auc + 1e-9
    return robust <= floor.accuracy + 1e-9


def is_imbalanced(floor: Floor | None) -> bool:
    """Whether accuracy misleads on these samples; False where the floor is not known."""
    return floor is not None and floor.imbalanced


def is_multilabel(floor: Floor | None) -> bool:
    """Whether AUC judges these rows: findings of a multi-label set."""
    return floor is not None and floor.multilabel


def judged_metric(floor: Floor | None) -> Judged:
    """The figure that sentences and ranks are judged on: robust balanced accuracy where classes are
    imbalanced, else robust accuracy.
    """
    return "balanced_accuracy" if is_imbalanced(floor) else "robust"


def counted(
    records: Sequence[Record],
    arrays: Callable[[Record, Sequence[str]], Mapping[str, NDArray[Any]]],
) -> list[Record]:
    """The records, those that do not say how many samples each class has with the counts of their
    outcomes' labels.

    Args:
        arrays: reads the named per-sample arrays of a record: `Store.arrays`.
    """
    return [
        record
        if all(task.class_samples is not None for task in record.figures.tasks)
        else _with_counts(record, arrays(record, ["labels"]))
        for record in records
    ]


def read(store: Store[Record]) -> list[Record]:
    """All records of attacks in a store that fit, with the samples of each class and their trust;
    corruptions stand apart (`read_all`).
    """
    return [record for record in read_all(store) if not record.apart]


def read_all(store: Store[Record]) -> list[Record]:
    """The same with those of corruptions."""
    return counted(reading.read(store), store.arrays)


def _with_counts(record: Record, outcomes: Mapping[str, NDArray[Any]]) -> Record:
    if "labels" not in outcomes:
        return record
    tasks = []
    for t, task in enumerate(record.figures.tasks):
        labels = outcomes["labels"][:, t]
        counts = np.bincount(labels[labels >= 0], minlength=len(record.names.classes[t]))
        tasks.append(task.model_copy(update={"class_samples": counts.tolist()}))
    figures = record.figures.model_copy(update={"tasks": tasks})
    return record.model_copy(update={"figures": figures})


# --- rows of tables -------------------------------------------------------------------------------


def with_floors(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard or the cells and, behind it, a row CONSTANT for the samples and tasks of its
    rows, once each; columns of a model or an attack are empty there.
    """
    floors = rows(board)
    if floors.empty:
        return board
    whole = dict.fromkeys(board.select_dtypes("int64").columns, "Int64")  # takes empty fields
    return pd.concat([board.astype(whole), floors], ignore_index=True)[board.columns]


def rows(board: pd.DataFrame) -> pd.DataFrame:
    """The rows CONSTANT of such a table: the same figures before and after any attack."""
    if board.empty:
        return board
    found = []
    known = board[board.floor.notna()]
    for row in known.drop_duplicates([*SAMPLES, "floor"]).sort_values(SAMPLES).itertuples():
        floor: Any = row.floor
        found.append(
            {
                "model": CONSTANT,
                **{key: getattr(row, key) for key in (*SAMPLES, "synthetic")},
                "clean": floor.accuracy,
                "clean_balanced_accuracy": floor.balanced_accuracy,
                "clean_auc": floor.auc,
                "robust": floor.accuracy,
                "balanced_accuracy": floor.balanced_accuracy,
                "auc": floor.auc,
                "worst": floor.accuracy,
                "worst_balanced_accuracy": floor.balanced_accuracy,
                "worst_auc": floor.auc,
                "marks": "synthetic data" if row.synthetic else "",
                "floor": floor,
            }
        )
    return pd.DataFrame(found)
