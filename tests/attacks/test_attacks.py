"""Attacks: agreement with another implementation, invariances, bounds, and that they attack."""

import sys

import pytest
import torch
from support.attacking import IDS, PAIRS, attack
from support.victims import TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import (
    ATTACKS,
    Threat,
    View,
    complete,
    describe,
    parameters,
    ran,
)
from robustbench_med.attacks.autoattack import MEMBERS
from robustbench_med.attacks.losses import ce, margin, pma
from robustbench_med.attacks.losses import dlr as dlr_loss
from robustbench_med.models.mail import MAIL

RADII = {"L1": 10.0, "L0": 20}
"""By norm, what a radius of 1 stands for: of L0 whole numbers of pixels."""
LINF = [name for name, norm in PAIRS if norm == "Linf"]
WHITE_BOX = [name for name in LINF if name not in ("noise", "transfer", "square", "hopskipjump")]
RELEASE = {"steps": 10, "step_size": 0.25, "random_start": False, "keep": "last"}


@pytest.mark.parametrize("radii", [(0.1, 0.2), (0.0, 0.2), (0.0, 0.0)])
@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_every_attack_stays_in_its_ball_whatever_the_batch(name, norm, radii, batch) -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0]), batch[1]
    for rows, tasks in ((slice(0, 16), (0, 1)), (slice(3, 4), (0, 1)), (slice(5, 9), (1,))):
        threat = Threat(norm, tuple(RADII.get(norm, 1) * r for r in radii), tasks)
        view.check(attack(name, view, x[rows], y[rows], threat, IDS[rows]), x[rows], threat)


@pytest.mark.parametrize("name", WHITE_BOX)
def test_a_gradient_attack_beats_noise_and_more_radius_beats_less(name, batch) -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x = view.pack(batch[0])
    y = torch.stack([z.argmax(1) for z in view.logits(x)], 1)  # the victim is right everywhere
    right = {}
    for eps in (0.02, 0.1, 1.0):
        threat = Threat("Linf", (eps, eps), (0, 1))
        right[eps] = view.standing(
            attack(name, view, x, y, threat), y, Threat("Linf", (eps, eps), (0, 1))
        ).mean()
    noise = view.standing(
        attack("noise", view, x, y, Threat("Linf", (0.1, 0.1), (0, 1))),
        y,
        Threat("Linf", (eps, eps), (0, 1)),
    ).mean()
    assert right[0.1] < noise - 0.2
    assert right[1.0] <= right[0.1] <= right[0.02]


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_adversarials_do_not_depend_on_the_batch_size(name, norm, batch) -> None:
    # float64: in float32 the kernels round differently by batch size
    view = View(TwoHeads().double().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0]).double(), batch[1]
    threat = Threat(norm, tuple(RADII.get(norm, 1) * r for r in (0.1, 0.2)), (0, 1))
    whole = attack(name, view, x, y, threat)
    parts = [slice(0, 1), slice(1, 2), slice(2, 9), slice(9, 16)]
    parted = torch.cat([attack(name, view, x[s], y[s], threat, IDS[s]) for s in parts])
    assert torch.allclose(whole, parted, atol=1e-9)


