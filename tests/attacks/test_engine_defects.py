"""Defects of other libraries, each in its smallest reproduction: where one of these fails, the
library was mended; see docs/engines.md.

Every test shows the library alone going wrong, and what `--engine` or the native attack does about
it.
"""

import importlib.metadata
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustbench_med.attacks import ATTACKS, ENGINES, Streams, Threat, View, complete

torchattacks = pytest.importorskip("torchattacks", reason="needs the extra engines")
pytest.importorskip("art", reason="needs the extra engines")
from art.attacks import evasion  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402

pytestmark = pytest.mark.upstream
SHAPE = (1, 8, 8)
N = 6


class Linear(nn.Module):
    """Four classes of one small image; `shift` is added to all logits, which changes no prediction
    and no softmax.
    """

    n_modalities, class_counts, stochastic = 1, (4,), False

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(64, 4, generator=generator))
        self.shift = shift

    def forward(self, image: Tensor) -> Tensor:
        return (image.to(self.weight).flatten(1) - 0.5) @ self.weight + self.shift


class Coin(nn.Module):
    """Right with probability 0.7 where an image is on its label's side of grey, else 0.3; labels 0
    and 1 of four classes.
    """

    n_modalities, class_counts, stochastic = 1, (4,), True

    def forward(self, image: Tensor) -> Tensor:
        flip = torch.where(torch.rand(len(image)) < 0.7, 1.0, -1.0)
        lead = 8 * flip * (image.flatten(1).mean(1) - 0.5)
        return torch.stack((-lead, lead, 0 * lead - 9, 0 * lead - 9), 1)


