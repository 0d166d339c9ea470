"""Figures over samples: intervals, accuracies of several draws, balanced accuracy, AUC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.floating[Any]]


def wilson(rate: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); `rate` may be a mean of per-sample fractions.

    scipy's own takes whole counts only. For fractions in [0, 1] the binomial variance is an upper bound, so the interval is
    conservative.
    """
    if n == 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.5 + confidence / 2))
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(rate * (1 - rate), 0) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def recalls(fraction_right: Floats, labels: NDArray[np.int64], n_classes: int) -> dict[int, float]:
    """Mean fraction right of each class that occurs."""
    return {c: float(fraction_right[labels == c].mean()) for c in range(n_classes) if (labels == c).any()}


def balanced_accuracy(fraction_right: Floats, labels: NDArray[np.int64], n_classes: int) -> float:
    """Mean over the classes that occur of the mean fraction right (equals scikit-learn's for one draw)."""
    return float(np.mean(list(recalls(fraction_right, labels, n_classes).values())))


def auc(probabilities: Floats, labels: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve, one-vs-rest and macro-averaged above two classes; None where a class does not occur.

    Args:
        probabilities: (n, C), the mean softmax over draws.
        labels: (n,) in 0..C-1.
    """
    n_classes = probabilities.shape[1]
    if len(np.unique(labels)) < n_classes or not np.isfinite(probabilities).all():
        return None
    scores = probabilities.astype(np.float64)
    if n_classes == 2:
        return float(roc_auc_score(labels, scores[:, 1]))
    return float(np.mean([roc_auc_score(labels == c, scores[:, c]) for c in range(n_classes)]))


def trivial(fraction_right: Floats, predicted: NDArray[np.int64], labels: NDArray[np.int64], n_classes: int) -> str | None:
    """Why a victim is no better than a constant, or None.

    Balanced accuracy is not above chance when its one-sided 97.5 % bound over samples is not; or one class takes more than 95 % of
    the predictions although the labels are less one-sided than that.
    """
    found = recalls(fraction_right, labels, n_classes)
    counts = {c: int((labels == c).sum()) for c in found}
    balanced = float(np.mean(list(found.values())))
    error = math.sqrt(sum(r * (1 - r) / counts[c] for c, r in found.items())) / len(found)
    share = float(np.bincount(predicted, minlength=n_classes).max() / len(predicted))
    if balanced - 1.96 * error <= 1 / len(found):
        return f"balanced accuracy {balanced:.3f} is not above chance ({1 / len(found):.3f})"
    if share > 0.95 >= max(counts.values()) / len(labels):
        return f"one class takes {share:.0%} of the predictions"
    return None