@pytest.mark.parametrize("modalities", [1, 2])
def test_the_release_protocol_gives_the_adversarials_of_torchattacks(modalities) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="needs the extra engines")
    torch.manual_seed(0)
    victim = MAIL((3,) * modalities, (4,), width=16, mc_dropout=False).eval().requires_grad_(False)
    shapes = [(3, 32, 32)] * modalities
    view, x = View(victim, shapes), torch.rand(6, modalities * 3072).round(decimals=1)
    y = torch.randint(4, (6, 1))

    class OneTensor(nn.Module):
        """All modalities side by side in one image, as the engine wants its input."""

        def forward(self, image: Tensor) -> Tensor:
            return victim(*image.split(3, 1))[0]

    theirs = torchattacks.PGD(
        OneTensor().eval(), eps=4 / 255, alpha=1 / 255, steps=10, random_start=False
    )
    image = torch.cat(view.unpack(x), 1)
    expected = view.pack(theirs(image, y[:, 0]).split(3, 1))
    ours = attack(
        "pgd", view, x, y, Threat("Linf", (4 / 255,) * modalities, (0,)), IDS[:6], **RELEASE
    )
    assert (ours - x).abs().max() > 3 / 255
    assert (ours - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("name", [*WHITE_BOX, "square", "transfer", "hopskipjump"])
def test_pixels_that_are_exactly_black_or_white_can_move(name, batch) -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0]), batch[1]
    given = {"keep": "last"} if "keep" in parameters(name) else {}
    delta = attack(name, view, x, y, Threat("Linf", (0.1, 0.1), (0, 1)), **given) - x
    for value in (0, 1):
        at_the_edge = x == value
        assert (
            delta[at_the_edge] != 0
        ).float().mean() > 0.2  # about half want to leave the box, and cannot


def test_restarts_keep_the_better_candidate_of_every_sample(batch) -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0]), batch[1]
    threat = Threat("Linf", (0.05, 0.05), (0, 1))
    one = view.standing(attack("pgd", view, x, y, threat, steps=2), y, threat)
    many = view.standing(attack("pgd", view, x, y, threat, steps=2, restarts=6), y, threat)
    assert (many <= one).all()
    assert (many < one).any()


