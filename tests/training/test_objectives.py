"""Adversarial objectives: their formulas, their threat, and that they buy robustness; trainings by
them resume and pick by it.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.victims import TwoHeads
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robustbench_med.attacks import Streams, Threat, View
from robustbench_med.attacks.pgd import pgd
from robustbench_med.data import Dataset
from robustbench_med.runs import commands
from robustbench_med.training import checkpoints, defenses, effort, loop, presets
from robustbench_med.training.objectives import (
    AWP,
    PGDAT,
    FastAT,
    FreeAT,
    Mart,
    Standard,
    Trades,
    multitask_loss,
    statistics_held,
)

pytestmark = pytest.mark.fresh

CPU = torch.device("cpu")
RADII = (0.05, 0.1)


def spec_of(dataset: Dataset, text: str, model: str = "early", **recipe):
    given = {"steps": 6, "eval_every": 2, "batch_size": 8} | recipe
    plan = defenses.plan(
        model,
        text,
        {"steps": 2} if text not in ("fast-at", "free-at", "smoothing", "rpf") else {},
        {},
    )
    params = {"width": 4} if model == "early" else {}
    return presets.make_spec(
        plan.model, dataset, "quick", params=params, recipe=given, seed=0, layers=plan.training
    )


def train(spec, dataset: Dataset, tick=lambda *_: None):
    return loop.train(spec, dataset, CPU, tick=tick, say=lambda _: None, command="medrobust train")


@pytest.mark.parametrize("objective", [PGDAT, Trades, Mart, FastAT])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_perturbed_images_stay_in_the_ball_and_raise_the_loss(
    objective, norm, victim, batch
) -> None:
    x, y = batch
    radii = RADII if norm == "Linf" else (0.5, 1.0)
    adversary = objective(TwoHeads.shapes, radii, norm=norm)
    perturbed = adversary.perturb(victim, x, y, 0)
    view = View(victim, TwoHeads.shapes)
    view.check(view.pack(perturbed), view.pack(x), Threat(norm, radii, (0, 1)))
    distance = view.distances(view.pack(perturbed), view.pack(x), norm).mean(0)
    assert (distance > 0.5 * torch.tensor(radii)).all()
    assert multitask_loss(victim(*perturbed), y) > multitask_loss(victim(*x), y)


def test_a_random_threat_attacks_every_choice_of_modalities_and_never_none() -> None:
    adversary = PGDAT(TwoHeads.shapes, RADII, attacked="random")
    found = [tuple(r > 0 for r in adversary.threat(step, 2).radii) for step in range(90)]
    assert set(found) == {(True, True), (True, False), (False, True)}
    assert all(found.count(choice) > 15 for choice in set(found))


def test_trades_and_mart_are_the_papers_formulas(victim, batch) -> None:
    x, y = batch
    moved = [(m + 0.05).clamp(0, 1) for m in x]
    clean, adversarial = victim(*x), victim(*moved)
    trades, mart = [], []
    for t in range(2):
        p, q = clean[t].softmax(1), adversarial[t].softmax(1)
        own = torch.arange(16), y[:, t]
        divergence = (p * (p / q).log()).sum(1)
        trades.append(F.cross_entropy(clean[t], y[:, t]) + 6 * divergence.mean())
        others = q.clone()
        others[own] = 0
        boosted = -q[own].log() - (1 - others.max(1).values).log()
        mart.append((boosted + 5 * divergence * (1 - p[own])).mean())
    for kind, expected in ((Trades, trades), (Mart, mart)):
        value = kind(TwoHeads.shapes, RADII).loss(victim, x, moved, y)
        assert value.item() == pytest.approx(sum(expected).item() / 2, rel=1e-4)


class Alone(nn.Module):
    """One task of a victim of several."""

    n_modalities, stochastic = 2, False

    def __init__(self, victim: nn.Module, task: int) -> None:
        super().__init__()
        self.victim, self.task, self.class_counts = (
            victim,
            task,
            victim.class_counts[task : task + 1],
        )

    def forward(self, a, b):
        return (self.victim(a, b)[self.task],)


@pytest.mark.parametrize("labelled", [0, 5])  # samples with a label for task 1
@pytest.mark.parametrize("kind", [PGDAT, FastAT, FreeAT, Trades, Mart])
def test_unlabelled_tasks_do_not_count(kind, labelled: int, victim, batch) -> None:
    """The loss is the mean over tasks of that on each task's labelled samples alone; the divergence
    of TRADES needs no labels.
    """
    x, y = batch
    moved = [(m + 0.05).clamp(0, 1) for m in x]
    y[labelled:, 1] = -1
    objective = kind(TwoHeads.shapes, RADII)
    first = objective.loss(Alone(victim, 0), x, moved, y[:, :1])
    rows = slice(labelled)
    if kind is Trades:
        objective.beta = 0.0
        second = (
            objective.loss(
                Alone(victim, 1), [m[rows] for m in x], [m[rows] for m in moved], y[rows, 1:]
            )
            if labelled
            else 0.0
        )
        p, q = victim(*x)[1].softmax(1), victim(*moved)[1].softmax(1)
        second += 6 * (p * (p / q).log()).sum(1).mean()
        objective.beta = 6.0
    else:
        second = (
            objective.loss(
                Alone(victim, 1), [m[rows] for m in x], [m[rows] for m in moved], y[rows, 1:]
            )
            if labelled
            else 0.0
        )
    assert objective.loss(victim, x, moved, y).item() == pytest.approx(
        float(first + second) / 2, rel=1e-4
    )


def test_no_perturbation_is_sought_against_an_unlabelled_task(victim, batch) -> None:
    x, y = batch
    y[:, 1] = -1
    alone = PGDAT(TwoHeads.shapes, RADII).perturb(Alone(victim, 0), x, y[:, :1], 0)
    for found, expected in zip(
        PGDAT(TwoHeads.shapes, RADII).perturb(victim, x, y, 0), alone, strict=True
    ):
        assert torch.allclose(found, expected, atol=1e-6)


class Linear(nn.Module):
    """Two modalities of 1 x 1 x 9 pixels, one task; linear, so that the worst perturbation is
    known.
    """

    n_modalities, class_counts, stochastic = 2, (2,), False
    shapes = ((1, 1, 9), (1, 1, 9))

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(18, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, a, b):
        return (self.head(torch.cat((a.flatten(1), b.flatten(1)), 1) - 0.5),)


def toy(n: int, seed: int):
    """One strong feature that is right 9 times in 10, and 17 weak ones that together are better but
    smaller than the radius.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    sign = 2 * y - 1
    strong = np.where(rng.random(n) < 0.9, sign, -sign) * 0.4
    weak = sign[:, None] * 0.03 + 0.03 * rng.standard_normal((n, 17))
    pixels = torch.from_numpy(
        np.clip(0.5 + np.concatenate((strong[:, None], weak), 1), 0, 1)
    ).float()
    return [pixels[:, :9].reshape(n, 1, 1, 9), pixels[:, 9:].reshape(n, 1, 1, 9)], torch.from_numpy(
        y
    )[:, None]


