"""How many draws judge a random victim, and what its interval makes of draws that samples share."""

import pytest
import torch
from support.evaluations import evaluate, setting, two_head_samples
from support.victims import TwoHeads
from torch import Tensor

from robustbench_med.attacks import Threat
from robustbench_med.evaluation.batching import judged_draws
from robustbench_med.evaluation.types import Drawing
from robustbench_med.models.contract import Generators

pytestmark = pytest.mark.challenged

STILL = Threat("Linf", (0.0, 0.0), (0,))


class OneOfTwo(TwoHeads):
    """An ensemble that takes one of two members for a batch: at task 0 one is right four times in
    five, the other once.
    """

    stochastic = True

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        z, other = super().forward(a, b)
        return (z if torch.rand(()) < 0.5 else -z), other


class OneOfTwoEach(OneOfTwo):
    """The same, but it takes one for each sample."""

    def forward(
        self, a: Tensor, b: Tensor, generators: Generators | None = None
    ) -> tuple[Tensor, ...]:
        z, other = TwoHeads.forward(self, a, b)
        drawn = torch.rand(len(a), 1) if generators is None else generators.uniform(1)
        return torch.where(drawn < 0.5, z, -z), other


@pytest.mark.parametrize(
    ("draws", "n", "chunk", "drawing", "judged"),
    [
        (4, 64, 64, "batch", 32),  # four draws of two members are the same one in eight times
        (4, 64, 32, "batch", 16),
        (16, 64, 32, "batch", 16),
        (4, 624, 32, "batch", 4),  # of 20 chunks
        (100, 8, 32, "batch", 100),
        (4, 64, 64, "sample", 4),
        (1, 64, 64, "batch", 1),  # asked for as one draw
    ],
)
def test_draws_are_added_where_those_that_chunks_share_are_few(
    draws: int, n: int, chunk: int, drawing: Drawing, judged: int
) -> None:
    assert judged_draws(draws, n, chunk, drawing) == judged


def test_an_ensemble_that_draws_for_its_batch_is_judged_on_more_draws_and_told_its_interval() -> (
    None
):
    samples = two_head_samples(40)  # two chunks
    clean, outcome = evaluate(OneOfTwo().eval(), samples, STILL, "noise", setting(draws=4))
    assert (clean.drawing, clean.draws) == ("batch", 16)
    assert outcome.cost["evaluation_forward"] == 2 * 16 * 40
    assert set((outcome.arrays["robust_right"][:, 0] * 16) % 1) == {0}
    task, other = outcome.figures["tasks"]
    low, high = task["robust_interval"]
    assert low < 0.5 < high
    # a quarter over the variance of draws, 0.3^2 (32^2 + 8^2) / 40^2 / 16, and Student's t
    assert task["n_effective_robust"] == pytest.approx(60, rel=0.15)
    assert other["n_effective_robust"] == other["n"]  # it has no randomness at this task

    each, outcome = evaluate(OneOfTwoEach().eval(), samples, STILL, "noise", setting(draws=4))
    assert (each.drawing, each.draws) == ("sample", 4)
    # near the 4 x 40 draws, each a sample; its variance is estimated
    assert outcome.figures["tasks"][0]["n_effective_clean"] > 100
    assert outcome.figures["tasks"][0]["n_effective_robust"] > 100
