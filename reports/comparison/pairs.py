"""Victims of a comparison two by two on the same samples: McNemar, Holm, intervals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med.reports import floors
from robustbench_med.reports.comparison.metrics import METRICS
from robustbench_med.reports.comparison.paired import (
    PairedDifference,
    balanced_difference,
    bootstrap_difference,
    by_class,
    by_task,
    deviation_of_draws,
    holm,
    mcnemar,
    with_draws,
)
from robustbench_med.reports.comparison.rows import Outcomes, Row
from robustbench_med.reports.floors import Judged
from robustbench_med.statistics import Floats

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Pair:
    """Two victims on the same samples under the same threat; the fields are the columns of
    compare_pairs.csv, in their order.

    Attributes:
        difference: of what they are judged on, worst case, a minus b.
        low, high: its 95 % interval over patients or images: a bootstrap of robust accuracy, the
            variances of all classes for balanced accuracy; wider where a batch shares its draws.
        p: McNemar's; with the weights of the classes for balanced accuracy; where a batch shares
            its draws, at least that of a normal distribution as wide as the interval.
        n: units (one task of one sample) behind the difference.
        p_holm: p, corrected for the number of pairs of the comparison.
        judged_on: robust accuracy, or robust balanced accuracy where classes are imbalanced.
        accuracy_difference, balanced_accuracy_difference, auc_difference: of the worst cases, a
            minus b; None where an AUC is.
    """

    data: str
    norm: str
    eps: str
    model_a: str
    defense_a: str
    model_b: str
    defense_b: str
    difference: float
    low: float
    high: float
    p: float
    n: int
    p_holm: float
    judged_on: Judged
    accuracy_difference: float
    balanced_accuracy_difference: float
    auc_difference: float | None

    @property
    def is_decided(self) -> bool:
        """Whether a difference is shown beyond doubt: the interval is clear of zero and p,
        corrected for the number of pairs, is small.
        """
        return self.p_holm < SIGNIFICANT and not self.low <= 0 <= self.high

    @property
    def gain(self) -> str:
        """The difference with its interval, in points."""
        return f"{points(self.difference)} [{points(self.low)}, {points(self.high)}]"

    def mirrored(self) -> Pair:
        """The same pair as b minus a."""
        return replace(
            self,
            model_a=self.model_b,
            defense_a=self.defense_b,
            model_b=self.model_a,
            defense_b=self.defense_a,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            accuracy_difference=-self.accuracy_difference,
            balanced_accuracy_difference=-self.balanced_accuracy_difference,
            auc_difference=None if self.auc_difference is None else -self.auc_difference,
        )

    def __str__(self) -> str:
        return (
            f"{points(self.difference)} points [{points(self.low)}, {points(self.high)}],"
            f" {METRICS[self.judged_on].test} p = {self.p_holm:.2g}"
        )


def pairs(rows: Sequence[Row]) -> list[Pair]:
    """Victims of one model, or under one defence, two by two: McNemar with Holm's correction,
    bootstrap interval; where classes are imbalanced, those of balanced accuracy
    (`balanced_difference`).

    A unit is one task of one sample; for McNemar (the first seed alone) it is right when its
    worst-case fraction is above one half, and a patient or image counts once, for the victim that
    is right on more of its units.
    """
    paired = [_pair(a, b) for a, b in itertools.combinations(rows, 2) if _comparable(a, b)]
    corrected = holm([pair.p for pair in paired]) if paired else []
    return [replace(pair, p_holm=p) for pair, p in zip(paired, corrected, strict=True)]


def frame(paired: Sequence[Pair]) -> pd.DataFrame:
    """The pairs as the table of compare_pairs.csv."""
    return pd.DataFrame([asdict(pair) for pair in paired])


def points(share: float) -> str:
    """A difference of shares in points of a hundred, with its sign."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # no -0.0


def _comparable(a: Row, b: Row) -> bool:
    return a.setting == b.setting and (a.model == b.model or a.defense == b.defense)


def _pair(a: Row, b: Row) -> Pair:
    """The pair with p not corrected yet."""
    one, other = a.outcomes, b.outcomes
    if one.units != other.units:
        raise AssertionError("paired victims were measured on different samples")
    balanced = with_draws(
        balanced_difference(one.balanced - other.balanced, one.tasks, one.classes, one.clusters),
        *_of_draws(
            [(one.balanced, one), (other.balanced, other)], by_class(one.tasks, one.classes)
        ),
    )
    judged_on = floors.judged_metric(a.floor)
    judged = balanced if judged_on == "balanced_accuracy" else _of_accuracy(one, other)
    return Pair(
        data=a.setting.data,
        norm=a.setting.norm,
        eps=a.setting.eps,
        model_a=a.model,
        defense_a=a.defense,
        model_b=b.model,
        defense_b=b.defense,
        **asdict(judged),
        n=len(one.units),
        p_holm=judged.p,
        judged_on=judged_on,
        accuracy_difference=float((one.worst - other.worst).mean()),
        balanced_accuracy_difference=balanced.difference,
        auc_difference=_between(a.worst.worst_auc, b.worst.worst_auc),
    )


def _of_accuracy(one: Outcomes, other: Outcomes) -> PairedDifference:
    """The difference of robust accuracies over all units, however many each task has."""
    difference = one.worst - other.worst
    low, high = bootstrap_difference(difference, one.clusters)
    p = mcnemar(one.first > 0.5, other.first > 0.5, one.clusters)
    return with_draws(
        PairedDifference(float(difference.mean()), low, high, p),
        *_of_draws([(one.worst, one), (other.worst, other)], by_task(one.tasks)),
    )


def _of_draws(
    sides: Sequence[tuple[Floats, Outcomes]], strata: tuple[NDArray[np.int64], Floats]
) -> list[float]:
    """What shared draws add to the deviation of either side's mean."""
    return [deviation_of_draws(right, *strata, np.array(of.of_draws)) for right, of in sides]


def _between(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
