"""What the attacks are for: exact answers where mathematics gives them, strength, random victims,
few classes, odd batches.
"""

import pytest
import torch
from support.attacking import IDS, PAIRS, attack, only_norm
from support.victims import CoinFlip, TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import (
    ATTACKS,
    Streams,
    Threat,
    View,
    complete,
    entry_of,
    scaled_size,
    untargeted,
)
from robustbench_med.attacks.autoattack import version_for
from robustbench_med.attacks.fab import project_onto_plane
from robustbench_med.attacks.losses import dlr, dlr_towards, margin
from robustbench_med.attacks.malt import nearest
from robustbench_med.attacks.minimal import of_standing

RADII = {"Linf": (0.5, 0.5), "L2": (2.0, 2.0), "L1": (6.0, 6.0), "L0": (12, 8)}
"""At which the linear victim's predictions can be changed to any class."""


class Linear(nn.Module):
    """Two modalities, one task; logits linear in the pixels, so that distances to the boundary are
    known.
    """

    n_modalities, stochastic = 2, False
    shapes = ((1, 4, 4), (1, 3, 3))

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.class_counts = (classes,)
        self.w = nn.Parameter(
            torch.randn(25, classes, generator=torch.Generator().manual_seed(3)),
            requires_grad=False,
        )

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor]:
        return ((torch.cat((a.flatten(1), b.flatten(1)), 1) - 0.5) @ self.w,)


def linear(classes: int, n: int = 8) -> tuple[View, Tensor, Tensor]:
    view = View(Linear(classes).eval(), Linear.shapes)
    x = 0.4 + 0.2 * torch.rand(n, view.dim, generator=torch.Generator().manual_seed(0))
    return view, x, view.logits(x)[0].argmax(1, keepdim=True)


def right_everywhere(batch, seed: int = 0) -> tuple[View, Tensor, Tensor]:
    view = View(TwoHeads(seed).eval(), TwoHeads.shapes)
    x = view.pack(batch[0])
    return view, x, torch.stack([z.argmax(1) for z in view.logits(x)], 1)


SEARCHES = {
    "cw": {"steps": 200, "search": 9},
    "fab": {"steps": 20},
    "hopskipjump": {"steps": 20, "evaluations": 200},
    "boundary": {"steps": 600},
}
"""What searches are given, where it is not their defaults."""
SURPLUS = {
    "cw": 0.08,
    "ddn": 0.2,  # cross-entropy looks at the third class as well
    "fmn": 0.07,
    "ead": 0.05,
    "sigma-zero": 0.0,
    "fab": 0.01,
    "hopskipjump": 1.0,
    "boundary": 0.07,  # a walk may end at the boundary of the other class
}
"""By how much what they find is larger than the distance to the boundary: what search leaves, few
queries.
"""


@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for name, norm in PAIRS if entry_of(name).minimal]
)
def test_minimal_attacks_find_the_distance_to_a_linear_boundary(name, norm) -> None:
    view, x, y = linear(classes=3)
    # but for Linf one ball, so that the distance is known
    threat = Threat(norm, {"Linf": (0.01, 0.01), "L0": (1, 0)}.get(norm, (0.01, 0)), (0,))
    given = complete(name, SEARCHES.get(name, {}))
    found = entry_of(name).minimal(view, x, y, threat, Streams.seeded(0, IDS[:8], name), **given)
    expected = torch.stack([distance(view, x[i], int(y[i]), norm) for i in range(8)])
    assert (view.logits(found.x[0])[0].argmax(1) != y[:, 0]).all()
    assert (found.size[0] / expected).min() > 1 - 1e-4
    assert (found.size[0] / expected).max() <= 1 + SURPLUS[name] + 1e-5
    assert torch.allclose(scaled_size(view, found.x[0], x, threat), found.size[0])


def distance(view: View, x: Tensor, label: int, norm: str) -> Tensor:
    """How far the nearest boundary of the linear victim is from x (D,): in L1 and L0 the pixels
    that win most go as far as the box.
    """
    z, w = view.logits(x[None])[0][0], view.victim.w
    found = []
    for other in range(len(z)):
        slope, gap = w[:, other] - w[:, label], z[label] - z[other]
        if norm == "Linf":
            found.append(gap / slope.abs().sum())
        elif norm == "L2":
            found.append(gap / slope[:16].norm())
        else:
            slope, pixels = slope[:16], x[:16]
            room = torch.where(slope > 0, 1 - pixels, pixels)
            gain = slope.abs() * room
            order = (slope.abs() if norm == "L1" else gain).argsort(descending=True)
            before = gain[order].cumsum(0) - gain[order]
            part = ((gap - before) / gain[order]).clamp(0, 1)
            found.append((part > 0).sum() if norm == "L0" else (part * room[order]).sum())
    del found[label]
    return torch.stack(found).amin().float()


