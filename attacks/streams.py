"""Random numbers that depend on nothing but what they are for: an attack's own, one stream a
sample, and those of a random victim.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from robustbench_med.errors import UserError

SCHEME = 3
"""Revision of the scheme of random numbers, part of every identity: raised whenever a seed may mean
other numbers.
"""


WORD = 0xFFFFFFFF
MULTIPLIERS, WEYL, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10
AT_ONCE = 1 << 14
"""Counters that are enciphered together: what they need stays in a processor's cache."""


def philox(counters: Tensor, keys: Tensor) -> Tensor:
    """Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as
    1, 2, 3", SC 2011): 128 bits that depend on a counter and a key alone, the same on every device.

    Args:
        counters: (4, B, N) int64, each a word of 32 bits, the lowest first.
        keys: (2, B, 1) int64 likewise.

    Returns:
        (4, B, N) int64, words of 32 bits.
    """
    even, odd = counters[0::2], counters[1::2]  # words that are multiplied, and that are mixed in
    factors, step = (counters.new_tensor(pair).view(2, 1, 1) for pair in (MULTIPLIERS, WEYL))
    for _ in range(ROUNDS):
        product = even * factors  # wraps as a product of unsigned words does
        # the cipher swaps both pairs here: instead all else is turned round for the next round
        even = (product >> 32).bitwise_xor_(odd.flip(0)).bitwise_xor_(keys.flip(0))
        even &= WORD
        odd = product  # its low word; the high one is masked where it would be seen
        keys, factors, step = (keys + step).flip(0), factors.flip(0), step.flip(0)
    odd = odd & WORD
    return torch.stack((even[0], odd[0], even[1], odd[1]))


