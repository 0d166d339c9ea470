"""HopSkipJump, which sees decisions only: "every attacked task is wrong" (Chen et al., arXiv
1904.02144, algorithm 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.entry import LINF_L2, Attack
from robustbench_med.attacks.losses import standing
from robustbench_med.attacks.minimal import Minimal, Smallest, proportions
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 2
TOGETHER = 8
"""Random directions of each sample that are asked about at once."""
GAMMA = 0.01
"""Where a search along a line ends: this share of the radius of a random direction."""
PROBE = 0.1
"""Size of the first probes around a point, for pixels in [0, 1]."""
HALVINGS = 20  # of a step at most


def hopskipjump(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    evaluations: int = 1000,
    initial: int = 100,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    All samples of a batch go on together. The perturbation is measured over the proportions of the
    radii, as one number says how large it is.

    Args:
        steps: iterations.
        evaluations: queries of one gradient estimate at most.
        initial: queries of the first gradient estimate, and random images tried for a first
            adversarial; by turns of single pixels and of large squares.
        eot: draws per decision; more than half of them must be broken.
    """
    given = {"steps": steps, "evaluations": evaluations, "initial": initial, "eot": eot}
    return hopskipjump_minimal(view, x, y, threat, streams, **given).within(view, x, threat)


def hopskipjump_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    evaluations: int,
    initial: int,
    eot: int,
) -> Minimal:
    """`hopskipjump`, whatever the size of what it finds."""
    if initial > evaluations:
        raise RefusedError(
            f"initial queries ({initial}) must not exceed the evaluations of one estimate"
            f" ({evaluations})"
        )

    def along(walk: Walk, point: Tensor) -> Tensor:
        return walk.along_the_boundary(point, steps, initial, evaluations)

    return walked(view, x, y, threat, streams, along, tries=initial, eot=eot)


def walked(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    along: Callable[[Walk, Tensor], Tensor],
    *,
    tries: int,
    eot: int,
) -> Minimal:
    """The ends of walks by decisions.

    Args:
        along: (walk, its first broken points) -> the samples (R, D) where it ends, broken.
        tries: random images that are tried for a first broken point.
        eot: draws per decision.
    """
    smallest = Smallest(view, x, y, threat)
    rows = smallest.open()
    if max(threat.radii) == 0 or len(rows) == 0:
        return smallest.found(noted=False)
    p = proportions(view, threat, x)
    walk = Walk(view, x[rows], y[rows], threat, streams.take(rows), p, eot)
    with view.only(rows):
        point, found = walk.first(tries)
    if not view.whole:
        rows, point, walk = rows[found], point[found], walk.among(found)
    if len(rows):
        with view.only(rows):
            end = along(walk, point)
            smallest.offer(rows, end, view.standing(end, y[rows], threat))
            smallest.last(rows, end)
    return smallest.found(noted=False)


