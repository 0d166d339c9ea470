"""The flat view and the threat model: packing, projection, bounds, random numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.victims import TwoHeads

from robustbench_med.attacks import Streams, Threat, View
from robustbench_med.attacks.streams import derive_seed


def make_view(draws: int = 1) -> View:
    return View(TwoHeads().eval(), TwoHeads.shapes, draws=draws)


def test_unpack_undoes_pack_bit_for_bit(batch) -> None:
    x, _ = batch
    view = make_view()
    for a, b in zip(x, view.unpack(view.pack(x)), strict=True):
        assert torch.equal(a, b)


radii = st.floats(0, 2, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(
    norm=st.sampled_from(["Linf", "L2", "L1", "L0"]),
    r=st.tuples(radii, radii),
    scale=st.sampled_from([1e-6, 0.1, 10.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_projection_lands_in_every_ball_and_in_the_box_and_does_not_move_what_is_inside(
    norm, r, scale, seed
) -> None:
    view, generator = make_view(), torch.Generator().manual_seed(seed)
    x0 = torch.rand(5, view.dim, generator=generator).round(decimals=1)
    threat = Threat(norm, tuple(map(round, r)) if norm == "L0" else r, (0, 1))
    projected = view.project(x0 + scale * torch.randn(5, view.dim, generator=generator), x0, threat)
    view.check(projected, x0, threat)
    assert torch.allclose(view.project(projected, x0, threat), projected, atol=1e-6)


@pytest.mark.parametrize(("norm", "radius"), [("Linf", 0.3), ("L2", 0.3), ("L1", 0.3), ("L0", 2)])
def test_a_trusted_modality_comes_back_bit_identical(norm, radius, batch) -> None:
    view, x0 = make_view(), make_view().pack(batch[0])
    threat = Threat(norm, (0.0, radius), (0, 1))
    moved = view.project(x0 + torch.randn_like(x0), x0, threat)
    assert torch.equal(moved[:, :64], x0[:, :64])
    assert not torch.equal(moved[:, 64:], x0[:, 64:])


@pytest.mark.parametrize(
    "spoil", [lambda x: x + 0.2, lambda x: x * float("nan"), lambda x: torch.where(x == 0, 1e-3, x)]
)
def test_check_catches_a_step_outside(spoil, batch) -> None:
    view = make_view()
    x0 = view.pack(batch[0])
    with pytest.raises(AssertionError):
        view.check(spoil(x0), x0, Threat("Linf", (0.0, 0.1), (0, 1)))


def test_random_points_fill_the_ball() -> None:
    view = make_view()
    x0 = torch.full((400, view.dim), 0.5)
    streams = Streams.seeded(0, [str(i) for i in range(400)], "test")
    point = view.random_point(x0, Threat("L2", (0.3, 0.1), (0,)), streams)
    sizes = view.distances(point, x0, "L2")
    assert (sizes <= torch.tensor([0.3, 0.1]) + 1e-6).all()
    assert torch.allclose(
        sizes.mean(0), torch.tensor([0.3 * 64 / 65, 0.1 * 108 / 109]), atol=2e-3
    )  # E|x| = r d / (d + 1)
    box = (
        view.random_point(
            x0,
            Threat("Linf", (0.3, 0.1), (0,)),
            Streams.seeded(0, [str(i) for i in range(400)], "test"),
        )
        - x0
    )
    assert box[:, :64].std() == pytest.approx(0.3 / 3**0.5, rel=0.02)
    assert box[:, 64:].std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_steepest_direction_has_the_length_of_each_radius_even_for_tiny_gradients() -> None:
    view = make_view()
    gradient = 1e-30 * torch.randn(3, view.dim, generator=torch.Generator().manual_seed(0))
    step = view.steepest(gradient, Threat("L2", (0.5, 0.2), (0,)))
    assert torch.allclose(
        view.distances(step, torch.zeros_like(step), "L2"),
        torch.tensor([0.5, 0.2]).expand(3, 2),
        rtol=1e-4,
    )


def test_a_samples_random_numbers_depend_on_nothing_but_seed_id_and_purpose() -> None:
    together = Streams.seeded(3, ["a", "b", "c"], "pgd").uniform(7)
    alone = Streams.seeded(3, ["b"], "pgd").uniform(7)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(alone, Streams.seeded(4, ["b"], "pgd").uniform(7))
    assert not torch.equal(alone, Streams.seeded(3, ["b"], "fgsm").uniform(7))
    assert derive_seed(3, "pgd", "b") != derive_seed("3p", "gd", "b")


def test_passes_are_counted_in_samples_and_eot_is_the_mean_of_its_draws(batch) -> None:
    view = make_view()
    x, y = view.pack(batch[0]), batch[1]
    threat = Threat("Linf", (0.1, 0.1), (0, 1))
    one = view.gradient(x, y, threat)
    assert (view.passes.forward, view.passes.backward) == (16, 16)
    four = view.gradient(x, y, threat, eot=4)
    assert (view.passes.forward, view.passes.backward) == (80, 80)
    assert torch.allclose(one.direction, four.direction, atol=1e-6)  # a deterministic victim


def test_the_loss_of_an_unlabelled_task_does_not_count(batch) -> None:
    view = make_view()
    x, y = view.pack(batch[0]), batch[1].clone()
    y[:, 1] = -1
    both = view.gradient(x, y, Threat("Linf", (0.1, 0.1), (0, 1)))
    first = view.gradient(x, batch[1], Threat("Linf", (0.1, 0.1), (0,)))
    assert torch.equal(both.direction, first.direction)
    assert torch.equal(both.standing, first.standing)
