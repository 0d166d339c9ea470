"""Random search, scores only: what Square and Sparse-RS share. Square's `REVISION` speaks for this
file too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks.losses import JointLoss, named, standing
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

Asked = NDArray[np.int64]
"""(R,): how many queries each candidate's sample was asked before."""
Propose = Callable[[Tensor, Tensor, Tensor, Tensor, Asked], Tensor]
"""(best points (B, D), clean images (B, D), whose row each candidate begins at (R,), uniform
numbers (R, n), how many queries were asked before (R,)) -> candidates (R, D) in the ball.
"""
AHEAD, SMALL, PATIENCE = 256, 16, 4
"""Candidates scored at once: at most `AHEAD`, and `SMALL` even while few samples are left, since a
small batch costs little more than one sample. Between them a sample is asked one more ahead for
every `PATIENCE` queries that failed: where candidates are rarely better, few are asked in vain.
"""
DRAWN = 256
"""Queries whose random numbers are drawn together."""


@dataclass(frozen=True)
class RandomSearch:
    """Candidates one a query from the best point so far, kept where fewer tasks stand or the loss
    rises. Who is asked what is counted on the host, which waits for a device once a pass.

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
        objective = named(self.loss, threat, labels=y)

        def scores(at: Tensor, labels: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
            found = score(view, at, labels, threat, objective, self.eot)
            return on_host(found[0]), on_host(found[1])

        value, share = (each.copy() for each in scores(best, y))
        early, numbers = share.copy(), Numbers(streams.spawn(), self.numbers)
        asked = np.ones(len(x), np.int64)  # queries of each row
        failed = np.zeros(len(x), np.int64)  # since the last that was kept
        alone = random or view.queries is not None  # each query of a black box counts
        while len(rows := np.flatnonzero((asked < self.queries) & (random | (share > 0)))):
            ahead = np.ones_like(rows) if alone else self.ahead(asked[rows], failed[rows])
            of = np.arange(len(rows)).repeat(ahead)
            row, query = rows[of], asked[rows][of] + np.arange(len(of))
            query -= (ahead.cumsum() - ahead)[of]
            tried = on(row, x)
            few = 2 * len(rows) < len(x)  # else it costs less to look at all
            here: Tensor | slice = on(rows, x) if few else slice(None)
            whose = on(of, x) if few else tried
            candidate = self.propose(best[here], x[here], whose, numbers.of(row, query), query)
            labels = y[tried]
            with view.only(tried):
                now, stands = scores(candidate, labels)
                if random:
                    value[row], share[row] = scores(best[tried], labels)
            if random:
                kept = np.flatnonzero(now > value[row])
                asked[rows] += 2
            else:
                before, level = share[row], value[row]
                better = (stands < before) | ((stands == before) & (now > level))
                kept = first_of_each(of, np.flatnonzero(better))
                asked[rows] += ahead
                asked[row[kept]] = query[kept] + 1
                failed[rows] += ahead
            if len(kept):
                moved = row[kept]
                failed[moved] = 0
                best[on(moved, x)] = candidate[on(kept, x)]
                value[moved], share[moved] = now[kept], stands[kept]
                soon = moved[asked[moved] <= 0.75 * self.queries]
                early[soon] = share[soon]
        view.quarters = on(early, x), on(share, x)
        return best

    def ahead(self, asked: NDArray[np.int64], failed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Queries that each of some samples is asked next."""
        least, most = (max(n // len(asked), 1) for n in (SMALL, AHEAD))
        wanted = np.minimum(np.maximum(failed // PATIENCE, least), most)
        return np.minimum(wanted, self.queries - asked)


def first_of_each(of: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of some ascending places of each sample; `of` (R,), ascending, says whose."""
    whose, new = of[places], np.ones(len(places), bool)
    np.not_equal(whose[1:], whose[:-1], out=new[1:])
    return places[new]


def on(numbers: NDArray[Any], like: Tensor) -> Tensor:
    """A tensor where `like` is."""
    return torch.from_numpy(numbers).to(like.device)


def on_host(numbers: Tensor) -> NDArray[Any]:
    """An array, of 32 bits where NumPy knows no such numbers."""
    return (numbers.float() if numbers.dtype == torch.bfloat16 else numbers).cpu().numpy()


def alike(kinds: NDArray[np.int64], device: torch.device) -> Iterator[tuple[Tensor | slice, int]]:
    """The rows of each kind, and the kind."""
    several = np.flatnonzero(np.bincount(kinds)).tolist()
    for kind in several:
        rows = (
            slice(None)
            if len(several) == 1
            else torch.from_numpy(np.flatnonzero(kinds == kind)).to(device)
        )
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
        self.blocks, self.tables = list[int](), list[Tensor]()
        self.numbers = torch.empty(0, each)  # of all tables, a row a query

    def of(self, rows: NDArray[np.int64], query: NDArray[np.int64]) -> Tensor:
        """(R, each): of each of these queries of these samples."""
        first, last = (int(each) // DRAWN for each in (query.min(), query.max()))
        if first != last or self.blocks != [first]:
            needed = np.unique(query // DRAWN).tolist()
            if needed != self.blocks:
                known = dict(zip(self.blocks, self.tables, strict=True))
                self.tables = [known[n] if n in known else self.drawn(n) for n in needed]
                self.blocks, self.numbers = needed, torch.cat(self.tables)
        place = rows * DRAWN + query % DRAWN
        if first != last:
            table = np.searchsorted(np.array(self.blocks), query // DRAWN)
            place += table * (len(self.streams) * DRAWN)
        return self.numbers[on(place, self.numbers)]

    def drawn(self, number: int) -> Tensor:
        """(B * DRAWN, each)."""
        numbers = self.streams.numbered(number).uniform(DRAWN * self.each)
        return numbers.view(-1, self.each)


@torch.no_grad()
def score(
    view: View, x: Tensor, y: Tensor, threat: Threat, objective: JointLoss, eot: int
) -> tuple[Tensor, Tensor]:
    """Loss (B,) and share still standing (B,), means over `eot` draws."""
    if eot == 1:
        logits = view.logits(x, y)
        return objective(logits, y), standing(logits, y, threat)
    drawn = [view.logits(x, y) for _ in range(eot)]
    return torch.stack([objective(z, y) for z in drawn]).mean(0), torch.stack(
        [standing(z, y, threat) for z in drawn]
    ).mean(0)
