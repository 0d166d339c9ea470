"""What no result may depend on: the batch size, memory, who else is evaluated, the order of work,
the state of global generators.
"""

import random

import numpy as np
import pytest
import torch
from support.evaluations import CPU, two_head_samples
from support.victims import TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import ATTACKS, Threat, complete, under
from robustbench_med.data import Samples
from robustbench_med.errors import UserError
from robustbench_med.evaluation.probes import Nature, examine
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method, Outcome, Setting, TransferSource
from robustbench_med.models.contract import Generators
from robustbench_med.progress import Display
from robustbench_med.runs.device import BatchSize


class PerSample(TwoHeads):
    """Noise on the logits from generators of each sample's own."""

    stochastic = True

    def forward(
        self, a: Tensor, b: Tensor, generators: Generators | None = None
    ) -> tuple[Tensor, ...]:
        noise = torch.randn(len(a), 1) if generators is None else generators.normal(1)
        return tuple(z * (1 + 0.5 * noise) + 0.3 * noise.roll(1, 1) for z in super().forward(a, b))


class PerBatch(TwoHeads):
    """Noise on the logits drawn for the whole batch, from PyTorch, NumPy and `random`."""

    stochastic = True

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        noise = (
            torch.randn(len(a), 1)
            + torch.from_numpy(np.random.randn(len(a), 1)).float()
            + random.random()
        )
        return tuple(z * (1 + 0.3 * noise) for z in super().forward(a, b))


VICTIMS = {"deterministic": TwoHeads, "per sample": PerSample, "per batch": PerBatch}
QUICK = {
    "steps": 4,
    "restarts": 2,
    "queries": 12,
    "search": 2,
    "evaluations": 4,
    "initial": 3,
    "targets": 2,
}
THREAT = Threat("Linf", (0.08, 0.08), (0, 1))


def outcome_of(
    kind: str,
    attack: str,
    samples: Samples,
    *,
    batch_size: int = 16,
    protocol: str = "sound",
    engine: str = "native",
    chunk: int = 16,
) -> Outcome:
    victim = VICTIMS[kind]().eval()
    nature = examine(victim, samples, CPU, 0)
    setting = Setting(protocol, 4, 0, CPU, batch_size, chunk=chunk)  # type: ignore[arg-type]
    clean = clean_pass(
        victim,
        samples,
        setting,
        lambda n: None,
        stochastic=nature.stochastic,
        drawing=nature.drawing,
    )
    known = complete(attack, {}, engine)
    given = {
        key: value
        for key, value in ({"eot": 2 if nature.stochastic else 1} | QUICK).items()
        if key in known
    }
    sources = (
        [TransferSource(victim, nature.stochastic, nature.drawing)] if attack == "transfer" else []
    )
    method = Method(attack, complete(attack, given, engine), engine, sources)
    return attack_pass(victim, samples, clean, THREAT, method, setting, lambda n: None)


@pytest.mark.parametrize("kind", VICTIMS)
@pytest.mark.parametrize("attack", under("Linf"))
def test_no_batch_size_changes_a_figure(attack: str, kind: str) -> None:
    n = 20 if kind == "per batch" else 9  # more than a chunk of 16; more than a batch of 7
    samples = two_head_samples(20).head(4 if attack == "hopskipjump" else n)
    usual = outcome_of(kind, attack, samples, batch_size=20)
    other = outcome_of(kind, attack, samples, batch_size=7)
    np.testing.assert_array_equal(other.arrays["robust_right"], usual.arrays["robust_right"])
    np.testing.assert_array_equal(other.arrays["clean_right"], usual.arrays["clean_right"])
    exact = (
        {"rtol": 0, "atol": 0} if kind == "per batch" else {"rtol": 1e-4, "atol": 1e-5}
    )  # whole chunks: the very same batches
    for t in (0, 1):
        np.testing.assert_allclose(
            other.arrays[f"robust_probabilities_{t}"],
            usual.arrays[f"robust_probabilities_{t}"],
            **exact,
        )


@pytest.mark.parametrize("attack", ["pgd", "apgd", "square", "autoattack"])
@pytest.mark.parametrize("kind", ["per sample", "per batch"])
def test_neither_does_it_under_the_release_protocol_where_one_draw_decides(
    attack: str, kind: str
) -> None:
    samples = two_head_samples(20)
    one, other = (
        outcome_of(kind, attack, samples, batch_size=size, protocol="release") for size in (20, 3)
    )
    np.testing.assert_array_equal(one.arrays["robust_right"], other.arrays["robust_right"])


@pytest.mark.parametrize("kind", VICTIMS)
@pytest.mark.parametrize("engine", ["torchattacks", "art"])
def test_another_librarys_draws_depend_on_chunks_alone(engine: str, kind: str) -> None:
    pytest.importorskip(engine)
    samples = two_head_samples(20)
    one, other = (
        outcome_of(kind, "pgd", samples, batch_size=size, engine=engine) for size in (20, 3)
    )
    np.testing.assert_array_equal(one.arrays["robust_right"], other.arrays["robust_right"])