def test_a_search_attacks_the_tasks_that_stand_together_and_else_the_nearest_to_standing() -> None:
    loss = of_standing(margin, Threat("Linf", (1.0,), (0, 1)))
    first = torch.tensor([[3.0, 1.0], [3.0, 1.0], [1.0, 3.0], [1.0, 3.0], [3.0, 1.0]])
    second = torch.tensor([[4.0, 1.0], [1.0, 2.0], [4.0, 1.0], [1.0, 2.0], [4.0, 1.0]])
    y = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 0], [0, -1]])
    assert loss([first, second], y).tolist() == [-5, -2, -3, 1, -2]
    assert loss([first, second], torch.full((5, 2), -1)).tolist() == [0] * 5


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_the_projection_onto_a_plane_in_a_box_is_the_nearest_point(norm) -> None:
    generator = torch.Generator().manual_seed(0)
    u, w = 0.5 * torch.randn(40, 6, generator=generator), torch.randn(40, 6, generator=generator)
    low, high, offset = (
        u - torch.rand(40, 6, generator=generator),
        u + torch.rand(40, 6, generator=generator),
        torch.randn(40, generator=generator),
    )
    d = project_onto_plane(u, w, offset, low, high, norm)
    order = {"Linf": torch.inf, "L2": 2, "L1": 1}[norm]
    assert ((u + d >= low - 1e-6) & (u + d <= high + 1e-6)).all()
    on_plane = (offset + (w * (u + d)).sum(1)).abs() < 1e-4
    assert on_plane.float().mean() > 0.5  # the others are out of the box's reach
    corner = torch.where(-(offset + (w * u).sum(1))[:, None] * w > 0, high, low)
    reach = (offset + (w * corner).sum(1)) * (offset + (w * u).sum(1)) <= 0
    assert torch.equal(on_plane, reach)
    for _ in range(50):  # no random point of plane and box is nearer
        other = low + (high - low) * torch.rand(40, 6, generator=generator)
        shift = -(offset + (w * other).sum(1)) / w.square().sum(1)
        other = other + shift[:, None] * w
        feasible = ((other >= low) & (other <= high)).all(1) & on_plane
        assert ((other - u).norm(order, dim=1) >= d.norm(order, dim=1) - 1e-5)[feasible].all()


@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for name, norm in PAIRS if name != "noise"]
)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_attack_wins_on_a_linear_victim_whatever_the_number_of_classes(
    name, classes, norm
) -> None:
    view, x, y = linear(classes)
    threat = Threat(norm, RADII[norm], (0,))
    source = View(Linear(classes).eval(), Linear.shapes)
    steps = {"cw": 40, "ddn": 40, "sigma-zero": 60}.get(name, 10)
    given = complete(
        name, {k: v for k, v in {"steps": steps, "queries": 200}.items() if k in complete(name, {})}
    )
    extra = {"sources": [source]} if name == "transfer" else {}
    broken = ATTACKS[name](view, x, y, threat, Streams.seeded(0, IDS[:8], name), **given, **extra)
    view.check(broken, x, threat)
    assert view.standing(broken, y, threat).mean() <= 0.13


@pytest.mark.parametrize("name", ["apgd", "apgd-t", "malt", "autoattack"])
def test_the_stronger_attacks_leave_less_standing_than_fgsm_and_what_pgd_leaves(
    name, batch
) -> None:
    view, x, y = right_everywhere(batch)
    for eps in (0.02, 0.04):
        threat = Threat("Linf", (eps, eps), (0, 1))
        weak, pgd, strong = (
            view.standing(attack(attacker, view, x, y, threat, **given), y, threat).mean()
            for attacker, given in (("fgsm", {}), ("pgd", {"steps": 10}), (name, {"steps": 30}))
        )
        assert strong < weak
        assert (
            strong <= pgd + 2 / 32
        )  # PGD, going 2.5 radii, is hard to beat here: two of 32 tasks of samples are chance


