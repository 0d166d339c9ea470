"""The balls of L1 and L0 in one modality, inside the box of images: nearest points, steps of
steepest ascent, random points.

A modality's part of a batch is (B, d) in [0, 1]. What is projected is inside the ball exactly, as
float32 holds it: no tolerance. Linf and L2 are a line each in `View`, whose `REVISION` speaks for
this file too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat

ROUNDING = 1e-12
"""Share of an L1 radius that is left to the rounding of sums in double precision."""
PACE = 8.0
"""Of L0: how far a step of a whole radius moves a coordinate on average. The usual 20 steps of an
eighth move it by the whole range, 100 by a fifth (0.15 in the code of
arXiv 1909.05040): enough for a pixel to take another's place.
"""


@dataclass(frozen=True)
class Segment:
    """Where one modality lies in the flat tensor."""

    shape: tuple[int, int, int]
    start: int
    stop: int


@dataclass(frozen=True)
class L1:
    """The sum of absolute changes is at most the radius."""

    radius: float

    def size(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,) in double precision."""
        return (wide(x) - wide(x0)).abs().sum(1)

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The nearest point to x within the ball around x0 and [0, 1] (arXiv 2103.01208,
        section 2).

        Every coordinate gives up as much of its change as every other, and none goes further than
        the border of the box. What it keeps is rounded towards x0.
        """
        clean = wide(x0)
        change = wide(x) - clean
        size, room = change.abs(), torch.where(change > 0, 1 - clean, clean)
        kept = torch.minimum(size, room)
        outside = kept.sum(1) > self.radius
        given_up = threshold(size[outside], room[outside], self.radius)
        shrunk = torch.minimum((size[outside] - given_up).clamp_min(0), room[outside])
        total = shrunk.sum(1, keepdim=True).clamp_min(torch.finfo(shrunk.dtype).tiny)
        kept[outside] = shrunk * (self.radius * (1 - ROUNDING) / total).clamp_max(1)
        moved = (clean + kept * change.sign()).to(x)
        beyond = ((wide(moved) - clean).abs() > kept).to(x.device)
        moved = torch.where(beyond, torch.nextafter(moved, x0), moved)
        return torch.where(outside.to(x.device)[:, None], moved, x.clamp(0, 1))

    def step(self, x: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
        """x moved by `length` (B, 1) radii along the coordinates of the largest gradient, each as
        far as the box lets it, until the step is spent: the steepest ascent in the box (arXiv
        2103.01208, section 2). None goes further than `length` (all of it where the radius is
        below 1): a gradient tells little of what lies a whole range away.
        """
        budget = length * self.radius
        room = torch.where(gradient > 0, 1 - x, x) * (gradient != 0)
        room = torch.minimum(room, budget / max(self.radius, 1.0))
        order = gradient.abs().argsort(dim=1, descending=True, stable=True)
        ordered = room.gather(1, order)
        before = ordered.cumsum(1) - ordered
        taken = torch.minimum((budget - before).clamp_min(0), ordered)
        return x + gradient.sign() * torch.zeros_like(x).scatter(1, order, taken)

    def random(self, x0: Tensor, streams: Streams) -> Tensor:
        """Points drawn uniformly from the ball, whatever the box: exponential variables over their
        sum and that of one more.
        """
        d = x0.shape[1]
        exponential = -torch.log1p(-streams.uniform(d + 1).double())
        share = exponential[:, :d] / exponential.sum(1, keepdim=True)
        signs = 2 * (streams.uniform(d) < 0.5) - 1
        return x0 + (self.radius * share * signs).to(x0)


@dataclass(frozen=True)
class L0:
    """At most so many places change, the `channels` of a place together."""

    radius: float
    channels: int

    def size(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,) how many places changed."""
        return (x != x0).unflatten(1, (self.channels, -1)).any(1).sum(1)

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The nearest point to x within the ball around x0 and [0, 1] (PGD_0 of arXiv
        1909.05040): the places kept are those whose return would be the longest way.
        """
        inside = x.clamp(0, 1)
        gain = (x - x0).square() - (x - inside).square()
        return torch.where(self.chosen(gain.unflatten(1, (self.channels, -1)).sum(1)), inside, x0)

    def step(self, x: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
        """x moved along the gradient, each coordinate by `PACE` times `length` (B, 1) on average
        (PGD_0 of arXiv 1909.05040); not at all where nothing may change.
        """
        # scaled by its largest entry first: sums of tiny gradients would vanish in float32
        largest = gradient.abs().amax(1, keepdim=True)
        gradient = gradient / largest.clamp_min(torch.finfo(x.dtype).tiny)
        mean = gradient.abs().mean(1, keepdim=True)
        return x + (self.radius > 0) * PACE * length * gradient / mean.clamp_min(1e-30)

    def random(self, x0: Tensor, streams: Streams) -> Tensor:
        """Uniform values in as many random places as may change."""
        d = x0.shape[1]
        chosen = self.chosen(streams.uniform(d // self.channels).to(x0.device))
        return torch.where(chosen, streams.uniform(d).to(x0), x0)

    def chosen(self, value: Tensor) -> Tensor:
        """(B, d) whether a coordinate belongs to one of the places of the largest value (B,
        places), as many as may change; of equal ones the first.
        """
        rows = value.argsort(dim=1, descending=True, stable=True)[:, : int(self.radius)]
        places = torch.zeros_like(value, dtype=torch.bool).scatter(1, rows, True)
        return places.repeat(1, self.channels)


def in_segments(threat: Threat, segments: Sequence[Segment]) -> list[tuple[slice, L1 | L0]]:
    """Each modality's part of (B, D), and its ball under a threat in L1 or L0."""
    found: list[tuple[slice, L1 | L0]] = []
    for segment, radius in zip(segments, threat.radii, strict=True):
        channels = segment.shape[0] if threat.counts == "pixels" else 1
        ball = L1(radius) if threat.norm == "L1" else L0(radius, channels)
        found.append((slice(segment.start, segment.stop), ball))
    return found


