"""Figures over samples, against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from robustbench_med.statistics import auc, balanced_accuracy, trivial, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (77, 128)])
def test_wilson_is_scipys_for_whole_counts(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_balanced_accuracy_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(4, size=200), rng.integers(4, size=200)
    ours = balanced_accuracy((labels == predicted).astype(float), labels, 4)
    assert ours == pytest.approx(balanced_accuracy_score(labels, predicted))


@pytest.mark.parametrize("classes", [2, 4])
def test_auc_is_scikit_learns(classes: int) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(classes, size=100)
    scores = rng.dirichlet(np.ones(classes), size=100)
    expected = roc_auc_score(labels, scores[:, 1]) if classes == 2 else roc_auc_score(labels, scores, multi_class="ovr")
    assert auc(scores, labels) == pytest.approx(expected)


def test_auc_without_all_classes_is_none() -> None:
    assert auc(np.array([[0.2, 0.8], [0.4, 0.6]]), np.array([1, 1])) is None


def test_constant_and_chance_classifiers_are_trivial_and_good_ones_are_not() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], 40)
    constant = np.zeros(120, np.int64)
    chance = rng.integers(3, size=120)
    good = np.where(rng.random(120) < 0.8, labels, chance)
    verdicts = [trivial((p == labels).astype(float), p, labels, 3) for p in (constant, chance, good)]
    assert verdicts[0] is not None
    assert verdicts[1] is not None
    assert verdicts[2] is None


def test_a_classifier_that_takes_one_class_for_almost_all_is_trivial_though_above_chance() -> None:
    labels = np.repeat([0, 1], [90, 10])
    predicted = np.r_[np.zeros(97, np.int64), np.ones(3, np.int64)]
    labels[97:] = 1
    reason = trivial((predicted == labels).astype(float), predicted, labels, 2)
    assert reason is not None
    assert "97%" in reason or "chance" in reason