@pytest.mark.parametrize("name", ["bim", "pgd", "mim", "apgd", "apgd-t", "malt"])
def test_a_task_that_is_wrong_already_does_not_shield_a_confident_one(name) -> None:
    """The wrong task's loss pulls every pixel up, the confident task's pulls it down: the sum
    follows the wrong one.
    """

    class Opposed(nn.Module):
        n_modalities, stochastic, class_counts, shapes = 1, False, (2, 2), ((1, 4, 4),)

        def forward(self, a: Tensor) -> tuple[Tensor, Tensor]:
            brightness = 8 * (a.flatten(1).mean(1, keepdim=True) - 0.5)
            zero = torch.zeros_like(brightness)
            return torch.cat((3 * brightness + 6, zero), 1), torch.cat((brightness + 0.3, zero), 1)

    view = View(Opposed().eval(), Opposed.shapes)
    x, y = (
        torch.full((3, 16), 0.5),
        torch.tensor([[1, 0]] * 3),
    )  # wrong on the first task, right on the second
    threat = Threat("Linf", (0.1,), (0, 1))
    assert view.standing(x, y, threat).tolist() == [0.5] * 3
    assert view.standing(attack(name, view, x, y, threat, steps=10), y, threat).max() == 0
    if name == "pgd":
        assert (
            view.standing(attack(name, view, x, y, threat, steps=10, keep="last"), y, threat).min()
            == 0.5
        )


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "noise"])
def test_a_random_victim_keeps_what_chance_gives_it_under_every_attack(name) -> None:
    torch.manual_seed(0)
    n = 24
    x = torch.rand(n, 36, generator=torch.Generator().manual_seed(0))
    y = (x[:, :1] > 0.5).long()
    view = View(CoinFlip().eval(), ((1, 6, 6),), draws=8)
    extra = (
        {"sources": [View(CoinFlip().eval(), ((1, 6, 6),), draws=8)]} if name == "transfer" else {}
    )
    given = {
        k: v
        for k, v in {"steps": 3, "queries": 10, "search": 1, "eot": 2, "restarts": 3}.items()
        if k in complete(name, {})
    }
    ids = [f"s{i}" for i in range(n)]
    threat = Threat(
        only_norm(name), (0.0,), (0,)
    )  # the label is in a pixel: nothing may move, all an attack could do is select
    broken = ATTACKS[name](
        view, x, y, threat, Streams.seeded(0, ids, name), **complete(name, given), **extra
    )
    fresh = View(CoinFlip().eval(), ((1, 6, 6),), draws=200).standing(broken, y, threat).mean()
    assert abs(float(fresh) - 0.7) < 0.03


