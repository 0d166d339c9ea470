"""What a step does on an accelerator, without one: on the device `meta` tensors have no values, so
that a mix of devices, a way back to the host and a host that waits for a value all fail.
"""

import pytest
import torch
from support.victims import TwoHeads
from torch import Tensor

from robustbench_med.attacks import Draws, Streams, Threat, View
from robustbench_med.attacks.pgd import of_unit_mean
from robustbench_med.models.mail import MAIL

N = 3
IDS = [f"sample {i}" for i in range(N)]
NORMS = {"Linf": (0.1, 0.1), "L2": (0.5, 0.5)}


def batch(view: View) -> tuple[Tensor, Tensor]:
    x = torch.rand(N, view.dim, device="meta")
    return x, torch.zeros(N, 2, dtype=torch.int64, device="meta")


def two_heads() -> View:
    with torch.device("meta"):
        return View(TwoHeads().eval().requires_grad_(False), TwoHeads.shapes)


def test_the_device_finds_mixes_transfers_and_hosts_that_wait() -> None:
    """So that what follows can fail."""
    x = torch.rand(3, device="meta")
    for silent in (
        lambda: x + torch.rand(3),
        lambda: bool(x.sum() > 0),
        lambda: x[x > 0],
        lambda: x.cpu(),
        lambda: x.tolist(),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            silent()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["ce", "margin", "dlr", "pma"])
def test_a_step_stays_on_the_device_and_waits_for_nothing(norm, loss) -> None:
    view = two_heads()
    x, y = batch(view)
    threat = Threat(norm, NORMS[norm], (0, 1))
    start = view.random_point(x, threat, Streams.seeded(0, IDS, "pgd", device="meta"))
    for eot, combine in ((1, "mean"), (1, "normalised")):
        gradient = view.gradient(start, y, threat, loss=loss, eot=eot, combine=combine)
        assert gradient.direction.device == gradient.standing.device == x.device
        direction = of_unit_mean(gradient.direction)
        moved = view.project(view.step(start, direction, 0.1, threat), x, threat)
        assert moved.device == x.device


def test_random_numbers_are_drawn_where_they_are_wanted() -> None:
    streams = Streams.seeded(0, IDS, "test", device="meta")
    some = streams.take(torch.tensor([2, 0], device="meta"))
    for drawn in (
        streams.uniform(5),
        streams.normal(5),
        streams.integers(0, [3, 4]),
        streams.bernoulli(9, 64),
        streams.spawn().numbered(2).uniform(3),
        some.uniform(5),
    ):
        assert drawn.device.type == "meta"


def test_a_random_victim_draws_on_its_device() -> None:
    with torch.device("meta"):
        victim = MAIL((1, 1), (4, 2), width=16).eval()
    x = [torch.rand(N, 1, 32, 32, device="meta") for _ in range(2)]
    draws = Draws(0, "test", ids=IDS)
    logits = draws.run(victim, [m.repeat(2, 1, 1, 1) for m in x])
    assert [z.shape for z in logits] == [(2 * N, 4), (2 * N, 2)]
    assert all(z.device.type == "meta" for z in logits)
