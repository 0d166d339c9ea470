"""What a search for the smallest perturbation says of every radius."""

import numpy as np
import pytest
from support.evaluations import evaluate, setting, two_head_samples
from support.victims import TwoHeads

from robustbench_med.attacks import Threat
from robustbench_med.evaluation.figures import minimal_norm


def test_median_and_quartiles_of_sizes_are_none_where_too_few_samples_are_broken() -> None:
    threat, clean = Threat("L2", (1.0,), (0,)), np.ones(8, np.float32)
    sizes = np.array([[0.0, 1, 2, 3, 4, 5, 6, 7]], np.float32).T
    whole = minimal_norm(sizes, clean, threat)
    assert (whole["quartiles"], whole["median"]) == ([2.0, 6.0], 3.5)
    sizes[5:] = np.inf
    half = minimal_norm(sizes, clean, threat)
    assert (half["quartiles"], half["median"]) == ([2.0, None], 3.5)
    sizes[1:] = np.inf
    few = minimal_norm(sizes, clean, threat)
    assert (few["quartiles"], few["median"], few["not_found"]) == ([None, None], None, 7)


@pytest.mark.parametrize("name", ["ddn", "fmn"])
def test_what_was_found_below_a_radius_is_not_right_there(name: str) -> None:
    samples = two_head_samples()
    for radius in (0.05, 0.2, 0.6):
        threat = Threat("L2", (radius, radius), (0, 1))
        _, outcome = evaluate(TwoHeads().eval(), samples, threat, name, setting(), steps=30)
        sizes, right = outcome.arrays["minimal_size"], outcome.arrays["robust_right"]
        broken = (sizes <= radius).sum(1)
        assert (2 - right.sum(1) >= broken).all()
        assert broken.sum() > 0