def nearest_l1(x: Tensor, x0: Tensor, radius: Tensor) -> Tensor:
    """As `L1.project` with a radius for each sample, (B, 1), up to float32's rounding."""
    clean = wide(x0)
    change, bound = wide(x) - clean, wide(radius)
    size, room = change.abs(), torch.where(change > 0, 1 - clean, clean)
    kept = torch.minimum(size, room)
    outside = kept.sum(1) > bound[:, 0]
    given_up = threshold(size[outside], room[outside], bound[outside])
    kept[outside] = torch.minimum((size[outside] - given_up).clamp_min(0), room[outside])
    return (clean + kept * change.sign()).to(x)


def nearest_l0(x: Tensor, x0: Tensor, places: Tensor, channels: int) -> Tensor:
    """As `L0.project` with a number of places for each sample, (B, 1)."""
    inside = x.clamp(0, 1)
    gain = (x - x0).square() - (x - inside).square()
    order = gain.unflatten(1, (channels, -1)).sum(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return torch.where((rank < places).repeat(1, channels), inside, x0)


def wide(x: Tensor) -> Tensor:
    """In double precision; on the CPU where the device (MPS) has none."""
    return x.cpu().double() if x.device.type == "mps" else x.double()


def threshold(size: Tensor, room: Tensor, radius: float | Tensor) -> Tensor:
    """(B, 1): how much t each coordinate gives up, so that the sum of min((size - t)+, room) is the
    radius, one or (B, 1); it has to be above it at t = 0.

    The sum falls piecewise linearly in t: a coordinate gives way between size - room, where it
    leaves the border of the box, and size, where nothing of it is left.
    """
    knots = torch.cat(((size - room).clamp_min(0), size), 1)
    slopes = torch.cat((-torch.ones_like(size), torch.ones_like(size)), 1)
    knots, order = knots.sort(1)
    slope = slopes.gather(1, order).cumsum(1)  # behind each knot
    first = torch.minimum(size, room).sum(1, keepdim=True)
    falls = (slope[:, :-1] * knots.diff(dim=1)).cumsum(1)
    sums = first + torch.cat((torch.zeros_like(first), falls), 1)  # at each knot
    last = (sums >= radius).sum(1, keepdim=True).clamp_min(1) - 1
    above = (sums.gather(1, last) - radius).clamp_min(0)
    return knots.gather(1, last) + above / (-slope.gather(1, last)).clamp_min(1)
