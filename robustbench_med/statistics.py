"""Figures over samples: intervals, accuracies of several draws, balanced accuracy, AUC."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaincinv, ndtri, stdtrit

Floats = NDArray[np.floating[Any]]
ONE_SIDED = 0.95
"""Share of the predictions that one class takes of a victim that has learned nothing."""


def wilson(rate: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); `rate` in [0, 1] may be a mean of
    per-sample fractions.

    `n` is the number of independent samples, or the effective one (`effective_n`): Wilson's
    interval with the latter covers well in clustered samples (Dean and Pagano 2015, doi
    10.1093/jssam/smv024). scipy's own takes whole counts only. For fractions in [0, 1] the binomial
    variance is an upper bound, so the interval is conservative. It contains the rate exactly:
    rounding is taken out.
    """
    if n == 0:
        return 0.0, 1.0
    z = normal_quantile(0.5 + confidence / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(rate * (1 - rate), 0) / n + z * z / (4 * n * n))
    return min(max(centre - half, 0.0), rate), max(min(centre + half, 1.0), rate)


def effective_n(fraction_right: Floats, groups: NDArray[Any]) -> float:
    """How many independent samples tell as much about the mean as these, of which those of one
    group (patient) are alike.

    n over the design effect (Kish 1965), the variance of the mean with whole groups as the units
    over its variance if all samples were independent; adjusted for the groups' degrees of freedom
    as Korn and Graubard do (Survey Methodology 24, 1998). Never more than n, and never less than
    Kish's bound for groups whose samples all agree: n^2 over the sum of squared sizes, the number
    of groups where they have one size. Where every sample is as right as the others nothing can be
    estimated, and the number of groups counts.

    Args:
        fraction_right: (n,) in [0, 1].
        groups: (n,) equal for samples of one group.
    """
    n = len(fraction_right)
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    g = len(sizes)
    if g == n:
        return float(n)
    error = np.asarray(fraction_right, np.float64)
    error = error - error.mean()
    total = float((error**2).sum())
    if g == 1 or np.ptp(fraction_right) == 0:
        return float(g)
    between = float((np.bincount(index, error) ** 2).sum())
    design_effect = max(g / (g - 1) * (n - 1) / n * between / total, 1.0)
    freedom = float(stdtrit(n - 1, 0.975) / stdtrit(g - 1, 0.975)) ** 2
    return max(n / design_effect * freedom, n**2 / float((sizes**2).sum()))


def effective_n_of_draws(
    right: NDArray[np.bool_], samples: float, batches: NDArray[Any] | None = None
) -> float:
    """How many independent samples of a deterministic victim tell as much about the mean over a
    population of samples and draws as these samples of a random one on K draws.

    p(1 - p) over the variance of the mean. Of draws that every sample has for itself the variance
    of the fractions right holds all: that of samples, and a Kth of that of draws. A draw that
    serves a batch moves all of its samples together. Samples and draws are crossed there (two-way
    random effects, as in Owen 2007, doi 10.1214/07-AOAS122): the variance between the draws' means
    comes on top, less what the samples' own randomness makes of it. As both are estimated,
    Student's t with Satterthwaite's degrees of freedom (1946) takes the place of the normal
    distribution, as in `effective_n`. Never more than all samples on all draws were each
    independent; where all are right, or none is, `samples` counts.

    Args:
        right: (K, n) whether a sample is right in a draw.
        samples: independent samples behind these n, of which groups are alike (`effective_n`).
        batches: (n,) equal for samples that share their draws; None: each has its own.
    """
    draws, n = right.shape
    fraction_right = right.mean(0)
    rate = float(fraction_right.mean())
    binomial = rate * (1 - rate)
    if draws == 1 or n == 1 or binomial == 0:
        return samples
    of_samples = min(float(fraction_right.var(ddof=1)), binomial) / samples
    between, within, freedom = 0.0, 0.0, 1.0
    if batches is not None:
        between, within, freedom = variance_of_draws(right, batches)
    variance = of_samples + max(between - within, 0.0)
    if variance == 0:
        return samples * draws
    freedom = max(variance**2 / (of_samples**2 / (n - 1) + between**2 / freedom), 1.0)
    t = float(stdtrit(freedom, 0.975))
    return min(binomial / variance, samples * draws) * (normal_quantile(0.975) / t) ** 2


