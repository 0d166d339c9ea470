"""The figure that a comparison is judged on: robust accuracy, or robust balanced accuracy where the
largest class of a task makes accuracy misleading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustbench_med.reports.floors import Floor, Judged, below_floor


@dataclass(frozen=True)
class Metric:
    """A figure to judge by: its name, and the columns of compare.csv that hold it.

    Attributes:
        name: under attack.
        clean_name: without one.
        within: `in` the figure, for sentences; empty where they mean robust accuracy anyway.
        test: the test of a paired difference.
        suffix: of the columns of single attacks.
    """

    name: str
    clean_name: str
    within: str
    test: str
    worst: str
    worst_low: str
    worst_high: str
    clean: str
    naive: str
    floor: str
    suffix: str


METRICS: Mapping[Judged, Metric] = {
    "robust": Metric(
        name="robust accuracy",
        clean_name="clean accuracy",
        within="",
        test="McNemar-Holm",
        worst="worst",
        worst_low="worst_low",
        worst_high="worst_high",
        clean="clean",
        naive="naive",
        floor="floor_accuracy",
        suffix="",
    ),
    "balanced_accuracy": Metric(
        name="robust balanced accuracy",
        clean_name="clean balanced accuracy",
        within=" in robust balanced accuracy",
        test="class-weighted McNemar-Holm",
        worst="worst_balanced_accuracy",
        worst_low="worst_balanced_accuracy_low",
        worst_high="worst_balanced_accuracy_high",
        clean="clean_balanced_accuracy",
        naive="naive_balanced_accuracy",
        floor="floor_balanced_accuracy",
        suffix="_balanced_accuracy",
    ),
}


def metric_of(row: Any) -> Metric:
    """The figure that a row of the table is judged on: its column `judged_on`."""
    return METRICS[row.judged_on]


def no_robustness(
    robust: float, balanced_accuracy: float, floor: Floor | None, auc: float | None = None
) -> bool:
    """Whether a robust accuracy, or the robust balanced accuracy where that is judged, is no higher
    than the constant answer's; of findings whether the robust AUC is. False where the floor is not
    known.
    """
    if floor is None or floor.multilabel:
        return below_floor(robust, floor, auc)
    constant = floor.imbalanced and balanced_accuracy <= floor.balanced_accuracy + 1e-9
    return constant or below_floor(robust, floor)
