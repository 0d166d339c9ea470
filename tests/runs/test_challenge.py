"""Challengers: what lies is broken by them, what is honest is not, and luck is no success."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.evaluations import CPU, evaluate, samples_of, setting, two_head_samples
from support.victims import CoinFlip, TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import Threat, complete
from robustbench_med.data import Samples
from robustbench_med.evaluation.types import Challenge, Method, Outcome
from robustbench_med.progress import Display
from robustbench_med.runs.challenge import LEAST, SAMPLES, SHARE, challenge
from robustbench_med.runs.challengers import FRESH
from robustbench_med.runs.job import Job
from robustbench_med.runs.rivals import Rival
from robustbench_med.runs.run import run
from robustbench_med.runs.spec import RunSpec
from robustbench_med.statistics import tolerance_of
from robustbench_med.store.record import Record
from robustbench_med.training.surrogate import imitate

pytestmark = pytest.mark.challenged

THREAT = Threat("Linf", (0.1, 0.1), (0, 1))


class Lying(TwoHeads):
    """Its gradient has the wrong sign."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * z.detach() - z for z in super().forward(a, b))


class Noisy(TwoHeads):
    """Noise on the logits."""

    stochastic = True

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(z + 0.5 * torch.randn_like(z) for z in super().forward(a, b))


class NoisyLying(Noisy):
    """Both."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * z.detach() - z for z in super().forward(a, b))


class Scrambled(CoinFlip):
    """Right with probability 0.7, by other draws on other images: luck for whoever looks again."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        drawn = (torch.rand(len(x)) + 1e4 * x[:, 0, 1:].mean((1, 2)).detach()) % 1
        sign = 2 * ((x[:, 0, 0, 0] > 0.5) == (drawn < 0.7)).float() - 1
        z = sign * (1 + 0 * x.mean((1, 2, 3)))
        return (torch.stack((-z, z), 1),)


def challenged(
    victim: nn.Module,
    samples: Samples | None = None,
    threat: Threat = THREAT,
    attack: str = "pgd",
    seed: int = 0,
    sibling: nn.Module | None = None,
    **given: object,
) -> tuple[list[Challenge], Outcome, int]:
    """Challenges of an attack on a victim, and the passes that measured them on fresh draws."""
    samples = two_head_samples() if samples is None else samples
    how = setting()
    clean, outcome = evaluate(victim.eval(), samples, threat, attack, how, **given)
    cell = SimpleNamespace(
        samples=samples,
        threat=threat,
        method=Method(attack, complete(attack, given)),
        victim=SimpleNamespace(module=victim),
        dataset=SimpleNamespace(tasks=("first", "second"), modalities=("a", "b")),
    )
    other = sibling or TwoHeads(seed=1)
    rival = Rival("transfer from a sibling", 0, True, other.eval)
    lines: list[str] = []
    how = setting() if not seed else type(how)("sound", 16, seed, CPU, 16)
    told = lambda part, line: lines.append(line) if line else None  # noqa: E731
    found, fresh = challenge(cell, clean, outcome, how, rival, told)  # type: ignore[arg-type]
    assert lines == [f"challenged by {each.challenger}" for each in found]
    return found, outcome, fresh


def within(found: list[Challenge]) -> dict[str, Challenge]:
    """Challenges within the radii of the cell, by challenger."""
    return {each.challenger: each for each in found if each.radius is None}


def test_a_victim_whose_gradient_lies_is_broken_by_a_black_box() -> None:
    found, *_ = challenged(Lying(), steps=20)
    square = within(found)["square"]
    assert square.taken == square.bound > 2 * tolerance_of(40)
    assert len(square.broken) >= 3
    assert set(square.broken) <= set(two_head_samples().ids)
    assert square.family == "black box"


def test_what_a_strong_attack_leaves_of_an_honest_victim_stands() -> None:
    found, outcome, _ = challenged(
        TwoHeads(), threat=Threat("Linf", (0.02, 0.02), (0, 1)), steps=100
    )
    assert outcome.figures["robust"] > 0.2
    assert len(found) == 9
    for each in within(found).values():
        assert each.taken == each.bound <= tolerance_of(40), each


