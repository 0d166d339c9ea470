"""Figures of decisions out of probabilities: thresholds, what they give, calibration. Pure
functions of arrays, which agree with scikit-learn where it has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics import effective_n, wilson

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
BINS, SAMPLES_A_BIN = 15, 10
"""Of calibration errors: the most, and the fewest samples of each where there are two or more."""


@dataclass(frozen=True)
class Rate:
    """A share with its Wilson 95 % interval; NaN of no samples."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, right: Bools, groups: NDArray[Any]) -> Rate:
        """The share of True; images of one group (patient) are not independent."""
        if not len(right):
            return cls(math.nan, math.nan, math.nan, 0)
        rate = float(right.mean())
        low, high = wilson(rate, effective_n(right.astype(np.float64), groups))
        return cls(rate, low, high, len(right))


@dataclass(frozen=True)
class Decisions:
    """What a threshold gives on labelled samples: sensitivity, specificity, PPV and NPV."""

    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    npv: Rate

    @classmethod
    def of(cls, called: Bools, positive: Bools, groups: NDArray[Any]) -> Decisions:
        """Of samples that are called positive, and of those that are."""
        return cls(
            sensitivity=Rate.of(called[positive], groups[positive]),
            specificity=Rate.of(~called[~positive], groups[~positive]),
            ppv=Rate.of(positive[called], groups[called]),
            npv=Rate.of(~positive[~called], groups[~called]),
        )


def calls(scores: Floats, threshold: float, positive: Bools) -> Bools:
    """Which samples are called positive: those whose score reaches the threshold; a score that is
    not finite is wrong, whatever the sample is.
    """
    finite = np.isfinite(scores)
    return np.where(finite, np.nan_to_num(scores) >= threshold, ~positive)


def youden(scores: Floats, positive: Bools) -> float | None:
    """The threshold with the largest sensitivity + specificity (Youden 1950), the highest of
    several; None where a class does not occur or a score is not finite.
    """
    if positive.all() or not positive.any() or not np.isfinite(scores).all():
        return None
    thresholds = np.unique(scores)[::-1]
    found = [(scores[positive] >= t).mean() - (scores[~positive] >= t).mean() for t in thresholds]
    return float(thresholds[int(np.argmax(np.round(found, 12)))])


def at_sensitivity(scores: Floats, positive: Bools, sensitivity: float) -> float | None:
    """The highest threshold at which at least this share of the positives is found; None where
    there are none, or a score is not finite.
    """
    if not positive.any() or not np.isfinite(scores).all():
        return None
    ordered = np.sort(scores[positive])[::-1]
    return float(ordered[math.ceil(sensitivity * len(ordered) - 1e-9) - 1])


def auroc(scores: Floats, positive: Bools) -> float:
    """Area under the ROC curve: the share of pairs in which the positive's score is higher, ties
    half (Mann and Whitney); NaN where a class does not occur or a score is not finite.

    As scikit-learn's, which takes a hundred times as long to check what it is given.
    """
    from scipy.stats import rankdata  # half a second to import

    n = int(positive.sum())
    if positive.all() or not n or not np.isfinite(scores).all():
        return math.nan
    pairs = rankdata(scores)[positive].sum() - n * (n + 1) / 2
    return float(pairs / (n * (len(positive) - n)))


def auprc(scores: Floats, positive: Bools) -> float:
    """Area under the precision-recall curve, as average precision; NaN as `auroc`."""
    if positive.all() or not positive.any() or not np.isfinite(scores).all():
        return math.nan
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.inf))  # samples of one score fall as one
    found = np.cumsum(positive[order])[last]
    precision, recall = found / (last + 1), found / found[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def bins_of(n: int) -> int:
    """Bins of n samples: BINS, fewer where they would hold less than SAMPLES_A_BIN, one at least;
    gaps of smaller bins are noise.
    """
    return max(min(BINS, n // SAMPLES_A_BIN), 1)


@dataclass(frozen=True)
class Reliability:
    """Bins of equal mass by the confidence of the predicted class: mean confidence, share right and
    samples of each.
    """

    confidence: Floats
    right: Floats
    samples: NDArray[np.int64]

    @classmethod
    def of(
        cls, probabilities: Floats, labels: NDArray[np.int64], bins: int | None = None
    ) -> Reliability:
        """Of probabilities (n, C) and labels (n,); rows that are not finite are left out.

        Args:
            bins: None: as many as `bins_of` says.
        """
        finite = np.isfinite(probabilities).all(1)
        given, y = probabilities[finite].astype(np.float64), labels[finite]
        bins = bins_of(len(y)) if bins is None else bins
        confidence, right = given.max(1, initial=0.0), given.argmax(1) == y
        order = np.argsort(confidence, kind="stable")
        parts = [part for part in np.array_split(order, bins) if len(part)]
        return cls(
            np.array([confidence[part].mean() for part in parts]),
            np.array([right[part].mean() for part in parts]),
            np.array([len(part) for part in parts], np.int64),
        )

    @property
    def ece(self) -> float:
        """Expected calibration error: how far apart confidence and share right are in a bin, mean
        over samples (Nixon et al., arXiv 1904.01685: bins of equal mass); NaN of no samples.
        """
        if not len(self.samples):
            return math.nan
        gaps = np.abs(self.confidence - self.right)
        return float((gaps * self.samples).sum() / self.samples.sum())


def brier(probabilities: Floats, labels: NDArray[np.int64]) -> float:
    """Brier score: of two classes the mean squared error of the second's probability, of more the
    mean over samples of the squared errors' sum; NaN where something is not finite.
    """
    if not len(labels) or not np.isfinite(probabilities).all():
        return math.nan
    given = probabilities.astype(np.float64)
    if given.shape[1] == 2:
        return float(((given[:, 1] - (labels == 1)) ** 2).mean())
    return float(((given - np.eye(given.shape[1])[labels]) ** 2).sum(1).mean())
