"""Paired statistics: known numbers, and the properties that make them honest."""

import numpy as np
import pytest

from robustbench_med.statistics import bootstrap_difference, holm, mcnemar, worst_case


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


def known(right: np.ndarray) -> np.ndarray:
    """Every sample labelled for every task."""
    return np.ones(right.shape, bool)
