"""Figures over samples, against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from robustbench_med.statistics import (
    auc,
    balanced_accuracy,
    effective_n,
    effective_n_of_draws,
    trivial,
    variance_of_draws,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (77, 128)])
def test_wilson_is_scipys_for_whole_counts(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_wilson_contains_its_rate_and_ends_exactly_at_zero_and_one_whatever_n() -> None:
    """Whole n up to 2,000, effective ones between them, rates k/n; all k of the smaller n."""
    rng = np.random.default_rng(0)
    for n in range(1, 2001):
        for k in range(n + 1) if n <= 150 else {0, 1, n // 3, n // 2, n - 1, n}:
            for size in (n, n - rng.random()):
                low, high = wilson(k / n, size)
                assert 0 <= low <= k / n <= high <= 1, (k, n, size)
        assert wilson(0.0, n)[0] == 0.0 < wilson(0.0, n)[1]
        assert wilson(1.0, n)[1] == 1.0 > wilson(1.0, n)[0]


def test_without_groups_every_sample_counts() -> None:
    right = np.random.default_rng(0).random(50)
    assert effective_n(right, np.arange(50)) == 50
    assert effective_n(np.ones(50), np.arange(50)) == 50


@pytest.mark.parametrize("rate", [0, 1])
def test_where_all_samples_are_right_or_none_is_the_groups_count(rate: int) -> None:
    assert effective_n(np.full(60, float(rate)), np.repeat(np.arange(15), 4)) == 15
    assert effective_n(np.full(60, float(rate)), np.zeros(60)) == 1


def test_images_of_one_patient_that_agree_are_one_image_each() -> None:
    once = np.random.default_rng(0).integers(2, size=40).astype(float)
    assert effective_n(np.tile(once, 3), np.tile(np.arange(40), 3)) == 40
    assert effective_n(np.array([1.0, 0.0, 1.0]), np.zeros(3)) == 1


def test_the_effective_number_is_n_over_the_design_effect() -> None:
    """Ten groups of four; the formula by hand: between-group variance of the mean over that of
    independent samples, times t squared.
    """
    right = np.array(
        [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]] * 2, float
    )
    variance_of_groups = right.mean(1).var(ddof=1) / 10
    variance_of_samples = right.var(ddof=1) / 40
    t = 2.022691 / 2.262157  # 97.5 % of Student's t with 39 and 9 degrees of freedom
    expected = 40 * variance_of_samples / variance_of_groups * t**2
    assert 10 < expected < 40
    assert effective_n(right.ravel(), np.repeat(np.arange(10), 4)) == pytest.approx(
        expected, rel=1e-5
    )


def test_the_effective_number_lies_between_one_and_n_in_whatever_order_and_by_whatever_names() -> (
    None
):
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 60))
        groups = rng.integers(0, rng.integers(1, n + 1), n)
        right = np.round(rng.random(n) * (draws := int(rng.integers(1, 5)))) / draws
        found = effective_n(right, groups)
        assert 1 <= found <= n
        order = rng.permutation(n)
        assert effective_n(
            right[order], np.array([f"p{g}" for g in groups])[order]
        ) == pytest.approx(found)


@pytest.mark.parametrize("draws", [1, 8])
@pytest.mark.parametrize(("rate", "alike"), [(0.5, 0.5), (0.7, 0.9), (0.8, 0.3)])
def test_intervals_on_patients_cover_where_those_on_images_do_not(
    draws: int, rate: float, alike: float
) -> None:
    """40 patients with 1 to 8 images, a patient's share right beta-distributed with intraclass
    correlation `alike`.
    """
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(600):
        sizes = rng.integers(1, 9, 40)
        groups = np.repeat(np.arange(40), sizes)
        of_patient = rng.beta(rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1), 40)
        right = rng.binomial(draws, of_patient[groups]) / draws
        for i, n in enumerate((effective_n(right, groups), len(right))):
            low, high = wilson(float(right.mean()), n)
            covered[i] += low <= rate <= high
    by_patient, by_image = covered / 600
    assert by_patient >= 0.93
    assert by_image < 0.9


def test_draws_that_agree_leave_a_deterministic_victim_its_samples() -> None:
    right = np.random.default_rng(0).random(50) < 0.4
    assert effective_n_of_draws(right[None], 40.0) == 40
    assert effective_n_of_draws(right[None], 40.0, np.zeros(50)) == 40
    assert effective_n_of_draws(np.ones((8, 50), bool), 40.0, np.zeros(50)) == 40
    t = 1.959964 / 2.009575  # 97.5 % of the normal distribution, of Student's t with 49 degrees
    assert effective_n_of_draws(np.tile(right, (8, 1)), 40.0) == pytest.approx(40 * t**2, rel=1e-5)


def test_a_handful_of_samples_on_a_few_shared_draws_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        right = rng.random((rng.integers(2, 9), rng.integers(2, 5))) < 0.5
        n = effective_n_of_draws(right, float(right.shape[1]), np.zeros(right.shape[1]))
        low, high = wilson(float(right.mean()), n)
        assert n > 0.01
        assert 0 <= low <= right.mean() <= high <= 1


def test_where_every_sample_draws_for_itself_each_draw_is_a_sample() -> None:
    """All samples alike: the effective number is that of the outcomes."""
    right = np.random.default_rng(0).random((16, 5000)) < 0.3
    assert effective_n_of_draws(right, 5000.0) == pytest.approx(16 * 5000, rel=0.05)


def test_where_a_draw_decides_for_all_samples_the_draws_count() -> None:
    right = np.repeat([[True], [False]] * 16, 100, axis=1)  # 32 draws
    t = 1.959964 / 2.039513  # the normal distribution, Student's t with 31 degrees of freedom
    found = effective_n_of_draws(right, 100.0, np.zeros(100))
    assert found == pytest.approx(31 * t**2, rel=1e-5)
    assert effective_n_of_draws(right, 100.0) > 100  # unknown that they share it


def test_the_variance_of_crossed_draws_and_samples_is_that_of_the_analysis_of_variance() -> None:
    """Mean squares of the two-way layout, cell by cell, for two batches of unequal size."""
    rng = np.random.default_rng(0)
    batches = np.array([0] * 5 + [1] * 3)
    right = rng.random((4, 8)) < rng.random((4, 1)) * rng.random(8)
    between = within = 0.0
    for batch in (0, 1):
        block = right[:, batches == batch].astype(float)
        draws, size = block.shape
        of_draw, of_sample = block.mean(1), block.mean(0)
        left = block - of_draw[:, None] - of_sample[None] + block.mean()
        square_of_draws = size * ((of_draw - block.mean()) ** 2).sum() / (draws - 1)
        square_left = (left**2).sum() / ((draws - 1) * (size - 1))
        between += (size / 8) ** 2 * square_of_draws / (size * draws)
        within += (size / 8) ** 2 * square_left / (size * draws)
    freedom = 3 * (25 + 9) ** 2 / (25**2 + 9**2)
    assert variance_of_draws(right, batches) == pytest.approx((between, within, freedom))


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_intervals_of_an_ensemble_that_draws_a_member_for_its_batch_cover(rate: float) -> None:
    """32 draws, in each of which one of two members serves all of 600 samples."""
    rng = np.random.default_rng(1)
    distance, covered = min(rate, 1 - rate), np.zeros(2)
    for _ in range(400):
        members = [rng.random(600) < rate - distance, rng.random(600) < rate + distance]
        right = np.where(rng.random((32, 1)) < 0.5, *members)
        for i, n in enumerate((effective_n_of_draws(right, 600.0, np.zeros(600)), 600)):
            low, high = wilson(float(right.mean()), n)
            covered[i] += low <= rate <= high
    with_draws, without = covered / 400
    assert 0.92 <= with_draws <= 0.985
    assert without < 0.9


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
    expected = (
        roc_auc_score(labels, scores[:, 1])
        if classes == 2
        else roc_auc_score(labels, scores, multi_class="ovr")
    )
    assert auc(scores, labels) == pytest.approx(expected)


def test_auc_without_all_classes_is_none() -> None:
    assert auc(np.array([[0.2, 0.8], [0.4, 0.6]]), np.array([1, 1])) is None


def test_constant_and_chance_classifiers_are_trivial_and_good_ones_are_not() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], 40)
    constant = np.zeros(120, np.int64)
    chance = rng.integers(3, size=120)
    good = np.where(rng.random(120) < 0.8, labels, chance)
    verdicts = [
        trivial((p == labels).astype(float), p, labels, 3) for p in (constant, chance, good)
    ]
    assert verdicts[0] is not None
    assert verdicts[1] is not None
    assert verdicts[2] is None


def test_a_classifier_that_takes_one_class_for_almost_all_is_trivial_though_above_chance() -> None:
    labels = np.repeat([0, 1], [90, 10])
    predicted = np.r_[np.zeros(97, np.int64), np.ones(3, np.int64)]
    labels[97:] = 1
    right = (predicted == labels).astype(float)
    assert trivial(right, predicted, labels, 2) is None  # 97 of 100 may be luck
    reason = trivial(np.tile(right, 10), np.tile(predicted, 10), np.tile(labels, 10), 2)
    assert reason == "one class takes 97% of the predictions"