def test_cw_moves_a_black_background_that_torchattacks_leaves_untouched() -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="needs the extra engines")
    torch.manual_seed(0)

    class Net(nn.Module):
        n_modalities, class_counts, stochastic = 1, (3,), False

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 3)

        def forward(self, image: Tensor) -> tuple[Tensor]:
            return (self.layer(image.flatten(1)),)

    net = Net().eval().requires_grad_(False)
    image = torch.rand(4, 1, 8, 8)
    image[:, :, :4] = 0  # the black half of an MRI
    view = View(net, ((1, 8, 8),))
    x = view.pack([image])
    y = view.logits(x)[0].argmax(1, keepdim=True)

    class OneTensor(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return net(image)[0]

    theirs = torchattacks.CW(OneTensor().eval(), c=100, steps=100, lr=0.1)(image, y[:, 0])
    ours = view.unpack(attack("cw", view, x, y, Threat("L2", (5.0,), (0,)), IDS[:4], steps=50))[0]
    assert (theirs - image)[:, :, 4:].abs().max() > 1e-3
    assert (theirs - image)[:, :, :4].abs().max() < 1e-6
    assert ((ours - image)[:, :, :4] > 1e-3).float().mean() > 0.2


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_minds_samples_that_are_wrong_already_or_have_no_label(name, batch) -> None:
    view, x, y = right_everywhere(batch)
    y = (y + 1) % torch.tensor(TwoHeads.class_counts)
    y[0, 0] = -1
    y[1] = -1
    norm = only_norm(name)
    threat = Threat(norm, (4 if norm == "L0" else 0.05, 0.0), (0, 1))
    broken = attack(name, view, x, y, threat)
    view.check(broken, x, threat)
    assert view.standing(broken, y, threat).max() <= 0.5


@pytest.mark.parametrize(
    "name", [name for name in ATTACKS if not untargeted(name) and name != "transfer"]
)
def test_targeted_attacks_reach_the_class_they_are_given(name) -> None:
    view, x, y = linear(classes=4)
    target, norm = (y + 1) % 4, only_norm(name)
    threat = Threat(norm, RADII[norm], (0,), targeted=True)
    longer = {
        "square": {"queries": 400},
        "sparse-rs": {"queries": 400},
        "cw": {"steps": 60},
        "ddn": {"steps": 40},
        "ead": {"steps": 40, "search": 6},
        "sigma-zero": {"steps": 60},
        "boundary": {"initial": 100},
    }.get(name, {})
    reached = view.logits(attack(name, view, x, target, threat, IDS[:8], **longer))[0].argmax(1)
    assert (reached == target[:, 0]).float().mean() >= (
        0.5 if name in ("fgsm", "square", "sparse-rs") else 0.9
    )


def test_attacks_that_choose_their_own_targets_refuse_a_targeted_threat() -> None:
    view, x, y = linear(classes=4)
    for name in ("apgd-t", "malt", "autoattack"):
        with pytest.raises(ValueError, match="targe"):
            attack(name, view, x, y, Threat("Linf", (0.5, 0.5), (0,), targeted=True), IDS[:8])


def test_autoattack_picks_its_version_by_classes_and_randomness() -> None:
    assert version_for("auto", [2, 3], stochastic=False) == "few-class"
    assert version_for("auto", [2, 7], stochastic=False) == "standard"
    assert version_for("auto", [7], stochastic=True) == "rand"
    assert version_for("standard", [2], stochastic=True) == "standard"


def test_dlr_is_the_papers_where_it_exists_and_the_margin_elsewhere() -> None:
    z = torch.tensor([[5.0, 3.0, 2.0, -1.0]])
    y, other = torch.tensor([0]), torch.tensor([3])
    assert dlr(z, y).item() == pytest.approx(-2 / 3)
    assert dlr_towards(z, y, other).item() == pytest.approx(-6 / (5 - 0.5))
    assert dlr(z[:, :2], y).item() == margin(z[:, :2], y).item() == -2
    assert dlr_towards(z[:, :3], y, torch.tensor([2])).item() == -2


def test_batched_draws_give_the_gradient_of_single_draws(batch) -> None:
    view, x, y = right_everywhere(batch)
    threat = Threat("Linf", (0.1, 0.1), (0, 1))
    one = view.gradient(x, y, threat, eot=5)
    view.batch_draws = 2
    assert torch.allclose(view.gradient(x, y, threat, eot=5).direction, one.direction, atol=1e-6)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_malt_aims_first_at_the_class_whose_boundary_is_nearest(norm) -> None:
    view, x, y = linear(classes=6, n=24)
    threat = Threat(norm, (0.1, 0.3), (0,))
    z, w = view.logits(x)[0], view.victim.w
    gaps = z.gather(1, y) - z
    duals = torch.empty_like(gaps)
    for i in range(len(x)):
        difference = w - w[:, y[i]]
        order = 1 if norm == "Linf" else 2
        first, second = difference[:16].norm(order, dim=0), difference[16:].norm(order, dim=0)
        duals[i] = first / 3 + second  # a ball for each modality, a third and the whole radius
    distances = (gaps / duals).scatter(1, y, torch.inf)
    ranks = nearest(view, x, y, threat, candidates=100, eot=1)
    assert torch.equal(torch.stack(ranks)[:, :, 0].T, distances.argsort(1)[:, :5])
    likeliest = view.runners_up(x, y, threat, 5)
    assert not torch.equal(ranks[0], likeliest[0])
    left = {
        name: view.standing(attack(name, view, x, y, threat, ids(24), targets=1), y, threat).mean()
        for name in ("apgd-t", "malt")
    }
    assert left["malt"] <= left["apgd-t"]
    two = nearest(view, x, y, threat, candidates=2, eot=1)
    assert torch.equal(torch.stack(two).sort(0).values, torch.stack(likeliest[:2]).sort(0).values)


def test_malt_orders_the_classes_of_every_task_by_themselves(batch) -> None:
    view, x, y = right_everywhere(batch)
    threat = Threat("Linf", (0.1, 0.1), (0, 1))
    both = torch.stack(nearest(view, x, y, threat, candidates=100, eot=1))
    assert both.shape == (3, len(x), 2)
    assert (both != y).all()
    assert torch.equal(both[0, :, 0], both[2, :, 0])  # two classes: one other
    alone = nearest(view, x, y, Threat("Linf", (0.1, 0.1), (1,)), candidates=100, eot=1)
    assert torch.equal(both[:, :, 1], torch.stack(alone)[:, :, 1])
    assert (both[:, :, 1].sort(0).values.diff(dim=0) > 0).all()


def ids(n: int) -> list[str]:
    return [f"sample{i}" for i in range(n)]
