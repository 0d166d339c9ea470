"""Sparse-RS: random search over which pixels to change, scores only (Croce et al., arXiv
2006.12834, algorithms 1 and 2).

It is a random search as Square is, whose `REVISION` speaks for this file too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robustbench_med.attacks.balls import L0, in_segments
from robustbench_med.attacks.entry import POSITIVE, Attack
from robustbench_med.attacks.random_search import Asked, RandomSearch, alike
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

SCHEDULE = (
    (0, 2),
    (50, 4),
    (200, 5),
    (500, 6),
    (1000, 8),
    (2000, 10),
    (4000, 12),
    (6000, 15),
    (8000, 20),
)
"""Of 10,000 queries: behind how many of them alpha is divided by what."""


def sparse_rs(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    queries: int = 1000,
    alpha: float = 0.3,
    loss: str = "margin",
    eot: int = 1,
) -> Tensor:
    """Some of the changed pixels of one modality go back and as many others take the darkest or
    brightest colours, a choice a query, kept where the loss rises.

    The modalities that have a radius take turns. A colour that the pixel has already is its
    opposite instead: on a black background half of all queries would change nothing.

    Args:
        queries: forward passes a sample at most, draws of one score not counted apart (the paper
            uses 10,000).
        alpha: share of the radius that is exchanged, before it falls by the paper's schedule.
        loss: "margin", "ce" or "dlr".
        eot: draws per score.
    """
    if threat.norm != "L0":
        raise RefusedError(f"sparse-rs changes few pixels, norm L0; under {threat.norm} try square")
    balls = [
        (part, ball)
        for part, ball in in_segments(threat, view.segments)
        if isinstance(ball, L0) and ball.radius > 0
    ]
    if not balls:
        return x.clone()

    knots = np.array([behind for behind, _ in SCHEDULE]) * queries

    def propose(now: Tensor, clean: Tensor, of: Tensor, numbers: Tensor, asked: Asked) -> Tensor:
        moved, clean = now[of], clean[of]
        schedule = np.searchsorted(knots, asked * 10_000) - 1
        for rows, kind in alike(schedule * len(balls) + asked % len(balls), x.device):
            part, ball = balls[kind % len(balls)]
            share = alpha / SCHEDULE[kind // len(balls)][1]
            moved[rows, part] = exchanged(
                moved[rows, part], clean[rows, part], ball, share, numbers[rows]
            )
        return view.present(moved, clean, threat)

    first = x.clone()
    for part, ball in balls:
        numbers = streams.uniform(needed(ball, 1.0))
        first[:, part] = exchanged(x[:, part], x[:, part], ball, 1.0, numbers)
    shares = max(needed(ball, alpha / SCHEDULE[0][1]) for _, ball in balls)
    search = RandomSearch(propose, shares, queries, loss, eot)
    return search.from_(view.present(first, x, threat), view, x, y, threat, streams)


def exchanges(ball: L0, share: float, places: int) -> int:
    """How many places a share of those that may change is."""
    return max(int(share * min(int(ball.radius), places)), 1)


def needed(ball: L0, share: float) -> int:
    """Uniform numbers that `exchanged` takes at most."""
    return (2 + ball.channels) * max(int(share * ball.radius), 1)


def exchanged(now: Tensor, clean: Tensor, ball: L0, share: float, u: Tensor) -> Tensor:
    """One modality (R, d) with a share of the places that may change given up for others.

    Places that may change and did not are given up first to last as those that did: nothing goes
    back for them.

    Args:
        now, clean: (R, d) best points and clean images.
        share: of the radius.
        u: (R, n) uniform numbers, see `needed`.
    """
    image, original = (part.unflatten(1, (ball.channels, -1)) for part in (now, clean))
    changed = (image != original).any(1)
    places = changed.shape[1]
    n = exchanges(ball, share, places)
    held = changed.sum(1)
    given_up = chosen(u[:, :n], held.new_full(held.shape, min(int(ball.radius), places)))
    come = chosen(u[:, n : 2 * n], places - held)
    gone, back = ranked(changed, given_up), given_up < held[:, None]
    fresh, there = ranked(~changed, come), come >= 0
    colours = (u[:, 2 * n : (2 + ball.channels) * n] < 0.5).to(image)
    colours = colours.unflatten(1, (ball.channels, n))
    before = original.gather(2, fresh[:, None].expand_as(colours))
    colours = torch.where((colours == before).all(1, keepdim=True), 1 - colours, colours)
    image = put(image, gone, back, original.gather(2, gone[:, None].expand_as(colours)))
    return put(image, fresh, there, colours).flatten(1)


def put(image: Tensor, places: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """The values (R, channels, n) at their places (R, n) of an image (R, channels, P), but for
    those that are masked out: a place more takes them, and is cut off.
    """
    spare = image.new_empty(*image.shape[:2], 1)
    index = torch.where(where, places, image.shape[2])[:, None].expand_as(values)
    return torch.cat((image, spare), 2).scatter(2, index, values)[:, :, :-1]


def chosen(u: Tensor, of: Tensor) -> Tensor:
    """(R, n) different whole numbers below `of` (R,), every set of them as likely as any other
    (Floyd's algorithm, CACM 30, 1987); -1 where there are fewer than n.
    """
    n = u.shape[1]
    taken = torch.full(u.shape, -1, dtype=torch.int64, device=u.device)
    for i in range(n):
        last = of - n + i
        number = (u[:, i] * (last + 1)).long()
        again = (taken == number[:, None]).any(1)
        taken[:, i] = torch.where(again, last, number).masked_fill(last < 0, -1)
    return taken


def ranked(mask: Tensor, ranks: Tensor) -> Tensor:
    """(R, n) places of the given ranks among those of a mask (R, P); the last place of all for
    ranks that it does not have.
    """
    counts = mask.cumsum(1)
    found = torch.searchsorted(counts, ranks.clamp_min(0) + 1)
    return found.clamp_max(mask.shape[1] - 1)


ENTRY = Attack(
    name="sparse-rs",
    function=sparse_rs,
    norms=("L0",),
    positive=(*POSITIVE, "alpha"),
    chooses=True,
)