def variance_of_draws(
    right: NDArray[np.bool_], batches: NDArray[Any]
) -> tuple[float, float, float]:
    """What draws shared by batches add to the variance of the mean over all of (K, n).

    Returns:
        The variance that the means of the draws show (that of the figure for these very samples),
        how much of it the randomness of single samples makes, and its degrees of freedom.
    """
    draws, n = right.shape
    _, index, sizes = np.unique(batches, return_inverse=True, return_counts=True)
    members = (index[:, None] == np.arange(len(sizes))).astype(np.float64)
    fraction_right = right.mean(0)
    between = (right @ members / sizes).var(0, ddof=1)
    around_samples = draws * (fraction_right * (1 - fraction_right)) @ members
    around_both = around_samples - (draws - 1) * sizes * between
    within = around_both / (np.maximum(sizes - 1, 1) * (draws - 1)) / sizes
    weights = (sizes / n) ** 2 / draws
    freedom = (draws - 1) * weights.sum() ** 2 / (weights**2).sum()
    return float(weights @ between), float(weights @ within), float(freedom)


@functools.cache
def normal_quantile(share: float) -> float:
    """The standard normal distribution's quantile; scipy takes a quarter of a millisecond, and
    tables need it thousands of times.
    """
    return float(ndtri(share))


def recalls(fraction_right: Floats, labels: NDArray[np.int64], n_classes: int) -> dict[int, float]:
    """Mean fraction right of each class that occurs."""
    return {
        c: float(fraction_right[labels == c].mean())
        for c in range(n_classes)
        if (labels == c).any()
    }


def balanced_accuracy(fraction_right: Floats, labels: NDArray[np.int64], n_classes: int) -> float:
    """Mean over the classes that occur of the mean fraction right (equals scikit-learn's for one
    draw).
    """
    return float(np.mean(list(recalls(fraction_right, labels, n_classes).values())))