def test_a_gradient_that_is_not_finite_is_counted_and_does_not_spread(batch) -> None:
    class Broken(TwoHeads):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            zero = a[:, :, 0, 0].sum(1, keepdim=True) * 0
            return tuple(
                z + torch.sqrt(zero) for z in super().forward(a, b)
            )  # sqrt has an infinite slope at 0

    view = View(Broken().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0]), batch[1]
    adversarial = attack("pgd", view, x, y, Threat("Linf", (0.1, 0.1), (0, 1)))
    assert adversarial.isfinite().all()
    assert view.nonfinite_gradients > 0


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_margin_is_positive_exactly_when_the_prediction_is_wrong(classes) -> None:
    logits = torch.randn(200, classes, generator=torch.Generator().manual_seed(0)) - 5
    y = torch.randint(classes, (200,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(margin(logits, y) > 0, logits.argmax(1) != y)
    permutation = torch.randperm(classes)
    assert torch.allclose(
        margin(logits[:, permutation], permutation.argsort()[y]), margin(logits, y)
    )
    assert torch.allclose(ce(logits, y), -logits.log_softmax(1)[range(200), y])


def test_pma_is_the_margin_of_the_probabilities(batch) -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    y, p = torch.tensor([0, 0]), logits.softmax(1)
    assert torch.allclose(pma(logits, y), torch.stack((p[0, 1] - p[0, 0], p[1, 1] - p[1, 0])))
    assert torch.allclose(pma(logits + 7, y), pma(logits, y))
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x = view.pack(batch[0])
    y = torch.stack([z.argmax(1) for z in view.logits(x)], 1)
    threat = Threat("Linf", (0.05, 0.05), (0, 1))
    left = {
        (name, loss): view.standing(attack(name, view, x, y, threat, loss=loss), y, threat).mean()
        for name in ("pgd", "apgd")
        for loss in ("pma", "margin")
    }
    for name in ("pgd", "apgd"):
        assert left[name, "pma"] < 0.5
        assert left[name, "pma"] <= left[name, "margin"] + 2 / 32


def test_unknown_and_mistyped_parameters_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="it has: steps, step_size"):
        complete("pgd", {"step": 3})
    for wrong in (
        {"steps": 2.5},
        {"steps": 0},
        {"loss": "hinge"},
        {"random_start": 1},
        {"keep": "first"},
    ):
        with pytest.raises(ValueError, match="pgd"):
            complete("pgd", wrong)
    assert complete("pgd", {"step_size": 1})["step_size"] == 1.0
    assert [complete("pgd", {"steps": n})["step_size"] for n in (10, 20, 50)] == [0.25, 0.125, 0.05]
    assert complete("transfer", {"steps": 10}) == complete(
        "transfer", {"steps": 10, "step_size": 0.25}
    )
    assert complete("pgd", {"steps": 100, "step_size": 0.1})["step_size"] == 0.1


DEFAULTS = {
    "noise": ("", {}),
    "fgsm": ("arXiv 1412.6572", {"loss": "ce", "eot": 1}),
    "bim": (
        "arXiv 1607.02533",
        {"steps": 20, "step_size": 0.125, "loss": "ce", "eot": 1, "keep": "best"},
    ),
    "pgd": (
        "arXiv 1706.06083",
        {
            "steps": 20,
            "step_size": 0.125,
            "random_start": True,
            "restarts": 1,
            "loss": "ce",
            "eot": 1,
            "combine": "mean",
            "momentum": 0.0,
            "schedule": "constant",
            "soft": False,
            "keep": "best",
        },
    ),
    "mim": (
        "arXiv 1710.06081",
        {
            "steps": 20,
            "step_size": 0.125,
            "decay": 1.0,
            "loss": "ce",
            "eot": 1,
            "combine": "mean",
            "keep": "best",
        },
    ),
    "apgd": (
        "arXiv 2003.01690",
        {
            "steps": 100,
            "restarts": 1,
            "loss": "ce",
            "rho": 0.75,
            "eot": 1,
            "combine": "mean",
        },
    ),
    "apgd-t": (
        "arXiv 2003.01690",
        {"steps": 100, "targets": 9, "rho": 0.75, "eot": 1, "combine": "mean"},
    ),
    "malt": (
        "arXiv 2407.02240",
        {
            "steps": 100,
            "targets": 9,
            "candidates": 100,
            "rho": 0.75,
            "eot": 1,
            "combine": "mean",
        },
    ),
    "cw": ("arXiv 1608.04644", {"steps": 100, "search": 6, "lr": 0.01, "c": 1.0, "eot": 1}),
    "ddn": (
        "arXiv 1811.09600",
        {"steps": 100, "alpha": 1.0, "gamma": 0.05, "first": 1.0, "eot": 1},
    ),
    "fmn": ("arXiv 2102.12827", {"steps": 100, "alpha": 1.0, "gamma": 0.05, "eot": 1}),
    "ead": (
        "arXiv 1709.04114",
        {"steps": 100, "search": 9, "lr": 0.01, "c": 0.001, "beta": 0.01, "eot": 1},
    ),
    "sigma-zero": (
        "arXiv 2402.01879",
        {"steps": 100, "lr": 1.0, "sigma": 0.001, "tau": 0.3, "eot": 1},
    ),
    "fab": ("arXiv 1907.02044", {"steps": 100, "targets": 9, "eot": 1}),
    "square": ("arXiv 1912.00049", {"queries": 1000, "p": 0.8, "loss": "margin", "eot": 1}),
    "sparse-rs": ("arXiv 2006.12834", {"queries": 1000, "alpha": 0.3, "loss": "margin", "eot": 1}),
    "autoattack": (
        "arXiv 2003.01690",
        {"version": "auto", "steps": 100, "targets": 9, "queries": 5000, "eot": 1},
    ),
    "adaptive": ("arXiv 2002.08347", {}),
    "transfer": (
        "arXiv 1605.07277",
        {"steps": 40, "step_size": 0.0625, "loss": "margin", "eot": 1},
    ),
    "hopskipjump": (
        "arXiv 1904.02144",
        {"steps": 20, "evaluations": 1000, "initial": 100, "eot": 1},
    ),
    "boundary": (
        "arXiv 1712.04248",
        {"steps": 2500, "initial": 100, "sphere_step": 0.1, "inward_step": 0.1, "eot": 1},
    ),
}
"""Of every attack its paper on arXiv and its defaults: another default is another attack under the
same command line.
"""


def test_every_attack_names_its_paper_and_its_defaults() -> None:
    told = {row["name"]: row for row in describe()}
    assert list(told) == list(DEFAULTS) == list(ATTACKS)
    for name, (paper, defaults) in DEFAULTS.items():
        assert told[name]["parameters"] == defaults, name
        assert paper in told[name]["summary"], name
        assert bool(paper) == ("arXiv" in told[name]["summary"]), name


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("standard", "apgd apgd-t fab square"),
        ("few-class", "apgd apgd fab square"),
        ("rand", "apgd apgd"),
    ],
)
def test_the_record_of_autoattack_tells_the_members_that_really_ran_and_their_losses(
    version, names, batch, monkeypatch
) -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0]), batch[1]
    called: list[tuple[str, str | None]] = []

    def spy(name: str):
        def member(view, x, y, threat, streams, *, loss=None, **rest) -> Tensor:
            called.append((name, loss))
            return x  # moves nothing: every member gets its turn

        return member

    for name in MEMBERS:
        monkeypatch.setitem(MEMBERS, name, spy(name))
    attack("autoattack", view, x, y, Threat("Linf", (0.1, 0.1), (0, 1)), version=version)
    told = ran(
        "autoattack",
        complete("autoattack", {"version": version}),
        {"breast": 2, "skin": 4},
        "Linf",
        stochastic=False,
    )
    assert told["version"] == version
    assert (
        [member["attack"] for member in told["members"]]
        == [name for name, _ in called]
        == names.split()
    )
    for member, (name, loss) in zip(told["members"], called, strict=True):
        if name in ("apgd-t", "fab"):
            assert member.get("losses") == (
                None if name == "fab" else {"breast": "margin", "skin": "dlr-targeted"}
            )
        else:
            loss = loss or parameters(name)["loss"]
            assert member["losses"] == {"breast": "margin" if loss == "dlr" else loss, "skin": loss}


