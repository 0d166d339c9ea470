"""PGD ends a run whose iterate repeats, with the result of the whole run."""

import pytest
import torch
from support.attacking import IDS
from support.victims import TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import Streams, Threat, View
from robustbench_med.attacks.pgd import Cycles, pgd


class Round(nn.Module):
    """One pixel of x is 0.5 at best for the attacker, who never wins: plain steps circle around it,
    while the others stand in their corners.
    """

    n_modalities, stochastic, class_counts = 1, False, (2,)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        pixel = x.flatten(1)[:, 0]
        loss = -((pixel - 0.5) ** 2) + 0.01 * x.flatten(1)[:, 1:].sum(1)
        return (torch.stack((1 - loss, torch.zeros_like(loss)), 1),)


def run(view: View, x: Tensor, y: Tensor, radius: float, steps: int, restarts: int = 1) -> tuple:
    """Adversarials, losses by step and the passes of one run."""
    threat = Threat("Linf", (radius,) * len(view.segments), tuple(range(y.shape[1])))
    view.losses, before = None, view.passes.backward
    streams = Streams.seeded(0, IDS[: len(x)], "pgd")
    found = pgd(view, x, y, threat, streams, steps=steps, step_size=0.3, restarts=restarts)
    return found, view.losses, view.passes.backward - before


@pytest.fixture
def whole(monkeypatch):
    """Runs that see no cycle."""

    def runs(*args, **kwargs) -> tuple:
        with monkeypatch.context() as patch:
            patch.setattr(Cycles, "goes_on", lambda self, step, x, alive: x[:, 0] == x[:, 0])
            return run(*args, **kwargs)

    return runs


@pytest.mark.parametrize("steps", [1, 2, 20, 37, 100])
@pytest.mark.parametrize("radius", [0.005, 0.05])
def test_the_result_and_every_loss_are_those_of_the_whole_run(steps, radius, whole, batch) -> None:
    view = View(TwoHeads().double().eval(), TwoHeads.shapes)
    x = view.pack(batch[0]).double()
    y = torch.stack([z.argmax(1) for z in view.logits(x)], 1)
    found, losses, passes = run(view, x, y, radius, steps)
    expected, all_losses, most = whole(view, x, y, radius, steps)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(losses, all_losses, atol=1e-9, equal_nan=True)
    assert passes <= most
    if steps == 100 and radius == 0.005:
        assert passes < 0.7 * most


@pytest.mark.parametrize("steps", range(8, 24))
def test_a_circle_is_left_where_the_last_step_would_have_left_it(steps, whole) -> None:
    view = View(Round().double().eval(), [(1, 2, 2)])
    x = torch.full((3, 4), 0.5).double() + torch.tensor([[0.01], [0.0], [-0.04]])
    y = torch.zeros(3, 1, dtype=torch.long)
    found, losses, passes = run(view, x, y, 0.125, steps)
    expected, all_losses, most = whole(view, x, y, 0.125, steps)
    assert torch.equal(found, expected)
    assert torch.equal(losses, all_losses)
    assert passes <= 3 * 12 < most or steps < 14


def test_restarts_go_on_after_a_cycle(whole) -> None:
    view = View(Round().double().eval(), [(1, 2, 2)])
    x = torch.full((2, 4), 0.5).double()
    y = torch.zeros(2, 1, dtype=torch.long)
    found, _, passes = run(view, x, y, 0.125, 50, restarts=3)
    expected, _, most = whole(view, x, y, 0.125, 50, restarts=3)
    assert torch.equal(found, expected)
    assert passes < most / 3


@pytest.mark.parametrize("given", [{"momentum": 0.9}, {"schedule": "cosine"}, {"keep": "last"}])
def test_steps_with_a_memory_are_made_to_the_end(given) -> None:
    view = View(Round().double().eval(), [(1, 2, 2)])
    x, y = torch.full((2, 4), 0.5).double(), torch.zeros(2, 1, dtype=torch.long)
    streams = Streams.seeded(0, IDS[:2], "pgd")
    pgd(view, x, y, Threat("Linf", (0.125,), (0,)), streams, steps=64, **given)
    assert view.passes.backward == 2 * 64
