"""Clinical tables in the flat space: numeric columns with radii of their own, and categorical ones
of which some may take another value.

A categorical column is a group of coordinates that hold one 1 (one-hot), or all zeros where nothing
is known; that stays. Which values to take is decided to first order, as HotFlip does (arXiv
1712.06751, section 3): those whose coordinate is the largest of their group. A part of the view,
whose `REVISION` speaks for this file too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from robustbench_med.attacks.balls import Segment
from robustbench_med.attacks.threat import Columns, Threat

FAR = 2.0
"""What a step adds to the coordinate with the largest gradient of a table's groups: more than the 1
that says which value holds now.
"""


def towards(
    moved: Tensor, direction: Tensor, threat: Threat, segments: Sequence[Segment]
) -> Tensor:
    """`moved` (B, D) with the coordinates of categorical columns as far along a direction of ascent
    that the projection can take any value: a linear objective's optimum is one step away, whatever
    the step's length.
    """
    if not threat.flips:
        return moved
    moved = moved.clone()
    for m, columns in threat.tables():
        places = [
            segments[m].start + j for start, stop in columns.groups for j in range(start, stop)
        ]
        part = direction[:, places]
        largest = part.abs().amax(1, keepdim=True).clamp_min(torch.finfo(part.dtype).tiny)
        moved[:, places] = FAR * part / largest
    return moved


def flipped(
    moved: Tensor, x: Tensor, x0: Tensor, threat: Threat, segments: Sequence[Segment]
) -> Tensor:
    """`moved` (B, D) with its categorical columns at values: of each the one that x says most, in
    as many columns as may flip, those that gain most over the clean value; the clean ones
    elsewhere.
    """
    if not threat.flips:
        return moved
    moved = moved.clone()
    for m, columns in threat.tables():
        if not columns.flips:
            continue
        gains, others = [], []
        for start, stop in columns.groups:
            part = slice(segments[m].start + start, segments[m].start + stop)
            clean, wanted = x0[:, part], x[:, part]
            known = clean.any(1)
            now = (wanted * clean).sum(1)
            best, value = wanted.masked_fill(clean > 0, -torch.inf).max(1)
            gains.append(torch.where(known, best - now, -torch.inf))
            others.append(one_hot(value, stop - start).to(x0))
        gain = torch.stack(gains, 1)
        rank = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        flips = (rank < columns.flips) & (gain > 0)
        for g, (start, stop) in enumerate(columns.groups):
            part = slice(segments[m].start + start, segments[m].start + stop)
            moved[:, part] = torch.where(flips[:, g : g + 1], others[g], x0[:, part])
    return moved


def size(moved: Tensor, columns: Columns) -> Tensor:
    """(B,): the largest change of a column over its radius, times the table's radius; inf where one
    moved that must not. Flips count nothing here: `check` counts them.
    """
    radii = moved.new_tensor(columns.radii)
    for start, stop in columns.groups if columns.flips else ():
        radii[start:stop] = 1.0
    share = torch.where(moved > 0, moved / radii.clamp_min(torch.finfo(moved.dtype).tiny), 0.0)
    return share.amax(1) * columns.radius


def check(x: Tensor, x0: Tensor, columns: Columns) -> None:
    """Raises AssertionError where a table (B, D) has more flips than it may, or a categorical
    column without one value.
    """
    flips = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for start, stop in columns.groups:
        now, before = x[:, start:stop], x0[:, start:stop]
        flips += (now != before).any(1)
        if not (
            torch.isin(now, now.new_tensor((0.0, 1.0))).all()
            and (now.sum(1) == before.sum(1)).all()
        ):
            raise AssertionError("an attack left a categorical column without one value")
    if int(flips.max()) > columns.flips:
        raise AssertionError(
            f"an attack flipped {int(flips.max())} categorical columns, {columns.flips} may be"
        )


def items(columns: Columns) -> list[int]:
    """What a random search may change one at a time: places of numeric columns with a radius, and
    -1 - g for each categorical column g where some may flip.
    """
    numeric = [j for j, radius in enumerate(columns.radii) if radius > 0]
    return numeric + [-1 - g for g in range(len(columns.groups)) if columns.flips]


def propose(now: Tensor, clean: Tensor, columns: Columns, u: Tensor) -> Tensor:
    """Candidates of tables (B, D): one random column changed, a numeric one to an end of its range,
    a categorical one to a random value. Where no more may flip, one that did goes back.

    Args:
        u: uniform numbers (B, 5 + D).
    """
    u, able, moved = u.to(now), items(columns), now.clone()
    chosen = (u[:, 0] * len(able)).long()
    for number, item in enumerate(able):
        here = chosen == number
        if item >= 0:
            end = clean[:, item] + columns.radii[item] * (1 - 2 * (u[:, 1] < 0.5).to(now))
            moved[here, item] = end.clamp(0, 1)[here]
        else:
            moved[here] = flip(now[here], clean[here], columns, -1 - item, u[here])
    return moved


def flip(now: Tensor, clean: Tensor, columns: Columns, group: int, u: Tensor) -> Tensor:
    """Tables (R, D) with one categorical column at a random value."""
    moved, (start, stop) = now.clone(), columns.groups[group]
    changed = torch.stack([(now[:, a:b] != clean[:, a:b]).any(1) for a, b in columns.groups], 1)
    full = (changed.sum(1) >= columns.flips) & ~changed[:, group]
    back = (changed * (1 + u[:, 5 : 5 + changed.shape[1]])).argmax(1)
    for g, (a, b) in enumerate(columns.groups):
        undone = (full & (back == g))[:, None]
        moved[:, a:b] = torch.where(undone, clean[:, a:b], moved[:, a:b])
    value = one_hot((u[:, 2] * (stop - start)).long(), stop - start).to(now)
    known = clean[:, start:stop].any(1, keepdim=True)
    moved[:, start:stop] = torch.where(known, value, moved[:, start:stop])
    return moved