OBJECTIVES = {
    "pgd-at": lambda: PGDAT(Linear.shapes, (0.1, 0.1), steps=3, step_size=0.5),
    "trades": lambda: Trades(Linear.shapes, (0.1, 0.1), steps=3, step_size=0.5),
    "mart": lambda: Mart(Linear.shapes, (0.1, 0.1), steps=3, step_size=0.5),
    "fast-at": lambda: FastAT(Linear.shapes, (0.1, 0.1)),
    "free-at": lambda: FreeAT(Linear.shapes, (0.1, 0.1)),
    "awp": lambda: AWP(PGDAT(Linear.shapes, (0.1, 0.1), steps=3, step_size=0.5)),
}


def robust_accuracy(objective) -> tuple[float, float]:
    """Clean and robust test accuracy of the linear victim after 250 steps."""
    victim = Linear()
    optimizer = torch.optim.Adam(victim.parameters(), lr=0.05)
    for step in range(250):
        x, y = toy(64, objective.replay(step))
        optimizer.zero_grad()
        objective.backward(victim, x, y, step)
        optimizer.step()
    x, y = toy(1000, 10**6)
    view = View(victim, Linear.shapes)
    flat, threat = view.pack(x), Threat("Linf", (0.1, 0.1), (0,))
    streams = Streams.seeded(0, [str(i) for i in range(1000)], "test")
    adversarial = pgd(view, flat, y, threat, streams, steps=10, step_size=0.5)
    return tuple(float(view.standing(z, y, threat).mean()) for z in (flat, adversarial))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_adversarial_training_buys_robustness_for_clean_accuracy(name: str) -> None:
    """Features may be predictive and not robust (Tsipras et al., arXiv 1805.12152): only an
    adversarial objective drops those.
    """
    clean, robust = robust_accuracy(Standard())
    assert clean > 0.97
    assert robust < 0.5
    clean, robust = robust_accuracy(OBJECTIVES[name]())
    assert robust > 0.75
    assert clean == pytest.approx(0.9, abs=0.05)


