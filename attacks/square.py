"""Square Attack: random search with square patches, scores only (Andriushchenko et al., arXiv
1912.00049, algorithms 1 to 3; in L1 Croce & Hein, arXiv 2103.01208).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from robustbench_med.attacks import tables
from robustbench_med.attacks.balls import Segment
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.losses import named, standing
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 2
Propose = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(best points (R, D), clean images (R, D), uniform numbers (R, n), how many queries were asked
before, (R,) on the CPU) -> candidates (R, D) in the ball.
"""
AHEAD, SMALL, PATIENCE = 256, 16, 4
"""Candidates scored at once: at most `AHEAD`, and `SMALL` even while few samples are left, since a
small batch costs little more than one sample. Between them a sample is asked one more ahead for
every `PATIENCE` queries that failed: where candidates are rarely better, few are asked in vain.
"""
DRAWN = 256
"""Queries whose random numbers are drawn together."""
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

    of_table = {view.segments[m]: columns for m, columns in threat.tables()}
    knots = torch.tensor(SCHEDULE) * queries

    def propose(now: Tensor, clean: Tensor, numbers: Tensor, asked: Tensor) -> Tensor:
        moved = now.clone()
        halved = torch.bucketize(asked * 10_000, knots)
        for rows, kind in alike(halved * len(turns) + asked % len(turns), x.device):
            segment, radius = turns[kind % len(turns)]
            part = slice(segment.start, segment.stop)
            patch, share = PATCHES[threat.norm], p * 0.5 ** (kind // len(turns))
            if (columns := of_table.get(segment)) is not None:
                moved[rows, part] = tables.propose(
                    now[rows, part], clean[rows, part], columns, numbers[rows]
                )
                continue
            moved[rows, part] = patch(
                now[rows, part], clean[rows, part], segment, radius, share, numbers[rows]
            )
        if threat.norm == "Linf":
            return view.present(moved, clean, threat)
        return view.project(moved, clean, threat)

    first = stripes(view, x, threat, streams)
    most = max(segment.shape[0] for segment, _ in turns)
    search = RandomSearch(propose, 5 + most, queries, loss, eot)
    return search.from_(first, view, x, y, threat, streams)


@dataclass(frozen=True)
class RandomSearch:
    """Candidates one a query from the best point so far, kept where fewer tasks stand or the loss
    rises.

    Attributes:
        propose: makes them.
        numbers: uniform numbers that each takes.
        queries, loss, eot: those of `square`.
    """

    propose: Propose
    numbers: int
    queries: int
    loss: str
    eot: int

    def from_(
        self, first: Tensor, view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams
    ) -> Tensor:
        """Where the search ends that begins at `first` (B, D)."""
        best, random = first, view.random
        value, share = score(view, best, y, threat, self.loss, self.eot)
        early, numbers = share.clone(), Numbers(streams.spawn(), self.numbers)
        asked = torch.ones(len(x), dtype=torch.int64)  # queries of each row, on the CPU
        failed = torch.zeros(len(x), dtype=torch.int64)  # since the last that was kept
        while len(rows := self.open(asked, share, random=random)):
            ahead = torch.ones_like(rows)
            if not random and view.queries is None:  # each of a black box's counts
                least, most = (max(n // len(rows), 1) for n in (SMALL, AHEAD))
                ahead = (failed[rows] // PATIENCE).clamp(least, most)
                ahead = ahead.minimum(self.queries - asked[rows])
            row = rows.repeat_interleave(ahead)
            place = torch.arange(len(row)) - (ahead.cumsum(0) - ahead).repeat_interleave(ahead)
            tried, query = row.to(x.device), asked[row] + place
            candidate = self.propose(best[tried], x[tried], numbers.of(row, query), query)
            with view.only(tried):
                now, stands = score(view, candidate, y[tried], threat, self.loss, self.eot)
            if random:
                value[tried], share[tried] = score(
                    view, best[tried], y[tried], threat, self.loss, self.eot
                )
                better = (now > value[tried]).cpu()
                asked[rows] += 2
            else:
                before, level = share[tried], value[tried]
                better = ((stands < before) | ((stands == before) & (now > level))).cpu()
                first_of = torch.full_like(asked, self.queries)
                first_of.scatter_reduce_(0, row[better], place[better], "amin")
                better &= place == first_of[row]
                used = torch.minimum(first_of[rows] + 1, ahead)
                asked[rows] += used
                failed[rows] += used
            kept = better.nonzero().squeeze(1)
            if len(kept):
                moved, kept_row = tried[kept], row[kept]
                failed[kept_row] = 0
                best[moved], value[moved] = candidate[kept], now[kept]
                share[moved] = stands[kept]
                soon = moved[asked[kept_row] <= 0.75 * self.queries]
                early[soon] = share[soon]
        view.quarters = (early, share)
        return best

    def open(self, asked: Tensor, share: Tensor, *, random: bool) -> Tensor:
        """Rows with queries left, on the CPU; against a deterministic victim only those on which
        something stands.
        """
        left = asked < self.queries
        return (left if random else left & (share > 0).cpu()).nonzero().squeeze(1)


def alike(kinds: Tensor, device: torch.device) -> Iterator[tuple[Tensor | slice, int]]:
    """The rows of each kind, and the kind."""
    several = kinds.unique().tolist()
    for kind in several:
        rows = slice(None) if len(several) == 1 else (kinds == kind).nonzero().squeeze(1).to(device)
        yield rows, kind


class Numbers:
    """Uniform numbers of every query of every sample, which depend on neither order nor company;
    drawn for many queries at once.

    Args:
        streams: where they come from.
        each: of one query.
    """

    def __init__(self, streams: Streams, each: int) -> None:
        self.streams, self.each = streams, each
        self.tables: dict[int, Tensor] = {}

    def of(self, rows: Tensor, query: Tensor) -> Tensor:
        """(R, each): of each of these queries of these samples."""
        block, place = query // DRAWN, query % DRAWN
        needed = block.unique().tolist()
        self.tables = {n: self.tables[n] if n in self.tables else self.drawn(n) for n in needed}
        if len(needed) == 1:
            return self.tables[needed[0]][rows, place]
        numbers = self.tables[needed[0]].new_empty(len(rows), self.each)
        for n in needed:
            here = block == n
            numbers[here] = self.tables[n][rows[here], place[here]]
        return numbers

    def drawn(self, number: int) -> Tensor:
        """(B, DRAWN, each)."""
        numbers = self.streams.numbered(number).uniform(DRAWN * self.each)
        return numbers.unflatten(1, (DRAWN, self.each))


@torch.no_grad()
def score(
    view: View, x: Tensor, y: Tensor, threat: Threat, loss: str, eot: int
) -> tuple[Tensor, Tensor]:
    """Loss (B,) and share still standing (B,), means over `eot` draws."""
    objective = named(loss, threat)
    if eot == 1:
        logits = view.logits(x, y)
        return objective(logits, y), standing(logits, y, threat)
    drawn = [view.logits(x, y) for _ in range(eot)]
    return torch.stack([objective(z, y) for z in drawn]).mean(0), torch.stack(
        [standing(z, y, threat) for z in drawn]
    ).mean(0)


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
def window_at_origin(segment: Segment, side: int, device: torch.device) -> Tensor:
    """Flat places (C * side * side,) of a square in the corner of a modality."""
    c, h, w = segment.shape
    plane, line, column = (torch.arange(n, device=device) for n in (c, side, side))
    return ((plane[:, None, None] * h + line[:, None]) * w + column).flatten()


def window(segment: Segment, side: int, u: Tensor) -> Tensor:
    """Flat places (R, C * side * side) of a square of a modality, whose corner the uniform numbers
    u (R, 2) draw.
    """
    h, w = segment.shape[1:]
    corner = (u * u.new_tensor((h - side + 1, w - side + 1))).long()
    origin = window_at_origin(segment, side, u.device)
    return origin + (corner[:, :1] * w + corner[:, 1:])


def signs(u: Tensor) -> Tensor:
    """-1 or 1 for uniform numbers."""
    return (u < 0.5) * -2.0 + 1.0


def patch_linf(
    now: Tensor, clean: Tensor, segment: Segment, radius: float, share: float, u: Tensor
) -> Tensor:
    """Algorithm 2: one square at clean + radius or clean - radius, a sign for each channel."""
    c, h, w = segment.shape
    side = min(max(round(math.sqrt(share * h * w)), 1), min(h, w) - 1 or 1)
    places = window(segment, side, u[:, :2])
    sign = signs(u[:, 5 : 5 + c]).to(now).repeat_interleave(side * side, 1)
    return now.scatter(1, places, (clean.gather(1, places) + radius * sign).clamp(0, 1))


def odd_side(segment: Segment, share: float) -> int:
    """Side of the windows of algorithm 3: odd, and at least 3 where the image is."""
    h, w = segment.shape[1:]
    side = min(max(round(math.sqrt(share * h * w)), 3), min(h, w) - 1)
    return min(side + (side % 2 == 0), h, w)


def patch_l2(
    now: Tensor, clean: Tensor, segment: Segment, radius: float, share: float, u: Tensor
) -> Tensor:
    """Algorithm 3: the mass of two windows, and what the ball has left, is moved into a bump in the
    first of them.
    """
    side, delta = odd_side(segment, share), now - clean
    left = (radius**2 - delta.square().sum(1, keepdim=True)).clamp_min(0)
    old, one, two = taken(delta, segment, side, u)
    emptied = delta.scatter(1, two, 0.0)
    mass = delta.gather(1, two).square().sum(1, keepdim=True)
    mass = mass + emptied.gather(1, one).square().sum(1, keepdim=True)
    aimed = bumps(segment, side, u, now).flatten(1)
    aimed = aimed + old / old.norm(dim=1, keepdim=True).clamp_min(1e-10)
    length = aimed.norm(dim=1, keepdim=True).clamp_min(1e-10)
    return clean + emptied.scatter(1, one, aimed / length * torch.sqrt(mass + left))


def patch_l1(
    now: Tensor, clean: Tensor, segment: Segment, radius: float, share: float, u: Tensor
) -> Tensor:
    """The L1 form of algorithm 3 (arXiv 2103.01208): the sums of two windows, and what
    the ball has left, are moved into a bump in the first of them, channel by channel.
    """
    c, side, delta = segment.shape[0], odd_side(segment, share), now - clean
    left = (radius - delta.abs().sum(1, keepdim=True)).clamp_min(0)[:, :, None]
    old, one, two = taken(delta, segment, side, u)
    emptied = delta.scatter(1, two, 0.0)
    mass = delta.gather(1, two).abs().sum(1) + emptied.gather(1, one).abs().sum(1)
    old, aimed = old.unflatten(1, (c, -1)), bumps(segment, side, u, now)
    aimed = aimed + old / old.abs().sum(2, keepdim=True).clamp_min(1e-12)
    total = aimed.abs().sum(2, keepdim=True).clamp_min(1e-12)
    put = aimed / total * (left / c + mass[:, None, None])
    return clean + emptied.scatter(1, one, put.flatten(1))


def taken(delta: Tensor, segment: Segment, side: int, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What lies in the first window, and the places of both, (R, C * side * side) each."""
    one, two = window(segment, side, u[:, :2]), window(segment, side, u[:, 2:4])
    return delta.gather(1, one), one, two


def bumps(segment: Segment, side: int, u: Tensor, like: Tensor) -> Tensor:
    """(R, C, side * side): upright or lying, of either sign in each channel."""
    upright = bump(side, side).to(like)
    lying = (u[:, 4] < 0.5)[:, None, None]
    lines = torch.where(lying, upright.T.flatten(), upright.flatten())
    return signs(u[:, 5 : 5 + segment.shape[0]]).to(like)[:, :, None] * lines


PATCHES = {"Linf": patch_linf, "L2": patch_l2, "L1": patch_l1}


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
