"""Sparse-RS: random search over which pixels to change, scores only (Croce et al., arXiv
2006.12834, algorithms 1 and 2).

It is a random search as Square is, whose `REVISION` speaks for this file too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.balls import L0, in_segments
from robustbench_med.attacks.entry import POSITIVE, Attack
from robustbench_med.attacks.square import draw, random_search
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

    Every query draws a modality among those with a radius. A colour that the pixel has already is
    its opposite instead: on a black background half of all queries would change nothing.

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

    def propose(now: Tensor, clean: Tensor, asked: float, generator: torch.Generator) -> Tensor:
        divisor = max(by for behind, by in SCHEDULE if asked > behind)
        part, ball = balls[draw(len(balls), generator)]
        moved = now.clone()
        moved[part] = exchanged(moved[part], clean[part], ball, alpha / divisor, generator)
        return moved

    first = x.clone()
    for row, generator in enumerate(streams.generators):
        for part, ball in balls:
            first[row, part] = exchanged(x[row, part], x[row, part], ball, 1.0, generator)
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


def exchanged(
    now: Tensor, clean: Tensor, ball: L0, share: float, generator: torch.Generator
) -> Tensor:
    """One modality (d,) with a share of the places that may change given up for others.

    Places that may change and did not are given up first to last as those that did: nothing goes
    back for them.
    """
    most, channels = int(ball.radius), ball.channels
    image, original = now.clone().view(channels, -1), clean.view(channels, -1)
    changed = (image != original).any(0)
    held, free = (places.nonzero().squeeze(1) for places in (changed, ~changed))
    most = min(most, image.shape[1])
    n = max(int(share * most), 1)
    given_up = torch.randperm(most, generator=generator)[:n].to(held.device)
    gone = held[given_up[given_up < len(held)]]
    come = free[torch.randperm(len(free), generator=generator)[:n].to(free.device)]
    colours = torch.randint(2, (channels, len(come)), generator=generator).to(image)
    same = (colours == original[:, come]).all(0)
    image[:, gone] = original[:, gone]
    image[:, come] = torch.where(same, 1 - colours, colours)
    return image.flatten()


ENTRY = Attack(name="sparse-rs", function=sparse_rs, norms=("L0",), positive=(*POSITIVE, "alpha"))
