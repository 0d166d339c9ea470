"""Square Attack: random search with square patches, scores only (Andriushchenko et al., arXiv
1912.00049, algorithms 1 to 3; in L1 Croce & Hein, arXiv 2103.01208).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import tables
from robustbench_med.attacks.balls import Segment
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.random_search import Asked, RandomSearch, alike
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 2
SCHEDULE = (
    10,
    50,
    200,
    500,
    1000,
    2000,
    4000,
    6000,
    8000,
)  # of 10,000 queries: where the patch's area halves


def square(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    queries: int = 1000,
    p: float = 0.8,
    loss: str = "margin",
    eot: int = 1,
) -> Tensor:
    """Patches of one modality's own image plane, one a query, kept where the loss rises.

    The modalities that have a radius take turns. Against a random victim the incumbent is scored
    again beside each candidate, so that a lucky draw does not stay on the throne; both cost
    queries.

    Against a deterministic victim, samples that rarely succeed are asked several queries at once,
    as if none of them succeeded; what comes after the first success is thrown away and asked again.
    The result is that of one query after another; passes are counted as they are made.

    Args:
        queries: forward passes a sample at most, draws of one score not counted apart (the paper
            uses 10,000, AutoAttack 5,000).
        p: share of the image's area that the first patches cover.
        loss: "margin", "ce" or "dlr".
        eot: draws per score.
    """
    turns = [(s, r) for s, r in zip(view.segments, threat.radii, strict=True) if r > 0]
    if not turns:
        return x.clone()

    halved = np.searchsorted(np.array(SCHEDULE) * queries, np.arange(queries) * 10_000)
    kinds = halved * len(turns) + np.arange(queries) % len(turns)
    patches = Patches(view, threat, turns, kinds, p)
    propose = patches.in_linf if threat.norm == "Linf" else patches.of_mass
    most = max(segment.shape[0] for segment, _ in turns)
    search = RandomSearch(propose, 5 + most, queries, loss, eot)
    return search.from_(stripes(view, x, threat, streams), view, x, y, threat, streams)


@dataclass(frozen=True)
class Patches:
    """Candidates of a random search, which differ from where they begin by one patch each.

    Attributes:
        turns: segment and radius of the modalities that take turns.
        kinds: of each query its turn, and how often the patch's area was halved before, times the
            number of turns.
        p: share of the area that the first patches cover.
    """

    view: View
    threat: Threat
    turns: list[tuple[Segment, float]]
    kinds: NDArray[np.int64]
    p: float

    def drawn(
        self, of: Tensor, numbers: Tensor, asked: Asked
    ) -> Iterator[tuple[Tensor | slice, Tensor, Segment, float, float, Tensor]]:
        """Of candidates of one kind their rows, where they begin, the modality and its radius, the
        share of its area and the uniform numbers.
        """
        for rows, kind in alike(self.kinds[asked], of.device):
            segment, radius = self.turns[kind % len(self.turns)]
            share = self.p * 0.5 ** (kind // len(self.turns))
            yield rows, of[rows], segment, radius, share, numbers[rows]

    def in_linf(
        self, now: Tensor, clean: Tensor, of: Tensor, numbers: Tensor, asked: Asked
    ) -> Tensor:
        """Candidates of algorithm 2; of a table one column changed."""
        of_table = {self.view.segments[m]: columns for m, columns in self.threat.tables()}
        moved = now[of]
        for rows, own, segment, radius, share, u in self.drawn(of, numbers, asked):
            if (columns := of_table.get(segment)) is None:
                squares(moved, rows, clean, own, segment, radius, share, u)
                continue
            part = slice(segment.start, segment.stop)
            moved[rows, part] = tables.propose(moved[rows, part], clean[own, part], columns, u)
        return self.view.present(moved, clean[of], self.threat) if self.threat.optional else moved

    def of_mass(
        self, now: Tensor, clean: Tensor, of: Tensor, numbers: Tensor, asked: Asked
    ) -> Tensor:
        """Candidates of algorithm 3."""
        base = clean[of]
        moved = torch.empty_like(base) if len(self.view.segments) == 1 else now[of]
        move = MOVES[self.threat.norm]
        for rows, own, segment, radius, share, u in self.drawn(of, numbers, asked):
            part = slice(segment.start, segment.stop)
            put = move(now[:, part] - clean[:, part], own, segment, radius, share, u)
            put += base[rows, part]
            if put.shape == moved.shape:
                moved = put
            else:
                moved[rows, part] = put
        return self.view.project(moved, base, self.threat)


def stripes(view: View, x: Tensor, threat: Threat, streams: Streams) -> Tensor:
    """The start for Linf: every column of every channel moved by the radius up or down; for L2 and
    L1 a tiling of bumps of either sign.
    """
    start = x.clone()
    for s, r in zip(view.segments, threat.radii, strict=True):
        if r == 0:
            continue
        c, h, w = s.shape
        if threat.norm == "Linf":
            sign = (
                (2 * streams.integers(0, [2] * (c * w)) - 1).view(-1, c, 1, w).expand(-1, c, h, w)
            )
            delta = view.radius(threat, x)[s.start : s.stop] * sign.flatten(1).to(x)
        else:
            side = max(min(h, w) // 5, 1)
            tall, wide = math.ceil(h / side), math.ceil(w / side)
            sign = (2 * streams.integers(0, [2] * (c * tall * wide)) - 1).view(
                -1, c, tall, 1, wide, 1
            )
            tiles = (sign * bump(side, side).view(1, 1, 1, side, 1, side)).reshape(
                len(x), c, tall * side, wide * side
            )[..., :h, :w]
            delta = tiles.flatten(1)
            if threat.norm == "L2":  # for L1 the projection leaves the middles of the bumps
                delta = r * delta / delta.norm(dim=1, keepdim=True)
        start[:, s.start : s.stop] += delta.to(x)
    return view.project(start, x, threat)


@lru_cache(maxsize=256)
def window_at_origin(segment: Segment, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Flat places (C * side * side,) of a square in the corner of a modality, and how many rows and
    columns its corner can be at (2,).
    """
    c, h, w = segment.shape
    plane, line, column = (torch.arange(n, device=device) for n in (c, side, side))
    places = ((plane[:, None, None] * h + line[:, None]) * w + column).flatten()
    return places, torch.tensor((h - side + 1.0, w - side + 1.0), device=device)