def test_weights_perturbed_by_awp_come_back_and_the_gradient_is_that_of_the_perturbed_ones() -> (
    None
):
    torch.manual_seed(0)
    victim = Linear()
    nn.init.normal_(victim.head.weight)
    x, y = toy(32, 0)
    base = PGDAT(Linear.shapes, (0.1, 0.1), steps=1)
    before = victim.head.weight.detach().clone()
    AWP(base, gamma=0.1).backward(victim, x, y, 0)
    assert torch.equal(victim.head.weight, before)
    found = victim.head.weight.grad.clone()

    perturbed = base.perturb(victim, x, y, 0)
    (g,) = torch.autograd.grad(base.loss(victim, x, perturbed, y), victim.head.weight)
    victim.head.weight.data = before + 0.1 * before.norm() * g / g.norm()
    (expected,) = torch.autograd.grad(base.loss(victim, x, perturbed, y), victim.head.weight)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_costs_the_passes_that_its_objective_says(name: str) -> None:
    shapes, network = (
        [(1, 32, 32), (1, 32, 32)],
        presets.untrained("late", "quick", (1, 1), (4, 3), 32, {"width": 8}).train(),
    )
    x, y = [torch.rand(4, *shape) for shape in shapes], torch.zeros(4, 2, dtype=torch.int64)
    objective = OBJECTIVES[name]()
    getattr(objective, "base", objective).shapes = shapes
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(*x)
    with FlopCounterMode(display=False) as step:
        objective.backward(network, x, y, 0)
    passes = objective.passes
    counted = step.get_total_flops() / forward.get_total_flops()
    assert counted == pytest.approx(passes.forward + passes.inner + 2 * passes.backward, rel=0.02)


def test_running_statistics_do_not_learn_from_adversarial_iterates() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with statistics_held(net):
        net(5 + torch.randn(4, 1, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    net(5 + torch.randn(4, 1, 8, 8))
    assert not torch.equal(net[1].running_mean, before["1.running_mean"])


class KilledError(Exception):
    pass


@pytest.mark.parametrize("text", ["free-at", "trades+awp"])
def test_a_killed_adversarial_training_goes_on_to_the_same_weights(
    pair, text, monkeypatch, tmp_path
) -> None:
    spec = spec_of(pair, text)
    whole = train(spec, pair)

    def kill(done: int, total: int, note: str) -> None:
        if done == 5:
            raise KilledError

    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "another"))
    with pytest.raises(KilledError):
        train(spec, pair, kill)
    assert train(spec, pair).sha256 == whole.sha256
    assert text in whole.path.name


def test_robust_validation_picks_the_checkpoint(pair) -> None:
    checkpoint = train(spec_of(pair, "pgd-at", steps=12, lr=0.02), pair)
    history = checkpoint.sidecar["history"]
    best = max(history, key=lambda h: (h["robust_val_accuracy"], -h["robust_val_loss"]))
    assert checkpoint.sidecar["best_step"] == best["step"]
    assert len({h["robust_val_loss"] for h in history}) == len(history) == 6
    cost = effort.cost_of(spec_of(pair, "pgd-at", steps=12, lr=0.02), checkpoint)
    assert (
        cost["steps"],
        cost["batch_size"],
        cost["forward"],
        cost["inner"],
        cost["backward"],
    ) == (12, 8, 3, 2, 1)
    assert cost["seconds"] > 0


def test_a_defended_spec_has_its_own_hash_and_command_and_an_undefended_one_the_old(pair) -> None:
    plain, defended = spec_of(pair, "none"), spec_of(pair, "trades")
    assert "defense" not in plain.model_dump(mode="json")
    assert checkpoints.name_of(plain) != checkpoints.name_of(defended)
    command = commands.training_command(defended, pair)
    assert "--defense trades " in command
    assert "--defense-param steps=2 " in command
    assert "--defense-param" not in commands.training_command(plain, pair)
    assert type(defended).model_validate(defended.model_dump(mode="json")) == defended
