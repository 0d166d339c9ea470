"""Square Attack: random search with square patches, scores only (Andriushchenko et al., arXiv
1912.00049, algorithms 1 to 3; in L1 Croce & Hein, arXiv 2103.01208).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from robustbench_med.attacks.balls import Segment
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.losses import named, standing
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Norm, Threat
from robustbench_med.attacks.view import View

REVISION = 1
Propose = Callable[[Tensor, Tensor, float, torch.Generator], Tensor]
"""(best point (D,), clean image (D,), queries asked of 10,000, generator) -> candidate (D,)."""
AHEAD = 16
"""Candidates scored at once while fewer samples than that are left: a small batch costs little more
than one sample.
"""
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

    Every query draws a modality among those with a radius, and a patch in it. Against a random
    victim the incumbent is scored again beside each candidate, so that a lucky draw does not stay
    on the throne; both cost queries.

    Against a deterministic victim, few samples are asked several queries ahead at once, as if none
    of them succeeded; what comes after the first success is thrown away and asked again. The result
    is that of one query after another; passes are counted as they are made.

    Args:
        queries: forward passes a sample at most, draws of one score not counted apart (the paper
            uses 10,000, AutoAttack 5,000).
        p: share of the image's area that the first patches cover.
        loss: "margin", "ce" or "dlr".
        eot: draws per score.
    """
    segments = [(s, r) for s, r in zip(view.segments, threat.radii, strict=True) if r > 0]
    if not segments:
        return x.clone()

    def propose(now: Tensor, clean: Tensor, asked: float, generator: torch.Generator) -> Tensor:
        area = p * 0.5 ** sum(asked > knot for knot in SCHEDULE)
        return patched(now, clean, segments, threat.norm, area, generator)

    first = stripes(view, x, threat, streams)
    return random_search(
        view,
        x,
        y,
        threat,
        streams,
        first=first,
        propose=propose,
        queries=queries,
        loss=loss,
        eot=eot,
    )


