"""Paired statistics: known numbers, and the properties that make them honest."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import ndtr

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
from robustbench_med.reports.shared_draws import share_of_draws
from robustbench_med.statistics import (
    effective_n,
    effective_n_of_draws,
    normal_quantile,
    worst_case,
)
from robustbench_med.store.paired import Left, Taken


def test_mcnemar_is_the_exact_binomial_test_on_discordant_pairs() -> None:
    a = np.array([True] * 9 + [False] * 1 + [True] * 20)
    b = np.array([False] * 9 + [True] * 1 + [True] * 20)
    one_each = range(len(a))
    assert mcnemar(a, b, one_each) == pytest.approx(
        2 * (1 + 10) / 2**10
    )  # P(<= 1 of 10 fair coins), both sides
    assert mcnemar(a, b, one_each) == mcnemar(b, a, one_each)
    assert mcnemar(a, a, one_each) == 1


def test_images_shown_several_times_are_no_more_evidence() -> None:
    a, b = (
        np.array([True] * 9 + [False] * 3 + [True] * 8),
        np.array([False] * 9 + [True] * 3 + [True] * 8),
    )
    once = mcnemar(a, b, range(20))
    assert once == pytest.approx(0.146, abs=1e-3)
    assert mcnemar(np.tile(a, 4), np.tile(b, 4), [*range(20)] * 4) == once
    assert (
        mcnemar(np.array([True, False]), np.array([False, True]), ["x", "x"]) == 1
    )  # an image on which both are right once


def test_holms_correction_of_a_textbook_family() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_the_bootstrap_interval_has_the_width_of_the_normal_theory_and_widens_with_shared_images() -> (
    None
):
    rng = np.random.default_rng(0)
    difference = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.6, 0.3])
    low, high = bootstrap_difference(difference, range(400))
    error = difference.std() / 20
    assert low == pytest.approx(difference.mean() - 1.96 * error, abs=0.015)
    assert high == pytest.approx(difference.mean() + 1.96 * error, abs=0.015)
    repeated, clusters = np.repeat(difference[:100], 4), np.repeat(np.arange(100), 4)
    few, many = bootstrap_difference(repeated, clusters), bootstrap_difference(repeated, range(400))
    assert few[1] - few[0] > 1.7 * (
        many[1] - many[0]
    )  # a hundred images seen four times are a hundred images


def test_the_worst_case_of_a_deterministic_victim_is_per_sample() -> None:
    first, second = np.array([[1.0], [0.0], [1.0]]), np.array([[0.0], [1.0], [1.0]])
    assert worst_case([first, second], known(first), 1).mean() == pytest.approx(1 / 3)
    assert np.array_equal(worst_case([first], known(first), 1), first)


def test_the_worst_case_of_a_random_victim_is_not_lowered_by_luck_and_finds_the_stronger_attack() -> (
    None
):
    """Two useless attacks on a victim that is right with probability 0.7: choosing the smaller of
    two noisy figures would say less.
    """
    rng = np.random.default_rng(0)
    rights = [rng.binomial(16, 0.7, (2000, 1)) / 16 for _ in range(2)]
    assert np.minimum(*rights).mean() < 0.65
    assert worst_case(rights, known(rights[0]), 16).mean() == pytest.approx(0.7, abs=0.01)
    strong = rng.binomial(16, 0.2, (2000, 1)) / 16
    assert worst_case([rights[0], strong], known(strong), 16).mean() == pytest.approx(0.2, abs=0.02)


def test_the_worst_case_of_a_random_victim_is_no_higher_than_under_the_strongest_attack_alone() -> (
    None
):
    """On half of 4 draws the stronger of two like attacks is hard to tell: per-sample choice alone
    is worse than not choosing.
    """
    rng = np.random.default_rng(0)
    rights = [rng.binomial(4, p, (500, 2)) / 4 for p in (0.40, 0.45, 0.50)]
    worst = worst_case(rights, known(rights[0]), 4)
    assert worst.mean() == pytest.approx(rights[0].mean())
    far = [np.where(np.arange(500)[:, None] % 2, a, b) for a, b in ((0.0, 1.0), (1.0, 0.0))]
    assert (
        worst_case(far, known(far[0]), 4).max() == 0
    )  # where attacks differ by sample, choosing by sample counts


@pytest.mark.parametrize("draws", [1, 4])
def test_a_task_with_few_labels_weighs_in_the_worst_case_as_it_does_in_the_robust_accuracy(
    draws,
) -> None:
    """Ten of a thousand samples have the first task's label. One attack breaks that task, the other
    more of the second on those ten.
    """
    labelled = np.ones((1000, 2), bool)
    labelled[10:, 0] = False
    a, b = labelled.astype(float), labelled.astype(float)
    a[:10, 1] = 0
    b[:10, 0] = 0.25 if draws > 1 else 0
    robust = [np.mean([right[labelled[:, t], t].mean() for t in range(2)]) for right in (a, b)]
    worst = worst_case([a, b], labelled, draws)
    assert np.mean([worst[labelled[:, t], t].mean() for t in range(2)]) <= min(robust) + 1e-12


# --- balanced accuracy ----------------------------------------------------------------------------


def imbalanced(
    rng: np.random.Generator, n: int, gains: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """(difference, labels) of two victims: a quarter of the samples is of class 1; a gain is how
    much more often the first is right than the other on a class.
    """
    labels = (np.arange(n) % 4 == 0).astype(int)
    shares = np.array(gains)[labels]
    draws = rng.random(n)
    return (draws < 0.2 + shares).astype(float) - (draws > 0.8).astype(float), labels


def of_one_task(difference: np.ndarray, labels: np.ndarray, clusters=None) -> PairedDifference:
    n = len(difference)
    return balanced_difference(
        difference, [0] * n, labels.tolist(), range(n) if clusters is None else clusters
    )


def test_a_balanced_difference_is_the_mean_over_classes_with_the_sum_of_their_variances() -> None:
    difference, labels = imbalanced(np.random.default_rng(0), 200, (0.1, 0.3))
    found = of_one_task(difference, labels)
    of_class = [difference[labels == c] for c in (0, 1)]
    assert found.difference == pytest.approx(np.mean([part.mean() for part in of_class]))
    variance = sum(part.var(ddof=1) / len(part) for part in of_class) / 4
    half = normal_quantile(0.975) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx(
        (found.difference - half, found.difference + half)
    )


def test_the_balanced_interval_is_that_of_a_bootstrap_within_classes() -> None:
    rng = np.random.default_rng(0)
    difference, labels = imbalanced(rng, 400, (0.05, 0.3))
    parts = [difference[labels == c] for c in (0, 1)]
    drawn = [rng.choice(part, (4000, len(part))).mean(1) for part in parts]
    low, high = np.quantile(np.mean(drawn, 0), [0.025, 0.975])
    found = of_one_task(difference, labels)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_patients_with_images_of_two_tasks_and_classes_are_resampled_whole() -> None:
    """100 patients with four images each, alike but for noise; of both tasks."""
    rng = np.random.default_rng(1)
    of_patient, labels = imbalanced(rng, 100, (0.1, 0.2))
    patients = np.repeat(np.arange(100), 4)
    difference = of_patient[patients]
    tasks, classes = np.tile([0, 0, 1, 1], 100), labels[patients]
    clustered = balanced_difference(difference, tasks.tolist(), classes.tolist(), patients.tolist())
    alone = balanced_difference(difference, tasks.tolist(), classes.tolist(), range(400))
    assert clustered.difference == pytest.approx(alone.difference)
    drawn = []
    for _ in range(2000):
        chosen = np.concatenate(
            [rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in (0, 1)]
        )
        drawn.append(np.mean([of_patient[chosen[labels[chosen] == c]].mean() for c in (0, 1)]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (clustered.low, clustered.high) == pytest.approx((low, high), abs=0.02)
    assert alone.high - alone.low < 0.6 * (clustered.high - clustered.low)
    assert clustered.p > alone.p


def test_a_balanced_difference_weighs_tasks_alike_however_many_labels_they_have() -> None:
    difference = np.concatenate([np.ones(10), np.zeros(990)])
    tasks = [0] * 10 + [1] * 990
    found = balanced_difference(difference, tasks, [0] * 1000, range(1000))
    assert found.difference == pytest.approx(0.5)


def test_of_one_class_the_weighted_test_is_mcnemars_with_edwards_correction() -> None:
    difference = np.array([1.0] * 15 + [-1.0] * 5 + [0.0] * 30)
    p = of_one_task(difference, np.zeros(50, int)).p
    assert p == pytest.approx(0.0442, abs=1e-4)  # chi-squared (|15 - 5| - 1)^2 / 20
    exact = mcnemar(difference > 0, difference < 0, range(50))
    assert p == pytest.approx(exact, abs=0.01)
    assert of_one_task(np.zeros(8), np.zeros(8, int)) == PairedDifference(0, 0, 0, 1)
    assert of_one_task(np.ones(4), np.array([0, 0, 0, 1])).p > 0.05  # four samples prove nothing


def test_victims_that_are_alike_are_rarely_told_apart_in_balanced_accuracy() -> None:
    rng = np.random.default_rng(2)
    found = [of_one_task(*imbalanced(rng, 80)) for _ in range(500)]
    assert np.mean([pair.p < 0.05 for pair in found]) <= 0.06
    assert np.mean([pair.low <= 0 <= pair.high for pair in found]) >= 0.92
    apart = [of_one_task(*imbalanced(rng, 160, (0.0, 0.6))) for _ in range(50)]
    assert np.mean([pair.p < 0.05 for pair in apart]) > 0.8


def test_by_class_weights_the_worst_case_is_that_of_the_balanced_accuracy() -> None:
    """One attack breaks the rare class of the first task, the other the frequent class of the
    second: which is worse for a sample depends on what it weighs.
    """
    labels = np.stack([np.arange(100) < 10, np.arange(100) < 90], 1).astype(int)
    weights = np.zeros(labels.shape)
    for t in (0, 1):
        weights[:, t] = 1 / np.bincount(labels[:, t])[labels[:, t]]
    rare, frequent = np.ones((100, 2)), np.ones((100, 2))
    rare[labels[:, 0] == 1, 0] = 0
    frequent[labels[:, 0] == 1, 1] = 0
    plain = worst_case([frequent, rare], known(rare), 1)
    assert np.array_equal(plain, frequent)  # a tie: each takes one right answer
    assert np.array_equal(worst_case([frequent, rare], weights, 1), rare)


def known(right: np.ndarray) -> np.ndarray:
    """Every sample labelled for every task."""
    return np.ones(right.shape, bool)


# --- draws that a batch shares --------------------------------------------------------------------


def shared_draws(rng: np.random.Generator, draws: int, easy: np.ndarray) -> np.ndarray:
    """(draws, n) right or wrong of a victim whose every draw shifts all samples of the batch."""
    shift, own = rng.normal(0, 0.7, (draws, 1)), rng.normal(0, 0.3, (draws, len(easy)))
    return easy + shift + own > 0


def of_shared_draws(right: np.ndarray, patients: np.ndarray) -> float:
    """`share_of_draws` of a record with these outcomes."""
    together = np.zeros(right.shape[1], np.int64)
    samples = effective_n(right.mean(0), patients)
    task = SimpleNamespace(
        n_effective_robust=effective_n_of_draws(right, samples, together), n_distinct=right.shape[1]
    )
    record = SimpleNamespace(
        figures=SimpleNamespace(tasks=[task]),
        spec=SimpleNamespace(protocol=SimpleNamespace(chunk=len(together))),
        draws=len(right),
    )
    outcomes = {
        "labels": together[:, None],
        "robust_right": right.mean(0)[:, None],
        "group_0": patients,
    }
    return share_of_draws(record, outcomes, 0)


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("draws", [4, 16])
def test_alike_victims_that_share_draws_are_told_apart_no_more_often_than_said(draws, each) -> None:
    """64 samples, of as many patients or of a quarter."""
    rng, n = np.random.default_rng(0), 64
    tasks, classes, patients = [0] * n, (np.arange(n) // each % 2).tolist(), np.arange(n) // each
    strata, shares = by_class(tasks, classes)
    apart, aware, low_p = 0, 0, 0
    for _ in range(300):
        easy = np.repeat(rng.normal(0.3, 1, n // each), each)
        rights = [shared_draws(rng, draws, easy) for _ in range(2)]
        deviations = [
            deviation_of_draws(
                right.mean(0), strata, shares, np.full(n, of_shared_draws(right, patients))
            )
            for right in rights
        ]
        gap = rights[0].mean(0) - rights[1].mean(0)
        found = balanced_difference(gap, tasks, classes, patients.tolist())
        wider = with_draws(found, *deviations)
        assert wider.difference == found.difference
        assert wider.low <= found.low <= found.high <= wider.high
        apart += not found.low <= 0 <= found.high
        aware += not wider.low <= 0 <= wider.high
        low_p += wider.p < 0.05
    assert apart > 0.3 * 300  # what units alone say
    assert max(aware, low_p) < 0.08 * 300


def test_draws_of_their_own_change_no_difference() -> None:
    found = PairedDifference(0.1, -0.05, 0.25, 0.2)
    strata, shares = by_task([0, 0, 1])
    assert shares.tolist() == pytest.approx([2 / 3, 1 / 3])
    right = np.array([0.5, 0.7, 0.2])
    assert deviation_of_draws(right, strata, shares, np.zeros(3)) == 0
    assert with_draws(found, 0.0, 0.0) == found


def test_the_deviation_that_shared_draws_add_is_the_sum_over_strata() -> None:
    strata, shares = by_task([0, 0, 1, 1])
    right, added = np.array([0.25, 0.75, 1.0, 0.6]), np.array([0.01, 0.01, 0.04, 0.04])
    of_task = [np.sqrt(0.25 * 0.01), np.sqrt(0.16 * 0.04)]
    assert deviation_of_draws(right, strata, shares, added) == pytest.approx(np.mean(of_task))
    wider = with_draws(PairedDifference(0.0, -0.1, 0.1, 0.3), 0.03, 0.04)
    half = np.hypot(0.1, normal_quantile(0.975) * 0.05)
    assert (wider.low, wider.high, wider.p) == pytest.approx((-half, half, 1.0))
    clipped = with_draws(PairedDifference(-0.9, -0.95, -0.85, 0.0), 0.3)
    assert clipped.low == -1
    assert clipped.p == pytest.approx(2 * ndtr(-0.9 * normal_quantile(0.975) / 0.59), rel=0.02)


# --- what a challenger took -----------------------------------------------------------------------


def test_a_challenger_takes_what_stood_of_the_tasks_and_it_left_not() -> None:
    """Two tasks: all, one and none of them stand, or one of a sample without the other's label."""
    right = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    weights = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [2.0, 0.0]]) / 8
    left = Left(("a", "b", "c", "d"), right, weights, draws=1, chunk=1)
    assert left.shares == {"a": 1.0, "b": 0.5, "c": 0.0, "d": 1.0}
    assert left.lost({"a": 0.5, "b": 0.5, "c": 0.0}) == Taken(0.125, 0.125, ("a",))
    assert left.lost({"a": 0.0, "b": 0.0, "d": 0.0}).taken == pytest.approx(left.robust)
    assert left.lost({}) == Taken(0.0, 0.0, ())