def test_every_challenger_says_what_it_tried() -> None:
    found, *_ = challenged(TwoHeads(), threat=Threat("Linf", (0.02, 0.02), (0, 1)))
    assert list(within(found)) == [
        "task first alone",
        "task second alone",
        "modality a alone",
        "modality b alone",
        "margin loss",
        "transfer from a sibling",
        "square",
    ]
    assert [each.challenger for each in found if each.radius == 1.0] == [
        "task first alone at radius 1",
        "task second alone at radius 1",
    ]
    few = Threat("Linf", (0.02, 0.02), (0, 1))
    margin, *_ = challenged(TwoHeads(), threat=few, loss="margin")
    assert "cross-entropy" in within(margin)
    assert "margin loss" not in within(margin)
    square, *_ = challenged(TwoHeads(), threat=few, attack="square", queries=20)
    assert "square" not in within(square)
    one = Threat("Linf", (0.02, 0.0), (0,))
    single, *_ = challenged(TwoHeads(), threat=one)
    assert list(within(single)) == ["margin loss", "transfer from a sibling", "square"]
    assert len(single) == 3  # a trusted modality may decide a task: radius 1 would say nothing


def test_at_radius_1_an_honest_gradient_breaks_what_a_lying_one_cannot() -> None:
    broken = {}
    for victim in (TwoHeads(), Lying()):
        found, *_ = challenged(victim, threat=Threat("Linf", (0.02, 0.02), (0, 1)))
        free = [each for each in found if each.radius == 1.0]
        assert len(free) == 2
        assert all(each.taken == each.bound == 0 for each in free)
        broken[type(victim)] = sum(len(each.broken) for each in free) / sum(e.n for e in free)
    assert broken[TwoHeads] == 1
    assert broken[Lying] < 0.5


def test_luck_is_no_success_of_a_random_victim() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 1, 8, 8), dtype=np.uint8)
    samples = samples_of(images, labels=(images[:, 0, 0, 0] > 127).astype(np.int64)[:, None])
    lucky = 0
    for seed in range(1, 11):
        found, *_ = challenged(
            Scrambled(),
            samples,
            Threat("Linf", (1e-3,), (0,)),
            seed=seed,
            steps=3,
            sibling=Scrambled(),
        )
        for each in within(found).values():
            assert each.bound <= tolerance_of(32), (seed, each)
            lucky += each.taken > 0
    assert lucky > 5  # candidates were chosen, and did better on fresh draws, by luck


def test_a_random_victim_that_is_broken_is_told_from_luck() -> None:
    found, *_ = challenged(NoisyLying(), steps=5)
    best = max(within(found).values(), key=lambda each: each.bound)
    assert best.family == "black box"
    assert best.taken > best.bound > tolerance_of(40)
    assert best.broken


class Counting(nn.Module):
    """Counts the samples that a victim sees."""

    n_modalities, class_counts = 2, (2, 4)

    def __init__(self, victim: nn.Module) -> None:
        super().__init__()
        self.victim, self.seen, self.stochastic = victim, 0, victim.stochastic

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        self.seen += len(modalities[0])
        logits: tuple[Tensor, ...] = self.victim(*modalities)
        return logits


