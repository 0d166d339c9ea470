"""The flat space of an attack: one tensor (B, D) for all modalities of a sample, and what the
threat model means on it.

It is a part of the view, whose `REVISION` speaks for this file too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from robustbench_med.attacks import tables
from robustbench_med.attacks.balls import Segment, in_segments
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Counts, Norm, Threat

TOLERANCE = 1e-6  # float32 rounding of x + delta with x in [0, 1]


class RefusedError(ValueError):
    """An attack cannot do what it is asked, and says why; never approximated in silence."""


class Space:
    """Where several modalities lie in one flat tensor x (B, D) in [0, 1].

    Args:
        shapes: (C, H, W) of each modality.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        self.segments: list[Segment] = []
        start = 0
        for c, h, w in shapes:
            self.segments.append(Segment((c, h, w), start, start + c * h * w))
            start += c * h * w
        self.dim = start
        self._widths = [segment.stop - segment.start for segment in self.segments]
        self._radii: dict[object, tuple[Tensor, float | None]] = {}  # of the last threat

    def pack(self, modalities: Sequence[Tensor]) -> Tensor:
        """M tensors (B, C_m, H_m, W_m) -> (B, D)."""
        return torch.cat([modality.flatten(1) for modality in modalities], 1)

    def unpack(self, x: Tensor) -> list[Tensor]:
        """(B, D) -> M contiguous tensors (B, C_m, H_m, W_m)."""
        if len(self.segments) == 1:  # a slice's gradient would be copied
            return [x.reshape(-1, *self.segments[0].shape).contiguous()]
        parts = x.split(self._widths, 1)
        return [
            part.reshape(-1, *s.shape).contiguous()
            for part, s in zip(parts, self.segments, strict=True)
        ]

    def radius(self, threat: Threat, like: Tensor) -> Tensor:
        """The radius of every coordinate, (D,); not to be changed in place."""
        return self._radius(threat, like)[0]

    def _radius(self, threat: Threat, like: Tensor) -> tuple[Tensor, float | None]:
        """The radii, and the one of all coordinates, as `like` rounds it, where there is one."""
        key = (threat.radii, threat.columns, like.device, like.dtype)
        if key not in self._radii:
            parts = zip(self._widths, threat.radii, strict=True)
            radius = torch.cat([like.new_full((width,), r) for width, r in parts])
            for m, columns in threat.tables():
                radius[self.segments[m].start : self.segments[m].stop] = like.new_tensor(
                    columns.radii
                )
            several = {rounded(r, 1.0, like.dtype) for r in threat.radii}
            even = several.pop() if len(several) == 1 and not any(threat.tables()) else None
            self._radii = {key: (radius, even)}
        return self._radii[key]

    def step(self, x: Tensor, direction: Tensor, length: Tensor | float, threat: Threat) -> Tensor:
        """x (B, D) moved along a direction of ascent, not yet projected; `length`, a number or
        (B, 1): of the step as a share of each modality's radius (L0: `balls.L0.step`).
        """
        if threat.norm in ("Linf", "L2"):
            even = self._radius(threat, x)[1]
            if threat.norm == "Linf" and even is not None and not isinstance(length, Tensor):
                moved = x.add(direction.sign(), alpha=rounded(even, length, x.dtype))
            else:
                moved = self.steepest(direction, threat).mul_(length).add_(x)
            return tables.towards(moved, direction, threat, self.segments)
        length = length * x.new_ones(len(x), 1)
        balls = in_segments(threat, self.segments)
        return torch.cat([b.step(x[:, i], direction[:, i], length) for i, b in balls], 1)

    def steepest(self, gradient: Tensor, threat: Threat) -> Tensor:
        """Direction of steepest ascent, as long as the radius of each modality: r sign(g) for Linf,
        r g / |g| for L2.

        Raises:
            RefusedError: L1 or L0, where it depends on what the box leaves; see `step`.
        """
        if threat.norm not in ("Linf", "L2"):
            raise RefusedError(f"{threat.norm}: steepest ascent depends on the box; use View.step")
        if threat.norm == "Linf":
            return gradient.sign().mul_(self.radius(threat, gradient))
        return self.radius(threat, gradient) * self.normalised(gradient)

    def normalised(self, gradient: Tensor) -> Tensor:
        """Each sample's and modality's part of (B, D), of length 1 in L2; zero where it is zero."""
        parts = []
        for s in self.segments:
            part = gradient[:, s.start : s.stop]
            # scaled by its largest entry first: squares of tiny gradients would vanish in float32
            part = part / part.abs().amax(1, keepdim=True).clamp_min(torch.finfo(part.dtype).tiny)
            parts.append(part / part.norm(dim=1, keepdim=True).clamp_min(1e-12))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def project(self, x: Tensor, x0: Tensor, threat: Threat) -> Tensor:
        """The nearest point to x inside the ball around x0, per modality, then inside [0, 1]."""
        return self.present(self._projected(x, x0, threat), x0, threat)

    def present(self, x: Tensor, x0: Tensor, threat: Threat) -> Tensor:
        """x (B, D), but what is missing (all zeros) in x0 as it is there."""
        return self.missing_as_in(x0, x, [m for m in threat.optional if threat.radii[m]])

    def missing_as_in(self, x0: Tensor, x: Tensor, modalities: Sequence[int]) -> Tensor:
        """x (B, D), but those of these modalities that are missing (all zeros) in x0 missing."""
        for m in modalities:
            part = slice(self.segments[m].start, self.segments[m].stop)
            there = x0[:, part].any(1, keepdim=True)
            x = torch.cat((x[:, : part.start], x[:, part] * there, x[:, part.stop :]), 1)
        return x

    def _projected(self, x: Tensor, x0: Tensor, threat: Threat) -> Tensor:
        if threat.norm == "Linf":
            box, even = self._radius(threat, x)
            delta = x - x0
            delta = delta.clamp_(-box, box) if even is None else delta.clamp_(-even, even)
            moved = delta.add_(x0).clamp_(0, 1)
            return tables.flipped(moved, x, x0, threat, self.segments)
        if threat.norm != "L2":
            balls = in_segments(threat, self.segments)
            return torch.cat([ball.project(x[:, i], x0[:, i]) for i, ball in balls], 1)
        parts = []
        for s, r in zip(self.segments, threat.radii, strict=True):
            clean = x0[:, s.start : s.stop]
            if r == 0:
                parts.append(clean)
                continue
            delta = x[:, s.start : s.stop] - clean
            norm = delta.norm(dim=1, keepdim=True)
            delta *= r / norm.clamp_min(max(r, torch.finfo(norm.dtype).tiny))
            parts.append(delta.add_(clean).clamp_(0, 1))
        return parts[0] if len(parts) == 1 and r else torch.cat(parts, 1)

    def random_point(self, x0: Tensor, threat: Threat, streams: Streams) -> Tensor:
        """A point drawn uniformly from the ball around x0 (each modality's own), then moved into
        [0, 1].
        """
        if threat.norm == "Linf":
            unit = (2 * streams.uniform(self.dim) - 1).to(x0)
            point = x0 + self.radius(threat, x0) * unit
            point = tables.towards(point, unit, threat, self.segments)
            return self.project(point, x0, threat)
        if threat.norm != "L2":
            balls = in_segments(threat, self.segments)
            points = torch.cat([ball.random(x0[:, i], streams) for i, ball in balls], 1)
            return self.project(points, x0, threat)
        direction, length = streams.normal(self.dim), streams.uniform(len(self.segments))
        parts = []
        for m, (s, r) in enumerate(zip(self.segments, threat.radii, strict=True)):
            part = direction[:, s.start : s.stop]
            part = (
                part / part.norm(dim=1, keepdim=True) * length[:, m : m + 1] ** (1 / part.shape[1])
            )
            parts.append(r * part)
        return self.project(x0 + torch.cat(parts, 1).to(x0), x0, threat)

    def distances(self, x: Tensor, x0: Tensor, norm: Norm, counts: Counts = "pixels") -> Tensor:
        """Size of the perturbation of each modality, (B, M); in L0 how many `counts` changed."""
        space = Threat(norm, (0.0,) * len(self.segments), (), counts=counts)
        return torch.stack(self.sizes(x, x0, space), 1).to(x)

    def sizes(self, x: Tensor, x0: Tensor, threat: Threat) -> list[Tensor]:
        """Of each modality the size (B,) that its radius bounds; in L1 in double precision."""
        if threat.norm in ("L1", "L0"):
            balls = in_segments(threat, self.segments)
            return [ball.size(x[:, i], x0[:, i]) for i, ball in balls]
        order = torch.inf if threat.norm == "Linf" else 2
        delta = x - x0
        found = [delta[:, s.start : s.stop].norm(order, dim=1) for s in self.segments]
        for m, columns in threat.tables():
            segment = self.segments[m]
            moved = delta[:, segment.start : segment.stop].abs()
            found[m] = tables.size(moved, columns)
        return found

    def check(self, x: Tensor, x0: Tensor, threat: Threat) -> None:
        """Raises AssertionError when any x leaves its ball or [0, 1], or a trusted modality is not
        bit-identical; in L1 and L0 without a tolerance.
        """
        if not (x.isfinite().all() and x.min() >= 0 and x.max() <= 1):
            raise AssertionError("an attack returned a pixel outside [0, 1]")
        sizes = self.sizes(x, x0, threat)
        tolerance = 0.0 if threat.norm in ("L1", "L0") else TOLERANCE
        for m, (s, r) in enumerate(zip(self.segments, threat.radii, strict=True)):
            if r == 0 and not torch.equal(x[:, s.start : s.stop], x0[:, s.start : s.stop]):
                raise AssertionError(f"an attack changed modality {m}, which is trusted (radius 0)")
            worst = float(sizes[m].max())
            if worst > r * (1 + tolerance) + tolerance:
                raise AssertionError(
                    f"an attack moved modality {m} by {worst:.8g}, further than its radius {r:.8g}"
                )
        for m, columns in threat.tables():
            part = slice(self.segments[m].start, self.segments[m].stop)
            tables.check(x[:, part], x0[:, part], columns)
        if not torch.equal(self.present(x, x0, threat), x):
            raise AssertionError("an attack drew a modality that a sample misses")


@lru_cache(maxsize=64)
def rounded(one: float, other: float, dtype: torch.dtype) -> float:
    """The product of two numbers as a tensor's entry would have it."""
    return float(torch.tensor(one, dtype=dtype) * other)
