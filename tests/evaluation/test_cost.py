"""What a victim costs, against what can be counted by hand."""

import pytest
from torch import Tensor, nn

from robustbench_med.evaluation import cost


class Widened(nn.Module):
    """A layer, and two images of its output at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32 * 32, 1024, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor]:
        one = self.layer(x.flatten(1))
        two = one + 1
        del one
        return (two * 2,)


def test_peak_memory_is_weights_inputs_and_what_lives_at_once(capfd) -> None:
    weights, images, live = 1024 * 1024, 2 * 32 * 32, 2 * 1024
    shapes = [(1, 32, 32)] * 2
    assert cost.peak_memory(Widened(), shapes) == pytest.approx(
        4 * (weights + images + live), abs=64
    )
    assert capfd.readouterr() == ("", "")