@pytest.mark.parametrize("kind", [TwoHeads, Lying, Noisy])
@pytest.mark.parametrize("given", [{"attack": "fgsm"}, {"steps": 10}, {"steps": 120}])
def test_challengers_keep_to_a_quarter_of_the_attack_or_to_their_least(kind, given) -> None:
    victim = Counting(kind())
    found, outcome, fresh = challenged(victim, threat=Threat("Linf", (0.02, 0.02), (0, 1)), **given)
    spent = sum(each.passes for each in found)
    attack = outcome.cost["attack_forward"] + outcome.cost["attack_backward"]
    budget = max(attack // SHARE, LEAST)
    assert 0.4 * LEAST < spent <= 1.01 * budget  # Square asks ahead in vain at its end
    assert all(each.n <= SAMPLES for each in found)
    most = FRESH * SAMPLES * (1 + len(found))
    assert 0 <= fresh <= most if victim.stochastic else fresh == 0


def test_passes_are_those_that_the_victim_makes() -> None:
    victim = Counting(Noisy())
    samples, threat = two_head_samples(), Threat("Linf", (0.02, 0.02), (0, 1))
    found, _, fresh = challenged(victim, samples, threat, steps=4)
    before = victim.seen
    evaluate(victim, samples, threat, "pgd", setting(), steps=4)
    alone = victim.seen - before
    forward = before - alone - fresh
    assert forward < sum(each.passes for each in found) < 2 * forward


def test_nothing_left_is_not_challenged() -> None:
    found, outcome, fresh = challenged(TwoHeads(), threat=Threat("Linf", (1.0, 1.0), (0, 1)))
    assert outcome.figures["robust"] == 0
    assert (found, fresh) == ([], 0)


def test_a_surrogate_answers_as_its_victim_does() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(240, 1, 16, 16, generator=generator) for _ in range(2)]
    for m, shift in zip(images, (torch.rand(240, 1, 1, 1, generator=generator),) * 2, strict=True):
        m.mul_(0.3).add_(0.7 * shift)

    def victim(*xs: Tensor) -> list[Tensor]:
        bright = [x.mean((1, 2, 3)) for x in xs]
        return [torch.stack((b - 0.5, 0.5 - b), 1) * 9 for b in bright]

    train, test = [m[:200] for m in images], [m[200:] for m in images]
    one, same, other = (imitate(train, victim(*train), seed=seed, device=CPU) for seed in (0, 0, 1))
    for z, truth, again, else_ in zip(
        one(*test), victim(*test), same(*test), other(*test), strict=True
    ):
        assert (z.argmax(1) == truth.argmax(1)).float().mean() >= 0.9
        assert torch.equal(z, again)
        assert not torch.equal(z, else_)


TINY = {
    "model": ["late"],
    "size": 16,
    "limit": 8,
    "model_params": {"width": 4},
    "recipe": {"steps": 2, "batch_size": 8},
    "attack_params": {"steps": 2},
    "eps": ["1/255"],
}


def records(folder: Path, **given: object) -> list[Record]:
    job = Job(out=folder, device="cpu", display=Display(quiet=True))
    return run(RunSpec(**{**TINY, **given}), job)


def test_records_hold_what_challenged_them(tmp_path: Path) -> None:
    noise, pgd, fgsm = records(tmp_path, attack=["pgd", "fgsm"])
    assert noise.challenges == []
    for record in (pgd, fgsm):
        names = [each.challenger for each in record.challenges]
        assert {"margin loss", "transfer from a surrogate", "square"} <= set(names)
        cost = record.cost.plain()
        assert cost["challenge_passes"] == sum(each.passes for each in record.challenges)
        assert cost["challenge_seconds"] > 0
    without = records(tmp_path, attack=["pgd"], challenge=False, control=False)[0]
    assert without.challenges == []
    assert without.hash != pgd.hash
    assert without.figures == pgd.figures
    assert "--no-challenge" in without.command
    assert "challenge" not in pgd.command


@pytest.mark.parametrize(
    "given",
    [
        {"attack": ["noise"], "attack_params": {}},
        {"protocol": "release"},
        {"target": "random"},
        {"eps": ["0"]},
    ],
)
def test_what_is_never_challenged_has_one_hash(tmp_path: Path, given: dict[str, object]) -> None:
    found = [records(tmp_path, **given, control=False, challenge=on)[0] for on in (True, False)]
    assert found[0].challenges == []
    assert found[0].hash == found[1].hash


def test_a_defended_victim_meets_its_undefended_twin(tmp_path: Path) -> None:
    (record,) = records(tmp_path, defense=["input-noise"], control=False)
    assert "transfer from the undefended twin" in [each.challenger for each in record.challenges]
    spent = record.cost.plain()["challenge_passes"] - sum(e.passes for e in record.challenges)
    assert spent % FRESH == 0