def window(segment: Segment, side: int, u: Tensor) -> Tensor:
    """Flat places (R, C * side * side) of a square of a modality, whose corner the uniform numbers
    u (R, 2) draw.
    """
    origin, room = window_at_origin(segment, side, u.device)
    corner = (u * room).long()
    return origin + corner[:, :1].mul_(segment.shape[2]).add_(corner[:, 1:])


def signs(u: Tensor) -> Tensor:
    """-1 or 1 for uniform numbers."""
    return (u < 0.5) * -2.0 + 1.0


def squares(
    moved: Tensor,
    rows: Tensor | slice,
    clean: Tensor,
    own: Tensor,
    segment: Segment,
    radius: float,
    share: float,
    u: Tensor,
) -> None:
    """Algorithm 2, in place: one square at clean + radius or clean - radius, a sign for each
    channel, in these rows of moved (R, D); `own`: their rows of clean (B, D).
    """
    c, h, w = segment.shape
    side = min(max(round(math.sqrt(share * h * w)), 1), min(h, w) - 1 or 1)
    places = window(segment, side, u[:, :2]) + segment.start
    put = clean.take(own[:, None] * clean.shape[1] + places).view(len(own), c, -1)
    put += (radius * signs(u[:, 5 : 5 + c]).to(clean))[:, :, None]
    put = put.clamp_(0, 1).flatten(1)
    if isinstance(rows, slice):
        moved.scatter_(1, places, put)
    else:
        moved.view(-1).scatter_(0, (rows[:, None] * moved.shape[1] + places).view(-1), put.view(-1))


def odd_side(segment: Segment, share: float) -> int:
    """Side of the windows of algorithm 3: odd, and at least 3 where the image is."""
    h, w = segment.shape[1:]
    side = min(max(round(math.sqrt(share * h * w)), 3), min(h, w) - 1)
    return min(side + (side % 2 == 0), h, w)