def random_search(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    first: Tensor,
    propose: Propose,
    queries: int,
    loss: str,
    eot: int,
) -> Tensor:
    """Candidates one a query from the best point so far, the `first` (B, D) to begin with; kept
    where fewer tasks stand or the loss rises.
    """
    best = first
    value, share = score(view, best, y, threat, loss, eot)
    early = share.clone()
    random = view.random
    query = [1] * len(x)
    while rows := open_rows(query, share, queries, random):
        ahead = 1 if random else max(AHEAD // len(rows), 1)
        candidates = []
        after: dict[int, list[Tensor]] = {}  # each row's generator behind each of its candidates
        for row in rows:
            generator, after[row] = streams.generators[row], []
            for asked in range(query[row], min(query[row] + ahead, queries)):
                candidates.append(propose(best[row], x[row], asked / queries * 10_000, generator))
                after[row].append(generator.get_state())
        tried = torch.tensor([row for row in rows for _ in after[row]], device=x.device)
        candidate = view.project(torch.stack(candidates), x[tried], threat)
        now, stands = score(view, candidate, y[tried], threat, loss, eot)
        if random:
            value[tried], share[tried] = score(view, best[tried], y[tried], threat, loss, eot)
            better = now > value[tried]
        else:
            better = (stands < share[tried]) | ((stands == share[tried]) & (now > value[tried]))
        kept = settle(better.tolist(), after, query, streams, cost=2 if random else 1)
        moved = tried[kept]
        best[moved], value[moved], share[moved] = candidate[kept], now[kept], stands[kept]
        soon = [row for row in after if query[row] <= 0.75 * queries]
        early[soon] = share[soon]
    view.quarters = (early, share)
    return best


def patched(
    now: Tensor,
    clean: Tensor,
    segments: Sequence[tuple[Segment, float]],
    norm: Norm,
    area: float,
    generator: torch.Generator,
) -> Tensor:
    """A copy of the point `now` (D,) with a patch in one modality, drawn among the `segments`, each
    with its radius.
    """
    segment, radius = segments[int(Streams([generator]).integers(0, [len(segments)]))]
    patch = {"Linf": patch_linf, "L2": patch_l2, "L1": patch_l1}[norm]
    part = slice(segment.start, segment.stop)
    moved = now.clone()
    moved[part] = patch(moved[part], clean[part], segment, radius, area, generator)
    return moved


def settle(
    better: Sequence[bool],
    after: Mapping[int, Sequence[Tensor]],
    query: list[int],
    streams: Streams,
    *,
    cost: int,
) -> list[int]:
    """Which candidates are kept: of each row the first that is better. The row's queries and random
    numbers go on from there: what was tried beyond was tried on a point that is no more.

    Args:
        better: of every candidate, one row's after another's.
        after: of every row, the generator's state behind each of its candidates.
        query: queries asked of each row so far; counted on, in place.
        streams: whose generators are put back.
        cost: queries of one candidate.
    """
    kept, first = [], 0
    for row, states in after.items():
        outcomes = better[first : first + len(states)]
        last = outcomes.index(True) if True in outcomes else len(states) - 1
        if outcomes[last]:
            kept.append(first + last)
        streams.generators[row].set_state(states[last])
        query[row] += (last + 1) * cost
        first += len(states)
    return kept


def open_rows(query: Sequence[int], share: Tensor, queries: int, random: bool) -> list[int]:
    """Rows with queries left; against a deterministic victim only those on which something
    stands.
    """
    return [
        row
        for row, (asked, left) in enumerate(zip(query, share.tolist(), strict=True))
        if asked < queries and (random or left > 0)
    ]


@torch.no_grad()
def score(
    view: View, x: Tensor, y: Tensor, threat: Threat, loss: str, eot: int
) -> tuple[Tensor, Tensor]:
    """Loss (B,) and share still standing (B,), means over `eot` draws."""
    objective = named(loss, threat)
    logits = [view.logits(x) for _ in range(eot)]
    return torch.stack([objective(z, y) for z in logits]).mean(0), torch.stack(
        [standing(z, y, threat) for z in logits]
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
            delta = r * sign.flatten(1)
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


def patch_linf(
    now: Tensor,
    clean: Tensor,
    segment: Segment,
    radius: float,
    area: float,
    generator: torch.Generator,
) -> Tensor:
    """Algorithm 2: one square at clean + radius or clean - radius, a sign for each channel."""
    c, h, w = segment.shape
    side = min(max(round(math.sqrt(area * h * w)), 1), min(h, w) - 1 or 1)
    row, column = draw(h - side + 1, generator), draw(w - side + 1, generator)
    sign = (2 * torch.randint(2, (c, 1, 1), generator=generator) - 1).to(now)
    image, original = now.clone().view(c, h, w), clean.view(c, h, w)
    window = (slice(None), slice(row, row + side), slice(column, column + side))
    image[window] = original[window] + radius * sign
    return image.flatten()


def patch_l2(
    now: Tensor,
    clean: Tensor,
    segment: Segment,
    radius: float,
    area: float,
    generator: torch.Generator,
) -> Tensor:
    """Algorithm 3: the mass of two windows, and what the ball has left, is moved into a bump in the
    first of them.
    """
    c, h, w = segment.shape
    side = min(max(round(math.sqrt(area * h * w)), 3), min(h, w) - 1)
    side += side % 2 == 0
    side = min(side, h, w)
    first, second = (
        (draw(h - side + 1, generator), draw(w - side + 1, generator)) for _ in range(2)
    )
    delta = (now - clean).view(c, h, w).clone()
    one, two = ((slice(None), slice(r, r + side), slice(k, k + side)) for r, k in (first, second))
    union = torch.zeros(h, w, dtype=torch.bool, device=now.device)
    union[one[1:]] = union[two[1:]] = True
    mass = delta[:, union].square().sum((0, 1))
    left = (radius**2 - delta.square().sum()).clamp_min(0)
    sign = (2 * torch.randint(2, (c, 1, 1), generator=generator) - 1).to(now)
    lines = bump(side, side, transposed=bool(torch.randint(2, (1,), generator=generator))).to(now)
    old = delta[one]
    aimed = sign * lines + old / old.norm().clamp_min(1e-10)
    delta[two] = 0
    delta[one] = aimed / aimed.norm().clamp_min(1e-10) * torch.sqrt(mass + left)
    return clean + delta.flatten()


def patch_l1(
    now: Tensor,
    clean: Tensor,
    segment: Segment,
    radius: float,
    area: float,
    generator: torch.Generator,
) -> Tensor:
    """The L1 form of algorithm 3 (arXiv 2103.01208): the sums of two windows, and what
    the ball has left, are moved into a bump in the first of them, channel by channel.
    """
    c, h, w = segment.shape
    side = min(max(round(math.sqrt(area * h * w)), 3), min(h, w) - 1)
    side += side % 2 == 0
    side = min(side, h, w)
    one, two = (
        (slice(None), slice(row, row + side), slice(column, column + side))
        for row, column in (
            (draw(h - side + 1, generator), draw(w - side + 1, generator)) for _ in range(2)
        )
    )
    delta = (now - clean).view(c, h, w).clone()
    union = torch.zeros(h, w, dtype=torch.bool, device=now.device)
    union[one[1:]] = union[two[1:]] = True
    mass = delta[:, union].abs().sum()
    left = (radius - delta.abs().sum()).clamp_min(0)
    sign = (2 * torch.randint(2, (c, 1, 1), generator=generator) - 1).to(now)
    lines = bump(side, side, transposed=bool(torch.randint(2, (1,), generator=generator))).to(now)
    old = delta[one]
    aimed = sign * lines + old / old.abs().sum((1, 2), keepdim=True).clamp_min(1e-12)
    share = aimed.abs().sum((1, 2), keepdim=True).clamp_min(1e-12)
    delta[two] = 0
    delta[one] = aimed / share * (left / c + mass)
    return clean + delta.flatten()


def bump(height: int, width: int, *, transposed: bool = False) -> Tensor:
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
    eta = eta / eta.norm().clamp_min(1e-10)
    return eta.T if transposed else eta


def draw(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (1,), generator=generator))


ENTRY = Attack(name="square", function=square, norms=("Linf", "L2", "L1"))
