"""Whether a victim is random is found by trying."""

import pytest
import torch
from support.evaluations import CPU, evaluate, setting, two_head_samples
from support.victims import TwoHeads
from torch import Tensor

from robustbench_med.attacks import Threat
from robustbench_med.evaluation.probes import examine


class Noisy(TwoHeads):
    """Says that it is deterministic."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        logits = super().forward(a, b)
        return tuple(z + self.noise * torch.randn_like(z) for z in logits)


def test_a_victim_that_hides_its_randomness_is_found_by_trying() -> None:
    assert examine(Noisy(1e-3).eval(), two_head_samples(), CPU, 0).stochastic
    nature = examine(TwoHeads().eval(), two_head_samples(), CPU, 0)
    assert not nature.stochastic
    assert nature.rounding == 0
    assert nature.notes == []


def test_noise_of_rounding_leaves_a_victim_deterministic_and_is_said() -> None:
    """Noise of 1e-6 chose AutoAttack's version for random victims: 30 points weaker."""
    samples = two_head_samples()
    nature = examine(Noisy(1e-7).eval(), samples, CPU, 0)
    assert not nature.stochastic
    assert nature.drawing == "none"
    assert 0 < nature.rounding < 1e-5
    assert "rounding" in nature.notes[0]
    threat = Threat("Linf", (0.1, 0.1), (0, 1))
    given = {"steps": 10, "queries": 50}
    clean, noisy = evaluate(Noisy(1e-7).eval(), samples, threat, "autoattack", setting(), **given)
    _, twin = evaluate(TwoHeads().eval(), samples, threat, "autoattack", setting(), **given)
    assert clean.draws == 1
    assert noisy.figures["robust"] == pytest.approx(twin.figures["robust"], abs=0.02)


def test_a_member_that_answers_seldom_or_on_moved_images_alone_is_found() -> None:
    class Members(TwoHeads):
        """Of two networks one answers, by chance; on clean images always the first."""

        def __init__(self, clean: list[Tensor]) -> None:
            super().__init__()
            self.other, self.clean = TwoHeads(1), clean

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            known = len(a) == len(self.clean[0]) and torch.equal(a, self.clean[0])
            if known or torch.rand(()) < 0.5:
                return super().forward(a, b)
            return self.other(a, b)

    samples = two_head_samples()
    victim = Members(samples.batch(range(8))).eval()
    assert all(examine(victim, samples, CPU, seed).stochastic for seed in range(20))