def test_the_record_tells_the_loss_that_a_task_got_and_what_auto_stands_for() -> None:
    classes = {"breast": 2, "lung": 3, "skin": 4}
    dlr = ran("apgd", complete("apgd", {"loss": "dlr"}), classes, "Linf", stochastic=False)
    assert dlr == {"losses": {"breast": "margin", "lung": "dlr", "skin": "dlr"}}
    assert (
        ran("apgd-t", complete("apgd-t", {}), classes, "Linf", stochastic=False)["losses"]["lung"]
        == "margin"
    )
    assert ran("fab", complete("fab", {}), classes, "Linf", stochastic=False) == {}
    auto = complete("autoattack", {})
    assert ran("autoattack", auto, classes, "Linf", stochastic=True)["version"] == "rand"
    assert (
        ran("autoattack", auto, {"breast": 2}, "Linf", stochastic=False)["version"] == "few-class"
    )
    logits, y = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 2
    assert torch.equal(dlr_loss(logits, y), margin(logits, y))  # what "margin" above says


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_square_asks_ahead_and_finds_what_one_query_after_another_finds(
    norm, batch, monkeypatch
) -> None:
    view = View(TwoHeads().double().eval(), TwoHeads.shapes)
    x, y = view.pack(batch[0])[:3].double(), batch[1][:3]
    threat = Threat(norm, (0.02, 0.02) if norm == "Linf" else (0.3, 0.3), (0, 1))
    found = {}
    for ahead in (1, 16):
        monkeypatch.setattr(sys.modules["robustbench_med.attacks.random_search"], "AHEAD", ahead)
        view.passes.forward = 0
        found[ahead] = (
            attack("square", view, x, y, threat, IDS[:3], queries=120),
            view.passes.forward,
        )
    assert torch.allclose(found[1][0], found[16][0], atol=1e-12)
    assert (found[1][0] != x).any()
    assert found[1][1] < found[16][1] < 16 * found[1][1]  # what is thrown away is counted