@dataclass(frozen=True)
class Walk:
    """Samples on their way: images (R, D) are points whose perturbation is divided by the
    proportions `p` of the radii, so that one ball serves all modalities.
    """

    view: View
    x0: Tensor
    y: Tensor
    threat: Threat
    streams: Streams
    p: Tensor
    eot: int

    def among(self, rows: Tensor) -> Walk:
        """Some of the samples, a mask (R,)."""
        streams = self.streams.take(rows.nonzero().squeeze(1))
        return Walk(self.view, self.x0[rows], self.y[rows], self.threat, streams, self.p, self.eot)

    def broken_of(self, image: Tensor, who: Tensor) -> Tensor:
        """The same of one image a sample, (R,), asked about those of a mask; of others False."""
        if not who.any():
            return who
        if self.view.queries is None or self.view.random or who.all():
            return self.broken(image) & who
        rows, hit = who.nonzero().squeeze(1), torch.zeros_like(who)
        with self.view.only(rows):
            hit[rows] = self.among(who).broken(image[rows])
        return hit

    @torch.no_grad()
    def broken(self, image: Tensor) -> Tensor:
        """Whether every attacked task is wrong, (k R,), of k images a sample one after another."""
        copies = len(image) // len(self.x0)
        x, y = self.place(image), self.y.repeat(copies, 1)
        drawn = [standing(self.view.logits(x, y), y, self.threat) for _ in range(self.eot)]
        return torch.stack(drawn).mean(0) * len(self.threat.tasks) < 0.5

    def place(self, image: Tensor) -> Tensor:
        """Images (k R, D) as samples."""
        x0 = self.x0.repeat(len(image) // len(self.x0), 1)
        return (x0 + self.p * (image - x0)).clamp(0, 1)

    def first(self, tries: int) -> tuple[Tensor, Tensor]:
        """The first random image (R, D) of each sample that is broken, and whether there is one."""
        point, found = self.x0.clone(), torch.zeros_like(self.x0[:, 0], dtype=torch.bool)
        streams = self.streams.spawn()  # who is found draws no less than who is not
        for turn in range(tries):
            image = streams.numbered(turn).uniform(self.view.dim).to(self.x0)
            image = self.in_squares(image) if turn % 2 else image
            hit = self.broken_of(image, ~found)
            point[hit], found = image[hit], found | hit
            if found.all():
                break
        return point, found

    def in_squares(self, image: Tensor) -> Tensor:
        """The image with the pixels of a quarter of each side alike."""
        planes = []
        for s in self.view.segments:
            plane = image[:, s.start : s.stop].unflatten(1, s.shape)
            side = [max(n // 4, 1) for n in s.shape[1:]]
            places = (torch.arange(n, device=image.device) for n in s.shape[1:])
            line, column = (each - each % step for each, step in zip(places, side, strict=True))
            planes.append(plane[:, :, line][:, :, :, column].flatten(1))
        return torch.cat(planes, 1)

    def distance(self, point: Tensor) -> Tensor:
        """(R, 1) from the clean image."""
        order = torch.inf if self.threat.norm == "Linf" else 2
        return (point - self.x0).norm(order, dim=1, keepdim=True)

    def to_boundary(self, point: Tensor) -> Tensor:
        """The broken end of a search along the line to the clean image (in Linf: along clippings to
        ever smaller boxes), as close to the boundary as `GAMMA` says.
        """
        linf, dim = self.threat.norm == "Linf", int((self.p > 0).sum())
        high = self.distance(point) if linf else torch.ones_like(point[:, :1])
        low, delta = torch.zeros_like(high), point - self.x0
        end = point
        for _ in range(math.ceil(math.log2((dim if linf else math.sqrt(dim)) / GAMMA))):
            middle = (low + high) / 2
            inner = delta.clamp(-middle, middle) if linf else middle * delta
            inner = self.x0 + inner
            hit = self.broken(inner)[:, None]
            end = torch.where(hit, inner, end)
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        return end

    def along_the_boundary(
        self, point: Tensor, steps: int, initial: int, evaluations: int
    ) -> Tensor:
        """The samples (R, D) where the walk ends that begins at broken points."""
        point = self.to_boundary(point)
        for t in range(steps):
            far = self.distance(point)
            probe = GAMMA * far if t else torch.full_like(far, PROBE)
            queries = min(int(initial * math.sqrt(t + 1)), evaluations)
            way = self.direction(point, probe.clamp_min(1e-12), queries)
            point = self.to_boundary(self.jump(point, way, far / math.sqrt(t + 1)))
        return self.place(point)

    def direction(self, point: Tensor, probe: Tensor, queries: int) -> Tensor:
        """Estimates where the decision turns, (R, D): random directions around points on the
        boundary, each weighted by what is decided there less the mean (equation 16).
        """
        linf, n, moves = self.threat.norm == "Linf", len(point), (self.p > 0).to(point)
        weighted, plain = torch.zeros_like(point), torch.zeros_like(point)
        decided = point.new_zeros(n, 1)
        for done in range(0, queries, TOGETHER):
            k = min(TOGETHER, queries - done)
            dim = k * self.view.dim
            drawn = 2 * self.streams.uniform(dim) - 1 if linf else self.streams.normal(dim)
            noise = moves * drawn.to(point).unflatten(1, (k, -1)).transpose(0, 1)  # (k, R, D)
            noise = noise / noise.norm(dim=2, keepdim=True).clamp_min(1e-12)
            tried = (point + probe * noise).clamp(0, 1)
            noise = (tried - point) / probe
            value = 2 * self.broken(tried.flatten(0, 1)).view(k, n, 1).to(point) - 1
            weighted, plain = weighted + (value * noise).sum(0), plain + noise.sum(0)
            decided = decided + value.sum(0)
        alike = decided.abs() == queries
        way = torch.where(alike, decided * plain, weighted - decided / queries * plain)
        return way.sign() if linf else way / way.norm(dim=1, keepdim=True).clamp_min(1e-30)

    def jump(self, point: Tensor, way: Tensor, length: Tensor) -> Tensor:
        """The point moved as far along the way as it stays broken, halving a length (R, 1); where
        no step does, the point.
        """
        moved, waits = point, torch.ones_like(length, dtype=torch.bool)
        for _ in range(HALVINGS):
            tried = (point + length * way).clamp(0, 1)
            hit = self.broken_of(tried, waits.squeeze(1))[:, None]
            moved, waits = torch.where(hit, tried, moved), waits & ~hit
            if not waits.any():
                break
            length = length / 2
        return moved


ENTRY = Attack(name="hopskipjump", function=hopskipjump, norms=LINF_L2, minimal=hopskipjump_minimal)
