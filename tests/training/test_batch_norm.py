"""BatchNorm in the last part of a training: the statistics that a random victim's inference
sees.
"""

import torch
from torch import nn

from robustbench_med.training import batch_norm
from robustbench_med.training.objectives import statistics_held

CPU = torch.device("cpu")


class Drifting(nn.Module):
    """Adds one draw from N(0, 3^2) to a whole batch, as a random filter does, and normalises twice;
    `factor` scales between.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.factor = nn.BatchNorm2d(1), nn.BatchNorm2d(1), 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.factor * self.first(x + 3 * torch.randn(())))


def images(number: int) -> list[torch.Tensor]:
    return [torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(number))]


def settled() -> tuple[Drifting, batch_norm.Settled]:
    victim = Drifting()
    statistics = batch_norm.Settled(victim)
    for number in range(100):
        victim.train()(*images(number))
    assert abs(float(victim.first.running_var) - 1) < 0.2  # within a batch: what training knows
    statistics.settle(images, CPU, 0)
    return victim, statistics


def test_settled_statistics_hold_the_variance_between_draws() -> None:
    victim, _ = settled()
    assert 6 < victim.first.running_var.item() < 14  # 1 within a batch, 9 between draws
    assert (
        2.4 < victim.second.running_var.item() < 5.6
    )  # 4: behind a layer that normalises as inference does
    with torch.no_grad():
        outputs = torch.cat([victim.eval()(*images(number)) for number in range(200)])
    assert 0.7 < float(outputs.var()) < 1.4
    assert not torch.equal(victim(*images(0)), victim(*images(0)))


def test_statistics_follow_the_training_and_no_evaluation_moves_them() -> None:
    victim, _ = settled()
    before = {name: tensor.clone() for name, tensor in victim.state_dict().items()}
    victim.eval()(*images(0))
    batch_norm.freeze(victim.train())
    with statistics_held(victim):  # adversarial iterates
        victim(*images(0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in victim.state_dict().items())
    victim.factor = 4.0
    for number in range(400):
        batch_norm.freeze(victim.train())
        victim(*images(number))
    assert abs(float(victim.second.running_var) / 16 - 1) < 0.5


def test_settling_leaves_weights_and_the_random_state_alone() -> None:
    victim, statistics = settled()
    weights = [parameter.clone() for parameter in victim.parameters()]
    state = torch.random.get_rng_state()
    statistics.settle(images, CPU, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights, victim.parameters(), strict=True))