@pytest.mark.parametrize("attack", ["pgd", "apgd", "square", "cw", "fab", "hopskipjump"])
@pytest.mark.parametrize("kind", ["deterministic", "per sample"])
def test_a_sample_by_itself_has_the_figures_it_has_among_others(attack: str, kind: str) -> None:
    samples = two_head_samples(20)
    among = outcome_of(kind, attack, samples)
    alone = outcome_of(
        kind, attack, Samples(samples.components, samples.index[[3, 11]], samples.channels)
    )
    for what in ("clean_right", "robust_right"):
        np.testing.assert_array_equal(alone.arrays[what], among.arrays[what][[3, 11]])


@pytest.mark.parametrize("kind", VICTIMS)
def test_what_was_drawn_before_changes_nothing_and_nothing_is_left_behind(kind: str) -> None:
    samples = two_head_samples(20)
    usual = outcome_of(kind, "pgd", samples)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    outcome_of(kind, "square", samples)
    again = outcome_of(kind, "pgd", samples)
    np.testing.assert_array_equal(again.arrays["robust_right"], usual.arrays["robust_right"])
    now = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(now[0], expected[0])
    assert (now[1] == expected[1]).all()
    assert now[2] == expected[2]


def test_another_chunk_gives_a_victim_that_draws_per_batch_other_numbers() -> None:
    samples = two_head_samples(20)
    one, other = (outcome_of("per batch", "pgd", samples, chunk=chunk) for chunk in (16, 5))
    assert (one.arrays["robust_probabilities_0"] != other.arrays["robust_probabilities_0"]).any()


def test_what_a_victim_with_generators_draws_is_the_same_whatever_the_batch() -> None:
    seen: dict[int, list[list[float]]] = {}

    class Recorder(PerSample):
        def forward(
            self, a: Tensor, b: Tensor, generators: Generators | None = None
        ) -> tuple[Tensor, ...]:
            assert generators is not None
            drawn = generators.uniform(2).tolist()
            key = (
                (a[:, 0, 0, 0] * 255).round().int().tolist()
            )  # by a pixel no attack moves: the threat trusts the first modality
            for pixel, numbers in zip(key, drawn, strict=True):
                seen.setdefault(pixel, []).append(numbers)
            return TwoHeads.forward(self, a, b)

    samples = two_head_samples(12)
    results = []
    for batch_size in (12, 1, 5):
        seen.clear()
        setting = Setting("sound", 3, 0, CPU, batch_size)
        victim = Recorder().eval()
        clean = clean_pass(victim, samples, setting, lambda n: None, stochastic=True)
        method = Method("pgd", complete("pgd", {"steps": 3, "eot": 2, "restarts": 2}))
        attack_pass(
            victim,
            samples,
            clean,
            Threat("Linf", (0.0, 0.01), (0, 1)),
            method,
            setting,
            lambda n: None,
        )
        results.append({pixel: list(numbers) for pixel, numbers in seen.items()})
    assert results[0] == results[1] == results[2]


# --- victims that look at their neighbours --------------------------------------------------------


class Leans(TwoHeads):
    """Logits moved by `share` of something of the batch."""

    def __init__(self, share: float, of: str, noise: str = "none") -> None:
        super().__init__()
        self.share, self.of, self.noise = share, of, noise
        self.own = np.random.default_rng(0)  # no seed reaches it
        self.stochastic = noise != "none"

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        looks = {
            "mean": lambda: a.mean(),
            "max": lambda: b.mean((1, 2, 3)).amax(),
            "neighbour": lambda: a.roll(1, 0).mean((1, 2, 3))[:, None],
            "nothing": lambda: torch.zeros(()),
        }[self.of]()
        drawn = {
            "none": lambda: torch.zeros(len(a), 1),
            "torch": lambda: torch.randn(len(a), 1),
            "numpy": lambda: torch.from_numpy(np.random.randn(len(a), 1)).float(),
            "unseeded": lambda: torch.from_numpy(self.own.standard_normal((len(a), 1))).float(),
        }[self.noise]()
        tilt = torch.tensor([1.0, -1.0])
        return tuple(
            z + (self.share * looks + 0.1 * drawn) * tilt.repeat(z.shape[1])[: z.shape[1]]
            for z in super().forward(a, b)
        )


class BatchStatistics(TwoHeads):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(self.shapes[0][0], track_running_stats=False)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return super().forward(self.norm(a), b)


class Placed(TwoHeads):
    """A positional code along the batch, meant for a sequence."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            z + torch.arange(len(z))[:, None] * torch.eye(z.shape[1])[0]
            for z in super().forward(a, b)
        )


class Large(TwoHeads):
    """Batch statistics in large batches only."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return super().forward(a - a.mean() if len(a) > 8 else a, b)