class Streams:
    """Random numbers of a batch: what a sample gets depends on no neighbour, on no order and not on
    who has left. Counters of its own are enciphered under a key of its own (`philox`).

    Integers and uniform numbers have the same bits on every device, normal ones agree within 2
    units in the last place.

    Args:
        keys: of each sample, from 0 to 2^63 - 1.
        draws: of each sample (B,), under one key another number gives other random numbers; 0 by
            default.
        device: where numbers are wanted.

    Raises:
        UserError: for torch.Generator objects, which it was made of before.
    """

    def __init__(
        self,
        keys: Sequence[int] | Tensor,
        draws: Tensor | None = None,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        if any(isinstance(key, torch.Generator) for key in keys):
            raise UserError(
                "Streams is made of numbers, no longer of torch.Generator:"
                " Streams.seeded(seed, sample_ids, purpose)"
            )
        keys = torch.as_tensor(keys, dtype=torch.int64, device=device)
        self.keys = torch.stack((keys & WORD, keys >> 32))
        self.draws = torch.zeros_like(keys) if draws is None else draws.to(keys)
        self.counters = torch.zeros_like(keys)  # the next of each sample
        self.rows: Tensor | None = None  # those of some samples alone

    @classmethod
    def seeded(
        cls,
        seed: int,
        sample_ids: Sequence[str],
        purpose: str,
        *,
        device: torch.device | str | None = None,
    ) -> Streams:
        """Keys made of (run seed, purpose, sample id), the purpose being the attack's name."""
        return cls([derive_seed(seed, purpose, sample) for sample in sample_ids], device=device)

    def __len__(self) -> int:
        return len(self.counters if self.rows is None else self.rows)

    def __getitem__(self, row: object) -> NoReturn:
        """Raises UserError: victims were handed a list of torch.Generator before."""
        raise UserError(
            "`generators` is no list of torch.Generator any more: generators.uniform(n),"
            " .normal(n), .integers(low, high) and .bernoulli(n, of_256) give the numbers of all"
            " samples at once, (B, n) (docs/own_model.md)"
        )

    def take(self, rows: Tensor) -> Streams:
        """The streams of some samples, none of them twice, not copies: what is drawn there is not
        drawn again here.
        """
        taken = copy.copy(self)
        rows = rows.to(self.counters.device)
        taken.rows = rows if self.rows is None else self.rows[rows]
        return taken

    def spawn(self) -> Streams:
        """Streams of their own, one a sample, whose keys are drawn from these."""
        low, high = self.words(2).unbind(1)
        return Streams(low | (high >> 1) << 32)

    def numbered(self, draw: int) -> Streams:
        """These streams from their start, under another number."""
        other = self.take(torch.arange(len(self)))
        other.draws = torch.full_like(self.draws, draw)
        other.counters = torch.zeros_like(self.counters)
        return other

    def words(self, dim: int) -> Tensor:
        """(B, dim) int64, 32 random bits each."""
        blocks = -(-dim // 4)
        rows = slice(None) if self.rows is None else self.rows
        keys, draws, first = self.keys[:, rows, None], self.draws[rows], self.counters[rows].clone()
        self.counters[rows] = first + blocks
        parts, n = [], max(AT_ONCE // max(len(self), 1), 1)
        for start in range(0, blocks, n):
            steps = torch.arange(start, min(start + n, blocks), device=first.device)
            low = first[:, None] + steps
            counters = (low & WORD, low >> 32, draws[:, None] & WORD, draws[:, None] >> 32)
            parts.append(philox(torch.stack(torch.broadcast_tensors(*counters)), keys))
        words = torch.cat(parts, 2) if parts else first.new_empty(4, len(self), 0)
        return words.transpose(0, 1).flatten(1)[:, :dim]

    def uniform(self, dim: int) -> Tensor:
        """(B, dim) float32 from U[0, 1), 24 bits each."""
        return (self.words(dim) >> 8).float() * 2**-24

    def normal(self, dim: int) -> Tensor:
        """(B, dim) float32 from N(0, 1), by Box and Muller (1958) in double precision."""
        half = -(-dim // 2)
        length, angle = (self.words(2 * half).double() + 0.5).mul_(2**-32).split(half, 1)
        length = length.log().mul_(-2).sqrt_()
        angle = angle * (2 * math.pi)
        return torch.cat((length * angle.cos(), length * angle.sin()), 1)[:, :dim].float()

    def integers(self, low: int, high: Sequence[int]) -> Tensor:
        """(B, len(high)) int64: column j uniform on low ... high[j] - 1, below 2^31 apart."""
        words = self.words(len(high))
        return low + (words * (torch.tensor(high, device=words.device) - low) >> 32)

    def bernoulli(self, dim: int, of_256: int) -> Tensor:
        """(B, dim) bool, true with probability `of_256` / 256: a byte each, a quarter of the cost
        of a uniform number.
        """
        words = self.words(-(-dim // 4))
        shifts = torch.arange(0, 32, 8, device=words.device)
        return ((words[:, :, None] >> shifts & 255) < of_256).flatten(1)[:, :dim]


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_torch(seed: int) -> None:
    """`torch.manual_seed`, without the traces of the stack that it formats for accelerators which
    are not there: they take a hundred times as long as the seed.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextlib.contextmanager
def seeded(device: torch.device, *parts: object) -> Iterator[None]:
    """Seeds the global generators of PyTorch, NumPy and `random` from the parts, and restores their
    states afterwards.
    """
    seed, numpy_state, python_state = derive_seed(*parts), np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            seed_torch(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


class Draws:
    """The seeds of a random victim's own numbers in one batch: every pass is another draw, and the
    same one in every run.

    A victim that takes `generators` gets the `Streams` of the batch, keyed by (parts, sample) and
    numbered by its draw: what a sample draws depends on no batch. Any other draws as it likes for
    the batch as a whole, from global generators seeded by (parts, number of the pass).

    Args:
        parts: what the draws are for: run seed, attack, stage, and the chunk where the victim draws
            for the batch.
        ids: the samples of the batch where the victim takes generators, else None.
    """

    def __init__(self, *parts: object, ids: Sequence[str] | None = None) -> None:
        self.parts, self.ids = parts, ids
        self.keys = torch.tensor([derive_seed(*parts, sample) for sample in ids or ()])
        self.rows = torch.arange(len(self.keys))
        self.drawn = torch.zeros_like(self.rows)
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
            self.rows = before[rows.to(before.device)]
        try:
            yield
        finally:
            self.rows = before.to(self.rows.device)

    def run(
        self, victim: Callable[..., Sequence[Tensor]], modalities: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """One pass over the batch, or over several copies of it one after another, each a draw of
        its own.
        """
        device, n = modalities[0].device, len(modalities[0])
        if self.ids is None:
            self.passes += 1
            drawn = derive_seed(*self.parts, self.passes)
            box = getattr(victim, "black_box", None)
            with (
                seeded(device, *self.parts, self.passes),
                contextlib.nullcontext() if box is None else box.numbered(drawn),
            ):
                return tuple(victim(*modalities))
        copies, rest = divmod(n, max(len(self.rows), 1))
        if rest:
            raise ValueError(
                f"a pass over {n} samples, but the batch has {len(self.rows)}: put it into `with"
                " view.only(rows)`"
            )
        self.keys, self.rows, self.drawn = (
            numbers.to(device) for numbers in (self.keys, self.rows, self.drawn)
        )
        numbers = self.drawn[self.rows] + torch.arange(1, copies + 1, device=device)[:, None]
        self.drawn[self.rows] += copies
        streams = Streams(self.keys[self.rows].repeat(copies), numbers.flatten())
        return tuple(victim(*modalities, generators=streams))
