"""Two victims on the same samples: how far they lie apart, and whether by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from robustbench_med.statistics import Floats, normal_quantile


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_], clusters: Sequence[object]) -> float:
    """Exact two-sided p-value that a and b are right equally often on the same units (n,) (McNemar
    1947, binomial form).

    Units of one cluster share a patient or an image and are no independent evidence: a cluster
    counts once, for the side that is right on more of it.
    """
    from scipy.stats import binomtest

    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    ahead = np.bincount(index, a.astype(np.int64) - b.astype(np.int64))
    only_a, only_b = int((ahead > 0).sum()), int((ahead < 0).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, step-down (Holm 1979)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected.tolist()


def bootstrap_difference(
    difference: Floats,
    clusters: Sequence[object],
    *,
    resamples: int = 4000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a mean paired difference (n,); samples of one cluster share a patient
    or an image: resampled together.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(index, difference), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedDifference:
    """A difference of two victims on the same samples, with its interval and the p-value of no
    difference.
    """

    difference: float
    low: float
    high: float
    p: float


def balanced_difference(
    difference: Floats,
    tasks: Sequence[int],
    classes: Sequence[int],
    clusters: Sequence[object],
    *,
    confidence: float = 0.95,
) -> PairedDifference:
    """How far two victims' balanced accuracies lie apart on the same units.

    The difference is the mean over tasks of the mean over the classes of a task of the mean paired
    difference. Its variance is that of a stratified mean: over C classes of one task the sum of
    their variances over C^2, where every unit is a cluster of its own. Else units of one cluster
    (patient or image), of whatever class and task, vary together: the sum over clusters of their
    squared residuals, those of a class of g clusters times g / (g - 1). The p-value is McNemar's
    with weights: were the victims alike, every cluster's difference would have either sign equally
    often; a normal approximation, with Edwards's correction (1948) by the largest of them. Of one
    class it is the corrected chi-squared form of McNemar's test.

    Args:
        difference: (units,) fractions right of one victim minus those of the other, in [-1, 1].
        tasks, classes: (units,) of each, and its label.
        clusters: (units,) equal for units that share a patient or an image.
    """
    strata, shares = by_class(tasks, classes)
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sizes = np.bincount(strata)
    weights = (shares / sizes)[strata]
    means = np.bincount(strata, difference) / sizes
    both = np.unique(np.stack([strata, index]), axis=1)[0]
    g = np.bincount(both)
    correction = np.sqrt(g / np.maximum(g - 1, 1))
    residuals = np.bincount(index, weights * (difference - means[strata]) * correction[strata])
    middle = float((shares * means).sum())
    half = normal_quantile(0.5 + confidence / 2) * math.sqrt(float((residuals**2).sum()))
    signed: Floats = np.bincount(index, weights * difference).astype(np.float64)
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return PairedDifference(middle, low, high, _sign_test(signed))


def by_class(tasks: Sequence[int], classes: Sequence[int]) -> tuple[NDArray[np.int64], Floats]:
    """The strata of balanced accuracy, the classes of each task: (units,) that of each unit, and
    (strata,) the share of each in it, which sum to 1.
    """
    _, strata = np.unique(np.stack([tasks, classes]), axis=1, return_inverse=True)
    strata = strata.reshape(-1)
    of_task = np.zeros(int(strata.max()) + 1, np.int64)
    of_task[strata] = np.asarray(tasks)
    _, task, n_classes = np.unique(of_task, return_inverse=True, return_counts=True)
    return strata, 1 / (len(n_classes) * n_classes[task])


def by_task(tasks: Sequence[int]) -> tuple[NDArray[np.int64], Floats]:
    """The strata of accuracy over all units, its tasks, as `by_class`."""
    _, strata, sizes = np.unique(np.asarray(tasks), return_inverse=True, return_counts=True)
    return strata, sizes / len(strata)


def deviation_of_draws(
    right: Floats, strata: NDArray[np.int64], shares: Floats, of_draws: Floats
) -> float:
    """Standard deviation that draws shared by a batch add to a mean over units of one victim, as if
    they moved all of its strata together; a paired difference over units does not hold it.

    Args:
        right: (units,) fractions right.
        strata: (units,) of each, from 0.
        shares: (strata,) of each stratum in the mean.
        of_draws: (units,) variance that they add to the mean p of a stratum, over p (1 - p).
    """
    sizes = np.bincount(strata)
    means, added = (np.bincount(strata, each) / sizes for each in (right, of_draws))
    return float(shares @ np.sqrt(means * (1 - means) * added))


def with_draws(found: PairedDifference, *deviations: float) -> PairedDifference:
    """A difference found over units, and what shared draws of either victim add (the standard
    deviations of both): its interval is wider, and its p at least that of a normal distribution
    of that width.
    """
    z, added = normal_quantile(0.975), math.hypot(*deviations)
    if added == 0:
        return found
    middle = found.difference
    below, above = (
        math.hypot(side, z * added) for side in (middle - found.low, found.high - middle)
    )
    low, high = max(middle - below, -1.0), min(middle + above, 1.0)
    p = float(2 * ndtr(-abs(middle) * z / (below if middle > 0 else above)))
    return PairedDifference(middle, low, high, max(found.p, p))


def _sign_test(signed: Floats) -> float:
    """Two-sided p-value that each of these (clusters,) is as likely to have the other sign; 1 where
    all are zero.
    """
    total = math.sqrt(float((signed**2).sum()))
    if total == 0:
        return 1.0
    beyond = max(abs(float(signed.sum())) - float(np.abs(signed).max()), 0.0)
    return float(2 * ndtr(-beyond / total))