class Poisson(TwoHeads):
    """Shot noise: how many numbers are drawn depends on the images, so that the seed hands later
    ones others.
    """

    stochastic = True

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return super().forward(torch.poisson(20 * a) / 20, b)


class PoissonLeans(Poisson):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(z + 3 * a.mean() * torch.eye(z.shape[1])[0] for z in super().forward(a, b))


class Ignores(TwoHeads):
    """Takes generators, and draws from the global one."""

    stochastic = True

    def forward(
        self, a: Tensor, b: Tensor, generators: Generators | None = None
    ) -> tuple[Tensor, ...]:
        return super().forward(a + 0.1 * torch.randn_like(a), b)


NOISES = ("none", "torch", "numpy", "unseeded")
DEPENDENT = {
    "batch statistics": BatchStatistics,
    **{
        f"{of}, {how}": lambda of=of, how=how: Leans(1.0, of, how)
        for of in ("mean", "max", "neighbour")
        for how in NOISES
    },
    "a little": lambda: Leans(1e-2, "mean"),
    "its place": Placed,
    "the batch's size": Large,
    "neighbours beside shot noise": PoissonLeans,
}
INDEPENDENT = {
    "shot noise": Poisson,
    "generators ignored": Ignores,
    "plain": TwoHeads,
    "per sample": PerSample,
    "per batch": PerBatch,
    **{noise: lambda noise=noise: Leans(1.0, "nothing", noise) for noise in NOISES},
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_a_victim_that_looks_at_its_neighbours_is_found(name: str) -> None:
    nature = examine(DEPENDENT[name]().eval(), two_head_samples(20), CPU, 0)
    assert nature.neighbours
    assert nature.drawing == "batch"


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_victim_that_does_not_is_never_accused(name: str) -> None:
    for seed in range(20):
        nature = examine(INDEPENDENT[name]().eval(), two_head_samples(20), CPU, seed)
        assert nature.neighbours is None
        assert nature.repeatable == (name != "unseeded")


def test_generators_that_are_taken_and_not_used_are_no_promise() -> None:
    assert examine(Ignores().eval(), two_head_samples(20), CPU, 0).drawing == "batch"


def transferred(samples: Samples, batch_size: int) -> Outcome:
    """PGD's adversarials of a random victim, on one that is not."""
    source, victim = PerBatch().eval(), TwoHeads().eval()
    setting = Setting("sound", 4, 0, CPU, batch_size, chunk=16)
    clean = clean_pass(victim, samples, setting, lambda n: None, stochastic=False)
    nature = examine(source, samples, CPU, 0)
    method = Method(
        "transfer",
        complete("transfer", {"steps": 3}),
        sources=[TransferSource(source, nature.stochastic, nature.drawing)],
    )
    return attack_pass(victim, samples, clean, THREAT, method, setting, lambda n: None)


def test_a_source_that_draws_for_the_batch_is_asked_in_chunks() -> None:
    samples = two_head_samples(20)
    one, other = (transferred(samples, batch_size) for batch_size in (20, 3))
    for t in (0, 1):
        np.testing.assert_allclose(
            one.arrays[f"robust_probabilities_{t}"],
            other.arrays[f"robust_probabilities_{t}"],
            atol=1e-5,
        )


def test_so_is_an_attack_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def wanders(view, x, y, threat, streams):
        return view.project(x + 0.1 * torch.randn_like(x), x, threat)

    monkeypatch.setitem(ATTACKS, "wanders", wanders)
    samples = two_head_samples(20)
    one, other = (
        outcome_of("deterministic", "wanders", samples, batch_size=size) for size in (20, 3)
    )
    np.testing.assert_allclose(one.arrays["linf"], other.arrays["linf"], atol=1e-6)


def test_few_samples_are_enough_to_try() -> None:
    assert examine(BatchStatistics().eval(), two_head_samples(2), CPU, 0).neighbours
    assert examine(TwoHeads().eval(), two_head_samples(1), CPU, 0) == Nature(False, "none")


# --- memory ---------------------------------------------------------------------------------------


def test_where_memory_does_not_hold_a_chunk_the_size_that_fits_is_said() -> None:
    def fits(n: int) -> None:
        if n > 6:
            raise MemoryError

    batch = BatchSize("auto", Display(quiet=True))
    assert batch.hold(lambda: 3, 32, fits) == 3
    with pytest.raises(UserError, match=r"chunks of 32 samples.*--chunk 4 fits"):
        batch.hold(lambda: fits(32), 32, fits)
    with pytest.raises(UserError, match="not even one sample fits"):
        batch.hold(lambda: fits(32), 32, lambda n: fits(32))
    with pytest.raises(ZeroDivisionError):
        batch.hold(lambda: 1 // 0, 32, fits)
