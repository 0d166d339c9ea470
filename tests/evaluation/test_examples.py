"""Which samples a record keeps images of, and that they are what was attacked."""

import numpy as np
import pytest
import torch
from support.evaluations import evaluate, setting, two_head_samples
from support.victims import TwoHeads

from robustbench_med.attacks import Threat
from robustbench_med.evaluation import examples


def test_the_kept_images_are_the_first_and_those_that_lost_most_inside_the_ball(victim) -> None:
    samples = two_head_samples()
    _, outcome = evaluate(victim, samples, Threat("Linf", (0.05, 0.0), (0,)), "pgd", setting())
    arrays = outcome.arrays
    y = arrays["labels"][:, 0]
    lost = (
        arrays["clean_probabilities_0"][range(40), y]
        - arrays["robust_probabilities_0"][range(40), y]
    )
    assert arrays["examples"][arrays["examples_rule"] == "first"].tolist() == [0, 1, 2, 3]
    worst = arrays["examples"][arrays["examples_rule"] == "worst"]
    assert lost[worst].min() >= np.delete(lost, worst).max()
    for i, row in enumerate(arrays["examples"]):
        clean = [m[0].numpy() for m in samples.batch([row])]
        assert np.array_equal(
            arrays["examples_clean_0"][i], np.round(clean[0] * 255).astype(np.uint8)
        )
        size = np.abs(arrays["examples_adversarial_0"][i].astype(np.float32) - clean[0]).max()
        assert size == pytest.approx(arrays["linf"][row, 0], abs=1e-3)  # half precision
        assert (
            np.abs(arrays["examples_adversarial_1"][i].astype(np.float32) - clean[1]).max() < 5e-4
        )  # trusted
    wrong = TwoHeads()(*samples.batch(range(40)))[0].argmax(1).numpy() != y
    assert (arrays["linf"][wrong] == 0).all()  # never right, never attacked: shown as they are
    images = {f"image_{t}" for t in (0, 1)}
    assert images <= arrays.keys()


def test_large_images_are_fewer_but_each_rule_keeps_one(victim, monkeypatch) -> None:
    monkeypatch.setattr(examples, "MAX_BYTES", 10)
    _, outcome = evaluate(
        victim, two_head_samples(), Threat("Linf", (0.05, 0.05), (0, 1)), "fgsm", setting()
    )
    assert outcome.arrays["examples_rule"].tolist() == ["first", "worst"]
    assert torch.from_numpy(outcome.arrays["examples_clean_1"]).shape == (2, 3, 6, 6)
