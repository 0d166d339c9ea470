"""Random numbers that depend on nothing but what they are for: an attack's own, one stream a
sample, and those of a random victim.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

SCHEME = 2
"""Revision of the scheme of random numbers, part of every identity: raised whenever a seed may mean
other numbers.
"""


class Streams:
    """Random numbers of a batch: one generator per sample, so that what a sample gets depends on
    nothing but itself.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = list(generators)

    @classmethod
    def seeded(cls, seed: int, sample_ids: Sequence[str], purpose: str) -> Streams:
        """Generators seeded from (run seed, sample id, purpose), the purpose being the attack's
        name.
        """
        return cls(
            [
                torch.Generator().manual_seed(derive_seed(seed, purpose, sample))
                for sample in sample_ids
            ]
        )

    def uniform(self, dim: int) -> Tensor:
        """(B, dim) from U[0, 1), on the CPU."""
        return torch.stack([torch.rand(dim, generator=g) for g in self.generators])

    def normal(self, dim: int) -> Tensor:
        """(B, dim) from N(0, 1), on the CPU."""
        return torch.stack([torch.randn(dim, generator=g) for g in self.generators])

    def integers(self, low: int, high: Sequence[int]) -> Tensor:
        """(B, len(high)): column j uniform on low ... high[j] - 1, on the CPU."""
        return (
            low
            + (
                self.uniform(len(high)).double() * (torch.tensor(high, dtype=torch.double) - low)
            ).long()
        )

    def take(self, rows: Tensor) -> Streams:
        """The streams of some samples: the same generators, not copies."""
        return Streams([self.generators[i] for i in rows.tolist()])


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextlib.contextmanager
def seeded(device: torch.device, *parts: object) -> Iterator[None]:
    """Seeds the global generators of PyTorch, NumPy and `random` from the parts, and restores their
    states afterwards.
    """
    seed, numpy_state, python_state = derive_seed(*parts), np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def takes_generators(victim: nn.Module) -> bool:
    """Whether a random victim draws for each sample by itself: its forward has a keyword
    `generators`, one torch.Generator a sample.
    """
    return "generators" in inspect.signature(victim.forward).parameters


class Draws:
    """The seeds of a random victim's own numbers in one batch: every pass is another draw, and the
    same one in every run.

    A victim that takes `generators` gets one a sample, seeded by (parts, sample, number of its
    draw): what a sample draws depends on no batch. Any other draws as it likes for the batch as a
    whole, from global generators seeded by (parts, number of the pass).

    Args:
        parts: what the draws are for: run seed, attack, stage, and the chunk where the victim draws
            for the batch.
        ids: the samples of the batch where the victim takes generators, else None.
    """

    def __init__(self, *parts: object, ids: Sequence[str] | None = None) -> None:
        self.parts, self.ids = parts, ids
        self.rows = list(range(len(ids or ())))
        self.drawn = [0] * len(self.rows)
        self.passes = 0

    @property
    def whole(self) -> bool:
        """Whether the batch must stay together: the victim draws for it as a whole."""
        return self.ids is None

    @contextlib.contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """Passes inside are over these samples of the batch alone."""
        before = self.rows
        if self.ids is not None:
            self.rows = [before[i] for i in rows.tolist()]
        try:
            yield
        finally:
            self.rows = before

    def run(self, victim: nn.Module, modalities: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One pass over the batch, or over several copies of it one after another, each a draw of
        its own.
        """
        device, n = modalities[0].device, len(modalities[0])
        if self.ids is None:
            self.passes += 1
            with seeded(device, *self.parts, self.passes):
                return tuple(victim(*modalities))
        if n % max(len(self.rows), 1):
            raise ValueError(
                f"a pass over {n} samples, but the batch has {len(self.rows)}: put it into `with"
                " view.only(rows)`"
            )
        generators = []
        for _ in range(n // max(len(self.rows), 1)):
            for row in self.rows:
                self.drawn[row] += 1
                seed = derive_seed(*self.parts, self.ids[row], self.drawn[row])
                generators.append(torch.Generator(device).manual_seed(seed))
        return tuple(victim(*modalities, generators=generators))