def moved_l2(
    delta: Tensor, own: Tensor, segment: Segment, radius: float, share: float, u: Tensor
) -> Tensor:
    """Algorithm 3: the mass of two windows, and what the ball has left, is moved into a bump in the
    first of them.

    Args:
        delta: (B, d) perturbations of a modality.
        own: (R,) the one that each candidate begins at.
        segment, radius, share: the modality, its radius, and the share of its area that is moved.
        u: (R, n) uniform numbers.

    Returns:
        (R, d) perturbations, still to be projected.
    """
    side = odd_side(segment, share)
    left = (radius**2 - delta.square().sum(1, keepdim=True)).clamp_min(0)[own]
    moved, old, one, gone = emptied(delta[own], segment, side, u)
    mass = gone.square().sum(1, keepdim=True)
    mass = mass + moved.gather(1, one).square().sum(1, keepdim=True)
    aimed = bumps(segment, side, u, delta).flatten(1)
    aimed = aimed + old / old.norm(dim=1, keepdim=True).clamp_min(1e-10)
    length = aimed.norm(dim=1, keepdim=True).clamp_min(1e-10)
    return moved.scatter_(1, one, aimed / length * torch.sqrt(mass + left))


def moved_l1(
    delta: Tensor, own: Tensor, segment: Segment, radius: float, share: float, u: Tensor
) -> Tensor:
    """The L1 form of algorithm 3 (arXiv 2103.01208): the sums of two windows, and what
    the ball has left, are moved into a bump in the first of them, channel by channel.
    """
    c, side = segment.shape[0], odd_side(segment, share)
    left = (radius - delta.abs().sum(1, keepdim=True)).clamp_min(0)[own, :, None]
    moved, old, one, gone = emptied(delta[own], segment, side, u)
    mass = gone.abs().sum(1) + moved.gather(1, one).abs().sum(1)
    old, aimed = old.unflatten(1, (c, -1)), bumps(segment, side, u, delta)
    aimed = aimed + old / old.abs().sum(2, keepdim=True).clamp_min(1e-12)
    total = aimed.abs().sum(2, keepdim=True).clamp_min(1e-12)
    put = aimed / total * (left / c + mass[:, None, None])
    return moved.scatter_(1, one, put.flatten(1))


def emptied(
    delta: Tensor, segment: Segment, side: int, u: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Perturbations (R, d) without what lies in a second window, in place; what lay in the first,
    its places, and what lay in the second, (R, C * side * side) each.
    """
    one, two = window(segment, side, u[:, :2]), window(segment, side, u[:, 2:4])
    old, gone = delta.gather(1, one), delta.gather(1, two)
    return delta.scatter_(1, two, 0.0), old, one, gone


def bumps(segment: Segment, side: int, u: Tensor, like: Tensor) -> Tensor:
    """(R, C, side * side): upright or lying, of either sign in each channel."""
    upright = bump(side, side).to(like)
    lying = (u[:, 4] < 0.5)[:, None, None]
    lines = torch.where(lying, upright.T.flatten(), upright.flatten())
    return signs(u[:, 5 : 5 + segment.shape[0]]).to(like)[:, :, None] * lines


MOVES = {"L2": moved_l2, "L1": moved_l1}


@lru_cache(maxsize=64)
def bump(height: int, width: int) -> Tensor:
    """The paper's eta (eq. 2): growing rectangles of weight 1 / k^2, one half positive and one
    negative, of L2 norm 1.
    """
    eta = torch.zeros(height, width)
    for part, sign in ((slice(0, height // 2), 1.0), (slice(height // 2, height), -1.0)):
        block = torch.zeros_like(eta[part])
        row, column = block.shape[0] // 2, block.shape[1] // 2
        for k in range(max(row, column) + 1):
            block[max(row - k, 0) : row + k + 1, max(column - k, 0) : column + k + 1] += (
                1 / (k + 1) ** 2
            )
        eta[part] = sign * block
    return eta / eta.norm().clamp_min(1e-10)


ENTRY = Attack(name="square", function=square, norms=("Linf", "L2", "L1"), flips=True, chooses=True)
