"""Random numbers of a batch: the published cipher, uniform, and each sample's own."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from robustbench_med.attacks import Draws, Streams
from robustbench_med.attacks.streams import philox
from robustbench_med.errors import UserError

IDS = [f"sample {i}" for i in range(64)]
# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, output
VECTORS = {
    "zeros": ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "digits of pi": (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
}


def words(text: str) -> torch.Tensor:
    return torch.tensor([int(word, 16) for word in text.split()]).view(-1, 1, 1)


@pytest.mark.parametrize("name", VECTORS)
def test_the_cipher_gives_the_published_vectors(name: str) -> None:
    counter, key, output = map(words, VECTORS[name])
    assert torch.equal(philox(counter, key), output)


def test_numbers_are_distributed_as_they_say() -> None:
    """By Kolmogorov and Smirnov, and by chi-squared."""
    streams = Streams.seeded(0, IDS, "test")
    drawn = {
        "uniform": (streams.uniform(2001).flatten().numpy(), stats.uniform.cdf),
        "normal": (streams.normal(2001).flatten().numpy(), stats.norm.cdf),
    }
    for name, (numbers, cdf) in drawn.items():
        assert stats.kstest(numbers, cdf).pvalue > 1e-3, name
    assert drawn["uniform"][0].min() >= 0
    assert drawn["uniform"][0].max() < 1
    whole = streams.integers(-3, [4] * 999).flatten().numpy()
    assert stats.chisquare(np.bincount(whole + 3, minlength=7)).pvalue > 1e-3
    share = streams.bernoulli(4001, 64).double().mean()
    assert share == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 64 / 4001) ** 0.5)


def test_samples_purposes_and_draws_are_independent() -> None:
    """No correlation beyond chance between any two of them, and neighbouring numbers have none."""
    n = 20_000
    many = [
        Streams.seeded(0, IDS[:3], "test").uniform(n),
        Streams.seeded(0, IDS[:1], "other").uniform(n),
        Streams.seeded(1, IDS[:1], "test").uniform(n),
        Streams.seeded(0, IDS[:1], "test").numbered(1).uniform(n),
        Streams.seeded(0, IDS[:1], "test").spawn().uniform(n),
    ]
    rows = torch.cat(many).double()
    rows = torch.cat((rows, rows[:1].roll(1, 1), rows[:1].roll(n // 2, 1)))
    correlation = torch.corrcoef(rows) * n**0.5
    for i, j in itertools.combinations(range(len(rows)), 2):
        assert abs(correlation[i, j]) < 4.5, (i, j)


def test_what_a_sample_gets_depends_on_no_neighbour_no_order_and_not_on_who_left() -> None:
    whole, some = Streams.seeded(3, IDS, "pgd"), Streams.seeded(3, IDS, "pgd")
    first, second = whole.uniform(7), whole.normal(5)
    rows = torch.tensor([9, 2, 40])
    assert torch.equal(some.take(rows).uniform(7), first[rows])
    assert torch.equal(
        some.take(rows).normal(5), second[rows]
    )  # they go on, they do not start anew
    left = torch.tensor([i for i in range(64) if i not in rows])
    assert torch.equal(some.take(left).uniform(7), first[left])
    alone = Streams.seeded(3, [IDS[2]], "pgd")
    assert torch.equal(alone.uniform(7), first[2:3])
    nested = Streams.seeded(3, IDS, "pgd").take(rows).take(torch.tensor([1]))
    assert torch.equal(nested.uniform(7), first[2:3])


def test_a_long_draw_is_that_of_its_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are enciphered together."""
    at_once = Streams.seeded(0, IDS[:2], "test").uniform(1001)
    monkeypatch.setattr("robustbench_med.attacks.streams.AT_ONCE", 16)
    assert torch.equal(Streams.seeded(0, IDS[:2], "test").uniform(1001), at_once)


def test_each_pass_of_a_random_victim_is_a_draw_and_copies_are_draws_too() -> None:
    class Seen(torch.nn.Module):
        def forward(self, x: torch.Tensor, generators: Streams | None = None) -> tuple:
            assert generators is not None
            return (generators.uniform(3),)

    x = torch.zeros(4, 1)
    one_by_one, at_once = Draws(0, "test", ids=IDS[:4]), Draws(0, "test", ids=IDS[:4])
    passes = torch.cat([one_by_one.run(Seen(), [x])[0] for _ in range(3)])
    assert torch.equal(at_once.run(Seen(), [x.repeat(3, 1)])[0], passes)
    assert len(passes.unique()) == passes.numel()
    with one_by_one.only(torch.tensor([2])), at_once.only(torch.tensor([2])):
        assert torch.equal(one_by_one.run(Seen(), [x[:1]])[0], at_once.run(Seen(), [x[:1]])[0])
        with pytest.raises(ValueError, match=r"view\.only"):
            Draws(0, "test", ids=IDS[:4]).run(Seen(), [x[:3]])


def test_the_generators_of_before_are_refused_with_a_hint() -> None:
    with pytest.raises(UserError, match=r"Streams\.seeded"):
        Streams([torch.Generator()])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"generators\.uniform"):
        [g for g in Streams.seeded(0, IDS, "test")]  # type: ignore[attr-defined]  # noqa: C416
