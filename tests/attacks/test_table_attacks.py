"""Clinical tables and missing modalities under attack: every column within its own bound, flips
counted, what is missing left missing.
"""

import pytest
import torch
from support.attacking import IDS, PAIRS, attack
from torch import Tensor, nn

from robustbench_med.attacks import Columns, Threat, View, entry_of, under

SHAPES = [(1, 4, 4), (7, 1, 1)]
GROUPS = ((2, 4), (4, 7))
"""Of a table with two numeric columns, one of two values and one of three."""
LINF = [name for name in under("Linf") if name != "transfer"]
FLIPPING = [name for name in LINF if entry_of(name).flips]
RADII = {"L1": 3.0, "L0": 4, "L2": 0.5, "Linf": 0.1}


class Tabled(nn.Module):
    """Right while `weights` times the table, and a hundredth of the image's mean, are above 0."""

    n_modalities, class_counts, stochastic = 2, (2,), False

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights, requires_grad=False)

    def forward(self, image: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        score = table.flatten(1) @ self.weights + image.mean((1, 2, 3)) / 100
        return (torch.stack((torch.zeros_like(score), score), 1),)


def patients(n: int = 16) -> Tensor:
    """(n, 23): an image, two numbers in the middle, the first value of each categorical column."""
    table = torch.tensor([0.5, 0.4, 1.0, 0.0, 1.0, 0.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 16, generator=generator) * 0.5 + 0.25
    return torch.cat((images, table.expand(n, -1)), 1)


def threat(radii: tuple[float, float] = (0.0, 0.0), flips: int = 0, image: float = 0.0) -> Threat:
    columns = Columns((), (*radii, *[0.0] * 5), GROUPS, flips)
    return Threat("Linf", (image, columns.radius), (0,), columns=(None, columns))


def right(view: View, x: Tensor) -> float:
    """Share of samples whose score is above 0."""
    return float((view.logits(x)[0][:, 1] > 0).float().mean())


@pytest.mark.parametrize("name", LINF)
def test_every_linf_attack_moves_each_numeric_column_by_its_own_radius_at_most(name: str) -> None:
    view, x = View(Tabled(torch.tensor([0.4, 0.3, 0, 0, 0, 0, 0])), SHAPES), patients()
    y = torch.ones(len(x), 1, dtype=torch.int64)
    bounds = threat((0.05, 0.2), image=0.1)
    moved = attack(name, view, x, y, bounds)
    view.check(moved, x, bounds)
    far = (moved - x).abs()[:, 16:]
    assert far[:, 0].max() <= 0.05 + 1e-7
    assert far[:, 1].max() <= 0.2 + 1e-7
    assert torch.equal(moved[:, 18:], x[:, 18:])


@pytest.mark.parametrize("name", ["pgd", "apgd", "square", "fab", "fgsm", "adaptive"])
def test_a_column_is_taken_to_the_end_of_its_range_where_that_breaks_the_victim(name: str) -> None:
    """0.5 + 0.4 - 0.66 falls only where both numbers go down by all they may, 0.05 and 0.2."""
    weights = torch.tensor([1.0, 1.0, -0.66, 0, 0, 0, 0])
    view, x = View(Tabled(weights), SHAPES), patients()
    y = torch.ones(len(x), 1, dtype=torch.int64)
    assert right(view, x) == 1
    assert right(view, attack(name, view, x, y, threat((0.05, 0.2)))) == 0
    assert right(view, attack(name, view, x, y, threat((0.05, 0.1)))) == 1


@pytest.mark.parametrize("name", [name for name in FLIPPING if name != "noise"])
def test_as_many_columns_flip_as_may_and_no_more(name: str) -> None:
    """The victim falls once both categorical columns say something else, of the second the third
    value.
    """
    weights = torch.tensor([-0.4, 0, 0.4, 0, 0.5, 0.4, 0])  # 0.4 + 0.5 - 0.4 / 2
    view, x = View(Tabled(weights), SHAPES), patients()
    y = torch.ones(len(x), 1, dtype=torch.int64)
    for flips, stands in ((1, 1.0), (2, 0.0)):
        moved = attack(name, view, x, y, threat(flips=flips), **many(name))
        view.check(moved, x, threat(flips=flips))
        assert right(view, moved) == stands, flips
    assert torch.equal(moved[:, 20:], torch.eye(3)[2].expand(len(x), -1))


def many(name: str) -> dict[str, int]:
    return {"queries": 300} if name == "square" else {}


def test_noise_flips_and_moves_within_the_bounds_and_unknown_stays_unknown() -> None:
    view, x = View(Tabled(torch.zeros(7)), SHAPES), patients()
    x[0, 20:] = 0  # of the first patient nobody knows the second column
    y = torch.ones(len(x), 1, dtype=torch.int64)
    bounds = threat((0.05, 0.0), flips=1)
    for name in FLIPPING:
        moved = attack(name, view, x, y, bounds)
        view.check(moved, x, bounds)
        assert not moved[0, 20:].any()
    moved = attack("noise", view, x, y, bounds)
    assert ((moved != x)[:, 18:].any(1)).float().mean() > 0.5


@pytest.mark.parametrize(
    ("column", "value", "said"), [(18, 0.5, "one value"), (16, 0.7, "further"), (20, 0.0, "one")]
)
def test_a_table_outside_its_bounds_is_seen(column: int, value: float, said: str) -> None:
    view, x = View(Tabled(torch.zeros(7)), SHAPES), patients()
    moved = x.clone()
    moved[3, column] = value
    with pytest.raises(AssertionError, match=said):
        view.check(moved, x, threat((0.05, 0.0), flips=1))
    moved = x.clone()
    moved[:, 18:23] = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0])
    with pytest.raises(AssertionError, match="flipped 2"):
        view.check(moved, x, threat(flips=1))


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_what_a_sample_misses_stays_missing(name: str, norm: str) -> None:
    view, x = View(Tabled(torch.tensor([0.4, 0.3, 0, 0, 0, 0, 0])), SHAPES), patients()
    x[::3, :16] = 0
    y = torch.ones(len(x), 1, dtype=torch.int64)
    bounds = Threat(norm, (RADII[norm], 0.0), (0,), optional=(0,))
    if name == "transfer":
        return
    moved = attack(name, view, x, y, bounds, IDS)
    view.check(moved, x, bounds)
    assert not moved[::3, :16].any()


def test_smaller_tables_keep_the_proportions_of_their_columns() -> None:
    (_, columns), half = threat((0.05, 0.2)).columns, threat((0.05, 0.2)).scaled(0.5)
    assert half.radii == (0.0, 0.1)
    assert half.columns[1].radii[:2] == pytest.approx((0.025, 0.1))
    assert threat((0.05, 0.2)).over((0.0, 0.0)).columns == ()
    assert columns.radius == 0.2
    assert threat((0.05, 0.0), flips=1).columns[1].radius == 1.0