def auc(probabilities: Floats, labels: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve, one-vs-rest and macro-averaged above two classes; None where a
    class does not occur.

    Args:
        probabilities: (n, C), the mean softmax over draws.
        labels: (n,) in 0..C-1.
    """
    n_classes = probabilities.shape[1]
    if len(np.unique(labels)) < n_classes or not np.isfinite(probabilities).all():
        return None
    from sklearn.metrics import roc_auc_score  # half a second that reports need not wait for

    scores = probabilities.astype(np.float64)
    if n_classes == 2:
        return float(roc_auc_score(labels, scores[:, 1]))
    return float(np.mean([roc_auc_score(labels == c, scores[:, c]) for c in range(n_classes)]))


def auc_error(area: float, samples: Sequence[float]) -> float:
    """Standard error of an area under the ROC curve (Hanley and McNeil 1982, doi
    10.1148/radiology.143.1.7063747).

    Above two classes each is set against the rest, and the errors' mean bounds that of the mean.

    Args:
        area: as `auc` gives it.
        samples: independent samples of each class; none of them 0.
    """
    total = sum(samples)
    of_two, of_same = area / (2 - area), 2 * area**2 / (1 + area)
    errors = []
    for positives in samples[1:] if len(samples) == 2 else samples:
        negatives = total - positives
        variance = area * (1 - area)
        variance += max(positives - 1, 0) * (of_two - area**2)
        variance += max(negatives - 1, 0) * (of_same - area**2)
        errors.append(math.sqrt(variance / (positives * negatives)))
    return float(np.mean(errors))


def trivial(
    fraction_right: Floats, predicted: NDArray[np.int64], labels: NDArray[np.int64], n_classes: int
) -> str | None:
    """Why a victim is no better than a constant, or None: also where the samples cannot tell
    (`cannot_tell`).

    Balanced accuracy is not above chance when its one-sided 97.5 % bound over samples is not, and
    it may not lie half way from chance to 1 either; or one class takes more than 95 % of the
    predictions (exact binomial test at 2.5 %) although the labels are less one-sided than that.
    """
    if not len(labels):
        return "no sample is labelled"
    chance, low, high = balanced_bounds(fraction_right, labels, n_classes)
    if low <= chance and high < halfway(chance):
        balanced = balanced_accuracy(fraction_right, labels, n_classes)
        return f"balanced accuracy {balanced:.3f} is not above chance ({chance:.3f})"
    n, largest = len(predicted), max(int((labels == c).sum()) for c in np.unique(labels))
    share = most_predicted_share(predicted, n_classes)
    if largest / n <= ONE_SIDED and bdtrc(round(share * n) - 1, n, ONE_SIDED) < 0.025:
        return f"one class takes {share:.0%} of the predictions"
    return None


def cannot_tell(fraction_right: Floats, labels: NDArray[np.int64], n_classes: int) -> str | None:
    """Why samples are too few to tell a victim from a constant: its balanced accuracy may be
    chance, and may lie half way from there to 1; None where they tell.
    """
    chance, low, high = balanced_bounds(fraction_right, labels, n_classes)
    if low > chance or high < halfway(chance):
        return None
    balanced = balanced_accuracy(fraction_right, labels, n_classes)
    return (
        f"too few samples to tell: balanced accuracy {balanced:.3f} on {len(labels)} is not above"
        f" chance ({chance:.3f}) by more than luck"
    )


def trivial_finding(probabilities: Floats, labels: NDArray[np.int64]) -> str | None:
    """Why a victim is no better than chance at a finding, which may be rare, or None: its AUC is
    not above 0.5 (one-sided 97.5 % bound, `auc_error`), and does not reach 0.75 by luck. What
    share of the predictions one class takes says nothing there.
    """
    if not len(labels):
        return "no sample is labelled"
    area, low, high = auc_bounds(probabilities, labels)
    if area is None or low > 0.5 or high >= halfway(0.5):
        return None
    return f"AUC {area:.3f} is not above 0.5"


def finding_cannot_tell(probabilities: Floats, labels: NDArray[np.int64]) -> str | None:
    """Why samples are too few to tell a victim from chance at a finding; None where they tell."""
    area, low, high = auc_bounds(probabilities, labels)
    if area is None:
        return f"too few samples to tell: one class does not occur among {len(labels)}"
    if low > 0.5 or high < halfway(0.5):
        return None
    return f"too few samples to tell: AUC {area:.3f} on {len(labels)} may be luck"


def auc_bounds(
    probabilities: Floats, labels: NDArray[np.int64]
) -> tuple[float | None, float, float]:
    """AUC of two classes, and one-sided 97.5 % bounds (normal); the error of an area of 0 or 1 is
    that of half a pair in the wrong order.
    """
    area = auc(probabilities, labels)
    if area is None:
        return None, 0.0, 1.0
    samples = np.bincount(labels, minlength=2).tolist()
    half = 0.5 / math.prod(samples)
    error = auc_error(min(max(area, half), 1 - half), samples)
    return area, area - 1.96 * error, area + 1.96 * error


def halfway(chance: float) -> float:
    """Balanced accuracy half way from chance to 1."""
    return (1 + chance) / 2


def balanced_bounds(
    fraction_right: Floats, labels: NDArray[np.int64], n_classes: int
) -> tuple[float, float, float]:
    """Chance, a one-sided 97.5 % lower bound of balanced accuracy (normal), and an upper one: the
    mean of the classes' exact binomial bounds (Clopper and Pearson 1934), which holds with small
    classes and those that are always wrong.
    """
    recall = recalls(fraction_right, labels, n_classes)
    counts = {c: int((labels == c).sum()) for c in recall}
    error = math.sqrt(sum(r * (1 - r) / counts[c] for c, r in recall.items())) / len(recall)
    high = [
        float(betaincinv(r * counts[c] + 1, (1 - r) * counts[c], 0.975)) if r < 1 else 1.0
        for c, r in recall.items()
    ]
    return (
        1 / len(recall),
        float(np.mean(list(recall.values()))) - 1.96 * error,
        float(np.mean(high)),
    )


def most_predicted_share(predicted: NDArray[np.int64], n_classes: int) -> float:
    """Share of the class predicted most often; -1 in `predicted` is no class."""
    return float(np.bincount(predicted[predicted >= 0], minlength=n_classes).max() / len(predicted))


def not_finite(*probabilities: Floats) -> NDArray[np.bool_]:
    """Which samples (n,) are not finite in one of several arrays (n, C): a draw's logits were
    not.
    """
    return ~np.all([np.isfinite(p).all(1) for p in probabilities], 0)


# --- pairs of victims on the same samples ---------------------------------------------------------


def worst_case(
    rights: Sequence[Floats], weights: NDArray[Any], draws: int, seed: int = 0, splits: int = 32
) -> Floats:
    """Per sample and task, the fraction right under the worst of several attacks. rights: A x (n,
    T), each a mean over `draws` draws.

    The worst attack of a sample is the one with the lowest mean over its tasks weighted by
    `weights` (n, T), of each task relative to their sum: whether it is labelled where the figure is
    a robust accuracy, that is the mean over tasks; one over the samples of its class (0 where not
    labelled) where it is a balanced one. For a random victim, choosing and measuring on the same
    draws would punish luck: the draws are split in halves (counts split hypergeometrically, which
    is what splitting the exchangeable draws themselves would give), one half chooses, the other
    measures, averaged over `splits` random splits. Half of the draws often choose the weaker of two
    attacks, so this can exceed the robust accuracy under one attack alone; an attacker would then
    use that attack on every sample, and its fractions are returned: the worst case never exceeds
    the lowest of the robust accuracies.
    """
    stacked = np.stack([np.asarray(right, np.float64) for right in rights])
    weights, samples = weights / np.maximum(weights.sum(0), 1), np.arange(weights.shape[0])
    if len(stacked) == 1:
        return stacked[0]
    if draws == 1:
        return stacked[(stacked * weights).sum(2).argmin(0), samples]
    rng = np.random.default_rng(seed)
    hits, half = np.rint(stacked * draws).astype(np.int64), draws // 2
    total = np.zeros(stacked.shape[1:])
    for _ in range(splits):
        deciding = rng.hypergeometric(hits, draws - hits, half)
        total += ((hits - deciding) / (draws - half))[
            (deciding * weights).sum(2).argmin(0), samples
        ]
    return min((total / splits, *stacked), key=lambda right: float((right * weights).sum()))


# --- counts ---------------------------------------------------------------------------------------


def shares(right: NDArray[Any], draws: int) -> Floats:
    """Fractions of draws that are right, as whole numbers of draws give them: float32 rounds a
    third.
    """
    return np.rint(np.asarray(right, np.float64) * draws) / draws


def exact_rate(rate: float, n: int, draws: int) -> float:
    """The rate that a whole number of right predictions of `n` samples in `draws` draws gives,
    where a mean in float32 rounded it; any other rate as it is.
    """
    whole = round(rate * n * draws) / (n * draws)
    return whole if abs(whole - rate) < 1e-6 else rate


def tied(values: Any) -> Any:
    """Figures as ranks, fronts and bests compare them: those of equal counts are equal, whatever
    order they were added in.
    """
    return np.round(np.asarray(values, np.float64), 12)


def tolerance_of(n: int) -> float:
    """Robust accuracy that counts as no difference: a point, or one sample of fewer than 100."""
    return max(0.01, 1 / n)