class AsVictim(nn.Module):
    """A network of one tensor and one row of logits as the native attacks see a victim."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.n_modalities, self.class_counts, self.stochastic = (
            net.n_modalities,
            net.class_counts,
            net.stochastic,
        )

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.net(image),)


def images(net: nn.Module, n: int = N) -> tuple[Tensor, Tensor]:
    """Images without black or white pixels and what the network says they are."""
    x = 0.2 + 0.6 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, net(x).argmax(1)


def right(net: nn.Module, x: Tensor, y: Tensor, draws: int = 1) -> float:
    """Accuracy over fresh draws."""
    with torch.no_grad():
        return float(
            torch.stack([(net(x).argmax(1) == y).float().mean() for _ in range(draws)]).mean()
        )


def ours(
    name: str,
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    engine: str = "native",
    draws: int = 1,
    **given,
) -> Tensor:
    """Adversarials of an attack of this package, native or through an engine."""
    view = View(AsVictim(net).eval().requires_grad_(False), (tuple(x.shape[1:]),), draws=draws)
    torch.manual_seed(0)
    streams = Streams.seeded(0, [str(i) for i in range(len(x))], name)
    attack = ATTACKS[name] if engine == "native" else ENGINES[engine][name]
    return view.unpack(
        attack(view, view.pack([x]), y[:, None], threat, streams, **complete(name, given, engine))
    )[0]


def art(net: nn.Module, name: str, **options):
    """An attack of ART on a network, as its documentation builds it."""
    victim = PyTorchClassifier(
        model=net,
        loss=nn.CrossEntropyLoss(),
        input_shape=SHAPE,
        nb_classes=4,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    return getattr(evasion, name)(victim, **options)


# --- torchattacks 3.5.1 ---------------------------------------------------------------------------


def test_torchattacks_cw_takes_the_masked_zero_for_a_logit_and_stands_still_where_logits_are_negative() -> (
    None
):
    """Its margin is max(onehot z) - max((1 - onehot) z): both are the 0 of the mask once all logits
    are below it.
    """
    above, below = Linear(shift=20.0).eval(), Linear(shift=-20.0).eval()
    x, y = images(above)
    assert torch.equal(images(below)[1], y)  # the same network, but for a constant
    moved = {net: torchattacks.CW(net, c=10, steps=40, lr=0.05)(x, y) for net in (above, below)}
    assert right(above, moved[above], y) == 0
    assert right(below, moved[below], y) == 1
    assert torch.equal(moved[below], x)
    threat = Threat("L2", (4.0,), (0,))
    assert right(below, ours("cw", below, x, y, threat, steps=30), y) == 0


def test_torchattacks_autoattack_for_random_victims_drops_a_sample_after_one_noisy_wrong_prediction() -> (
    None
):
    """A radius that takes the victim from 0.7 to 0.3: samples wrong by chance come back as they
    were, and count as robust.
    """
    net = Coin().eval()
    n = 300
    y = torch.arange(n) % 2
    x = (
        torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0)) / 5
        + 0.4
        + torch.where(y == 1, 0.03, -0.03)[:, None, None, None]
    )
    torch.manual_seed(0)
    theirs = torchattacks.AutoAttack(net, eps=0.1, version="rand", n_classes=4, seed=0)(x, y)
    untouched = float((theirs == x).flatten(1).all(1).float().mean())
    found = ours("autoattack", net, x, y, Threat("Linf", (0.1,), (0,)), draws=16, steps=10, eot=20)
    assert abs(right(net, x, y, 200) - 0.7) < 0.02
    assert abs(right(net, found, y, 200) - 0.3) < 0.02
    assert untouched > 0.25
    assert right(net, theirs, y, 200) > 0.4


def test_torchattacks_autoattack_counts_a_random_victim_that_nothing_can_move_below_its_accuracy() -> (
    None
):
    """Two attacks, each with one prediction a sample: of 0.7, whatever the attacks do, 0.7 x 0.7
    are left in its count.
    """
    net = Coin().eval()
    n = 300
    y = torch.arange(n) % 2
    x = torch.where(y == 1, 0.9, 0.1)[:, None, None, None].repeat(1, *SHAPE)
    attack = torchattacks.AutoAttack(net, eps=1e-4, version="rand", n_classes=4, seed=0)._autoattack
    attack._accumulate_multi_atk_records, attack._multi_atk_records = True, [0.0] * 3
    torch.manual_seed(0)
    attack(x, y)
    of, _, left = attack._multi_atk_records
    assert abs(left / of - 0.49) < 0.08
    found = ours("autoattack", net, x, y, Threat("Linf", (1e-4,), (0,)), draws=16, steps=3, eot=2)
    assert abs(right(net, found, y, 200) - 0.7) < 0.02


def test_torchattacks_autoattack_takes_ten_steps_where_the_paper_takes_a_hundred() -> None:
    members = torchattacks.AutoAttack(Linear().eval(), n_classes=4, seed=0)._autoattack.attacks
    assert [(type(member).__name__, member.steps) for member in members[:3]] == [
        ("APGD", 10),
        ("APGDT", 10),
        ("FAB", 10),
    ]
    assert complete("autoattack", {})["steps"] == 100


def test_torchattacks_autoattack_answers_by_the_clock_and_the_engine_gives_it_a_seed(
    monkeypatch,
) -> None:
    net = Linear().eval()
    x, y = images(net)
    alone, engine = [], []
    for clock in (1.0, 2.0, 1.0):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        torch.manual_seed(0)
        alone.append(torchattacks.AutoAttack(net, eps=0.1, n_classes=4)(x, y))
        engine.append(
            ours("autoattack", net, x, y, Threat("Linf", (0.1,), (0,)), engine="torchattacks")
        )
    assert not torch.equal(alone[0], alone[1])
    assert torch.equal(alone[0], alone[2])
    assert torch.equal(engine[0], engine[1])


# --- ART 1.20 -------------------------------------------------------------------------------------


def test_art_draws_its_random_start_from_numpys_global_generator_alone_and_the_engine_seeds_and_restores_it() -> (
    None
):
    net = Linear().eval().requires_grad_(False)
    x, y = images(net)
    options = {"eps": 0.1, "eps_step": 0.001, "max_iter": 2, "num_random_init": 1, "verbose": False}
    first, second = (
        art(net, "ProjectedGradientDescentPyTorch", **options).generate(x.numpy(), y=y.numpy())
        for _ in range(2)
    )
    assert np.abs(first - second).max() > 0.01
    before = np.random.get_state()[1].copy()
    threat = Threat("Linf", (0.1,), (0,))
    first, second = (
        ours("pgd", net, x, y, threat, engine="art", steps=2, step_size=0.01) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert np.array_equal(np.random.get_state()[1], before)


def test_art_hopskipjump_starts_from_an_image_that_no_seed_reaches() -> None:
    """It draws from a `RandomState()` of its own; the native attack draws the image and hands it
    over.
    """
    net = Linear().eval().requires_grad_(False)
    x, y = images(net, 3)
    found = []
    for _ in range(2):
        np.random.seed(0)
        torch.manual_seed(0)
        attack = art(net, "HopSkipJump", max_iter=2, max_eval=50, init_eval=10, verbose=False)
        found.append(attack.generate(x.numpy(), y=y.numpy()))
    assert np.abs(found[0] - found[1]).max() > 0.01
    threat = Threat("L2", (9.0,), (0,))
    first, second = (
        ours("hopskipjump", net, x, y, threat, steps=2, evaluations=50, initial=10)
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_art_hopskipjump_hands_a_network_of_float32_images_in_float64() -> None:
    class Strict(Linear):
        def forward(self, image: Tensor) -> Tensor:
            return (image.flatten(1) - 0.5) @ self.weight

    net = Strict().eval().requires_grad_(False)
    x, y = images(net, 2)
    with pytest.raises(RuntimeError, match="dtype"):
        art(net, "HopSkipJump", max_iter=1, max_eval=20, init_eval=10, verbose=False).generate(
            x.numpy(), y=y.numpy()
        )
    found = ours(
        "hopskipjump",
        net,
        x,
        y,
        Threat("L2", (9.0,), (0,)),
        engine="art",
        steps=1,
        evaluations=20,
        initial=10,
    )
    assert right(net, found, y) == 0


def test_art_goes_backward_through_the_weights_too_unless_they_are_frozen() -> None:
    net = Linear().eval()
    x, y = images(net)
    art(net, "FastGradientMethod", eps=0.1).generate(x.numpy(), y=y.numpy())
    assert net.weight.grad is not None
    assert net.weight.grad.abs().sum() > 0
    net.weight.grad = None
    ours("fgsm", net, x, y, Threat("Linf", (0.1,), (0,)), engine="art")  # victims are frozen
    assert net.weight.grad is None


@pytest.mark.parametrize(
    ("name", "options", "every_step"),
    [
        (
            "AutoProjectedGradientDescent",
            {"eps": 1e-3, "eps_step": 1e-4, "nb_random_init": 1, "loss_type": "cross_entropy"},
            True,
        ),
        ("CarliniL2Method", {"binary_search_steps": 1}, True),
        ("SquareAttack", {"eps": 1e-3, "nb_restarts": 1}, True),
        (
            "ProjectedGradientDescentPyTorch",
            {"eps": 1e-3, "eps_step": 1e-4},
            False,
        ),  # the exception: once a batch
    ],
)
def test_art_leaves_torch_for_numpy_at_every_step(name, options, every_step, monkeypatch) -> None:
    net = Linear().eval().requires_grad_(False)
    x, y = images(net)
    trips = 0
    to_numpy = Tensor.numpy

    def counted(tensor: Tensor, *rest, **more) -> np.ndarray:
        nonlocal trips
        trips += 1
        return to_numpy(tensor, *rest, **more)

    monkeypatch.setattr(Tensor, "numpy", counted)
    found = []
    for steps in (5, 25):
        trips = 0
        np.random.seed(0)
        art(net, name, max_iter=steps, batch_size=N, verbose=False, **options).generate(
            x.numpy(), y=y.numpy()
        )
        found.append(trips)
    assert found[1] - found[0] >= 20 if every_step else found[1] == found[0]


def test_art_autoattack_is_not_the_papers() -> None:
    """DeepFool for FAB, the untargeted DLR for the targeted one."""
    net = Linear().eval().requires_grad_(False)
    members = art(net, "AutoAttack", eps=0.1, eps_step=0.01).attacks
    assert [type(member).__name__ for member in members] == [
        *["AutoProjectedGradientDescent"] * 2,
        "DeepFool",
        "SquareAttack",
    ]
    assert not any(member.targeted for member in members)


def test_art_autoattack_needs_a_package_that_art_does_not_require(monkeypatch) -> None:
    declared = importlib.metadata.requires("adversarial-robustness-toolbox") or []
    assert all("extra ==" in line for line in declared if line.startswith("multiprocess"))
    net = Linear().eval().requires_grad_(False)
    x, y = images(net, 2)
    monkeypatch.setitem(sys.modules, "multiprocess", None)
    with pytest.raises(ImportError, match="multiprocess"):
        art(net, "AutoAttack", eps=0.1, eps_step=0.01).generate(x.numpy(), y=y.numpy())


# --- Foolbox 3.3.4 --------------------------------------------------------------------------------


def foolbox_run(net: nn.Module, attack: str, x: Tensor, y: Tensor, **options) -> Tensor:
    """An attack of Foolbox on a network, as its documentation runs it."""
    foolbox = pytest.importorskip("foolbox", reason="needs the extra engines")
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return getattr(foolbox.attacks, attack)(**options).run(
        model, x, foolbox.criteria.Misclassification(y)
    )


def test_foolbox_fmn_in_l2_never_projects() -> None:
    """Its factor is a norm over itself: what it finds is as far as its first steps lead, of length
    1 each.
    """
    net = Linear().eval()
    x, y = images(net)
    theirs = foolbox_run(net, "L2FMNAttack", x, y, steps=60)
    found = ours("fmn", net, x, y, Threat("L2", (8.0,), (0,)), steps=60)
    assert right(net, theirs, y) == right(net, found, y) == 0
    far, near = ((each - x).flatten(1).norm(dim=1) for each in (theirs, found))
    assert (far > 1.3 * near).all()


def test_foolbox_cw_hands_back_a_black_image_where_it_finds_nothing() -> None:
    net = Linear().eval()
    x, y = images(net)
    theirs = foolbox_run(net, "L2CarliniWagnerAttack", x, y, steps=1, binary_search_steps=1)
    assert not theirs.any()
    threat = Threat("L2", (8.0,), (0,))
    through = ours("cw", net, x, y, threat, engine="foolbox", steps=1, search=1)
    assert torch.equal(through, x)
