"""How often the interval of a random victim's robust accuracy holds the truth, where the truth is
known: simulated outcomes, and the interval that records get.

    python benchmarks/coverage.py                  # the table of docs/records.md, some minutes
    python benchmarks/coverage.py --repeats 500    # a look at it

A simulated victim is right on a sample, in a draw, as one of these says:

- own noise: every sample draws for itself. "alike": each is right with the true rate; "apart": with
  a probability of its own, beta-distributed around the true rate (parameters that add up to one).
  "By the batch": as alike, but from a generator of the batch, as dropout draws; medrobust cannot
  know that the draws of a batch have nothing in common.
- shared noise: one draw serves a batch. A sample is right where a normal number stays below a
  bound. A part of its variance is the batch's draw, half of the rest is the sample's, the other
  half is new for each sample and draw.
- ensemble of two: a draw takes one of two deterministic members for a batch. Their rates lie as far
  apart as the true rate allows, or half as far ("nearer").

A batch is a chunk of 32 samples or all of them. Draws are added as medrobust adds them
(`judged_draws`).

Columns: the true rates, with the coverage for the population. "these samples": how often the same
interval holds the rate that these very samples would have over all draws there could be, the lowest
over the true rates. "before": the coverage for the population, lowest and highest, of Wilson's
interval on the number of samples and the fewest draws that were asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from robustbench_med.evaluation.batching import judged_draws
from robustbench_med.evaluation.types import Drawing
from robustbench_med.statistics import effective_n_of_draws, wilson

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
SIZES = (64, 624)
DRAWS = (4, 16)
CHUNK = 32
TOGETHER = 50
"""Repeats that are simulated at once."""

Floats = NDArray[np.float32]
Simulated = tuple[NDArray[np.bool_], Floats]
"""Outcomes (R, K, n), and (R,) the rate of these very samples over all draws there could be."""


@dataclass(frozen=True)
class Design:
    """How a simulation is laid out."""

    rate: float
    repeats: int
    draws: int
    n: int
    batch: int

    @property
    def batches(self) -> NDArray[np.int64]:
        """(n,) the batch of each sample."""
        return np.arange(self.n) // self.batch


def own_noise(design: Design, rng: np.random.Generator, *, alike: bool) -> Simulated:
    """Every sample draws for itself."""
    shape = (design.repeats, design.n)
    chance = np.full(shape, design.rate)
    if not alike:
        chance = rng.beta(design.rate, 1 - design.rate, shape)
    drawn = rng.random((design.repeats, design.draws, design.n), np.float32)
    return drawn < chance[:, None], chance.mean(1)


def shared_noise(design: Design, rng: np.random.Generator, *, part: float) -> Simulated:
    """One draw serves a batch; `part` of the variance is its own."""
    batches, bound = design.batches, ndtri(design.rate)
    by_batch = (design.repeats, design.draws, batches[-1] + 1)
    of_draw = rng.standard_normal(by_batch, np.float32) * part**0.5
    rest = ((1 - part) / 2) ** 0.5
    of_sample = rng.standard_normal((design.repeats, design.n), np.float32) * rest
    new = rng.standard_normal((design.repeats, design.draws, design.n), np.float32) * rest
    truth = ndtr((bound - of_sample) / (part + rest**2) ** 0.5).mean(1)
    new += of_draw[:, :, batches]
    new += of_sample[:, None]
    return new < bound, truth


def ensemble(design: Design, rng: np.random.Generator, *, apart: float) -> Simulated:
    """A draw takes one of two members for a batch; they are `apart`, 1 being as far as can be."""
    batches = design.batches
    distance = apart * min(design.rate, 1 - design.rate)
    members = [
        rng.random((design.repeats, 1, design.n)) < rate
        for rate in (design.rate - distance, design.rate + distance)
    ]
    first = rng.random((design.repeats, design.draws, batches[-1] + 1)) < 0.5
    return np.where(first[:, :, batches], *members), np.mean(members, 0).mean((1, 2))


@dataclass(frozen=True)
class Victim:
    """A simulated victim: its name, how it draws, and whether its draws are those of a batch."""

    name: str
    simulate: Callable[[Design, np.random.Generator], Simulated]
    shared: bool


VICTIMS = (
    Victim("own noise, samples alike", lambda d, r: own_noise(d, r, alike=True), shared=False),
    Victim("own noise, samples apart", lambda d, r: own_noise(d, r, alike=False), shared=False),
    Victim("shared noise, 10 %", lambda d, r: shared_noise(d, r, part=0.1), shared=True),
    Victim("shared noise, 50 %", lambda d, r: shared_noise(d, r, part=0.5), shared=True),
    Victim("ensemble of two", lambda d, r: ensemble(d, r, apart=1.0), shared=True),
    Victim("ensemble of two, nearer", lambda d, r: ensemble(d, r, apart=0.5), shared=True),
    Victim("own noise, by the batch", lambda d, r: own_noise(d, r, alike=True), shared=True),
)


@dataclass(frozen=True)
class Coverage:
    """Shares of the intervals that hold the truth: of the population, of these very samples, and of
    the population by an interval that knows of no draws.
    """

    population: float
    samples: float
    before: float


@dataclass(frozen=True)
class Line:
    """A line of the table: a victim, samples, a batch; draws that are taken and asked for."""

    victim: Victim
    n: int
    batch: int
    draws: int
    asked: tuple[int, ...]

    def coverage(self, rate: float, repeats: int, rng: np.random.Generator) -> Coverage:
        """Simulates one setting."""
        design = Design(rate, min(TOGETHER, repeats), self.draws, self.n, self.batch)
        batches = design.batches if self.victim.shared else None
        held, done = np.zeros(3), 0
        while done < repeats:
            for right, of_samples in zip(*self.victim.simulate(design, rng), strict=True):
                worth = effective_n_of_draws(right, self.n, batches)
                low, high = wilson(float(right.mean()), worth)
                held[:2] += low <= rate <= high, low <= of_samples <= high
                low, high = wilson(float(right[: self.asked[0]].mean()), self.n)
                held[2] += low <= rate <= high
            done += design.repeats
        return Coverage(*(held / done).tolist())

    def row(self, repeats: int, number: int) -> str:
        """The line with its coverage at every rate; `number` seeds it."""
        found = [
            self.coverage(rate, repeats, np.random.default_rng((number, i)))
            for i, rate in enumerate(RATES)
        ]
        before = [each.before for each in found]
        cells = [
            self.victim.name,
            str(self.n),
            str(self.batch) if self.victim.shared else "",
            " or ".join(map(str, self.asked)),
            str(self.draws),
            *(f"{each.population:.3f}" for each in found),
            f"{min(each.samples for each in found):.3f}",
            f"{min(before):.2f} to {max(before):.2f}",
        ]
        return f"| {' | '.join(cells)} |"


def lines() -> Iterator[Line]:
    """The lines of the table, in their order: numbers of draws that come to the same are one."""
    for victim in VICTIMS:
        for n in SIZES:
            for batch in (CHUNK, n) if victim.shared else (1,):
                asked: dict[int, tuple[int, ...]] = {}
                for draws in DRAWS:
                    drawing: Drawing = "batch" if victim.shared else "sample"
                    taken = judged_draws(draws, n, batch, drawing)
                    asked[taken] = (*asked.get(taken, ()), draws)
                for taken, of in asked.items():
                    yield Line(victim, n, batch, taken, of)


HEAD = (
    f"| victim | n | batch | K | draws taken | {' | '.join(map(str, RATES))} | these samples |"
    f" before |\n|---|---|---|---|---|{'---|' * len(RATES)}---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5000, help="of a setting")
    repeats = parser.parse_args().repeats
    print(HEAD)
    for number, line in enumerate(lines()):
        print(line.row(repeats, number), flush=True)


if __name__ == "__main__":
    main()
