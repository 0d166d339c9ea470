"""The boundary attack, which sees decisions only and estimates no gradient: a random walk along the
boundary, ever closer to the image (Brendel et al., arXiv 1712.04248).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.entry import POSITIVE, Attack
from robustbench_med.attacks.hopskipjump import Walk, walked
from robustbench_med.attacks.minimal import Minimal
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1
TRIED = 10
"""Steps of a kind after which its length is adapted."""
LOW, HIGH, FACTOR = 0.2, 0.5, 1.5
"""Shares of them that were broken below which steps get shorter, above which longer, by this."""
CONVERGED = 1e-7
"""Share of the way to the image below which a step no longer matters."""
LONGEST = 1.0


def boundary(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 2500,
    initial: int = 100,
    sphere_step: float = 0.1,
    inward_step: float = 0.1,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    A step moves at random on the sphere around the image; where that is still adversarial, a second
    one moves towards the image, and is kept where it is adversarial too. Both get longer or shorter
    as the boundary is flat or curved. All samples of a batch go on together, each with steps of its
    own. The perturbation is measured over the proportions of the radii, as one number says how
    large it is.

    Three things are not the paper's: the walk begins at the boundary on the line to a random image;
    a step on the sphere is kept where the one inwards fails; lengths are adapted after every
    `TRIED` answers of a sample.

    Args:
        steps: two queries each at most.
        initial: random images tried for a first adversarial, from which a search along the line to
            the image leads to the boundary.
        sphere_step, inward_step: first lengths of the steps, shares of the distance to the image.
        eot: draws per decision; more than half of them must be broken.
    """
    found = boundary_minimal(
        view,
        x,
        y,
        threat,
        streams,
        steps=steps,
        initial=initial,
        sphere_step=sphere_step,
        inward_step=inward_step,
        eot=eot,
    )
    return found.within(view, x, threat)


def boundary_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    initial: int,
    sphere_step: float,
    inward_step: float,
    eot: int,
) -> Minimal:
    """`boundary`, whatever the size of what it finds."""

    def along(walk: Walk, point: Tensor) -> Tensor:
        lengths = Lengths.of(point, sphere_step), Lengths.of(point, inward_step)
        return inwards(walk, point, steps, *lengths)

    return walked(view, x, y, threat, streams, along, tries=initial, eot=eot)


@dataclass
class Lengths:
    """The lengths (R, 1) of steps of a kind, shares of the distance to the image, and how many of
    each sample were tried and were broken since they were adapted.
    """

    length: Tensor
    tried: Tensor
    broken: Tensor

    @classmethod
    def of(cls, point: Tensor, length: float) -> Lengths:
        """The same for every sample (R, D)."""
        first = torch.full_like(point[:, :1], length)
        return cls(first, torch.zeros_like(first), torch.zeros_like(first))

    def heard(self, hit: Tensor, who: Tensor) -> None:
        """Counts what was answered (R,) of those (R,) that were asked about, and adapts the
        lengths of those that have been tried often enough.
        """
        self.tried, self.broken = self.tried + who[:, None], self.broken + (hit & who)[:, None]
        full, share = self.tried >= TRIED, self.broken / self.tried.clamp_min(1)
        change = torch.where(share > HIGH, FACTOR, torch.where(share < LOW, 1 / FACTOR, 1.0))
        self.length = torch.where(full, self.length * change, self.length).clamp(max=LONGEST)
        self.tried, self.broken = (torch.where(full, 0, n) for n in (self.tried, self.broken))


def inwards(walk: Walk, point: Tensor, steps: int, sphere: Lengths, inward: Lengths) -> Tensor:
    """The samples (R, D) where the walk ends that begins at broken points."""
    x0, moves = walk.x0, walk.p > 0
    point = walk.to_boundary(torch.where(moves, point, x0))
    for _ in range(steps):
        goes = (inward.length > CONVERGED).squeeze(1)
        if not goes.any():
            break
        far = (point - x0).norm(dim=1, keepdim=True)
        noise = walk.streams.normal(walk.view.dim).to(point) * moves
        around = on_sphere(point - x0, noise, sphere.length, far)
        around = (x0 + around).clamp(0, 1)
        hit = walk.broken_of(around, goes)
        sphere.heard(hit, goes)
        nearer = x0 + (around - x0) * shrunk(around - x0, far, inward.length)
        closer = walk.broken_of(nearer, hit)
        inward.heard(closer, hit)
        point = torch.where(closer[:, None], nearer, torch.where(hit[:, None], around, point))
    return walk.place(point)


def on_sphere(delta: Tensor, noise: Tensor, length: Tensor, far: Tensor) -> Tensor:
    """The perturbation (R, D), which is `far` (R, 1) long, moved at right angles to itself by a
    share `length` (R, 1) of that along the noise, and back onto the sphere.
    """
    way = delta / far.clamp_min(1e-30)
    noise = noise - (noise * way).sum(1, keepdim=True) * way
    noise = noise / noise.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return (delta + length * far * noise) / (1 + length.square()).sqrt()


def shrunk(delta: Tensor, far: Tensor, length: Tensor) -> Tensor:
    """By what (R, 1) a perturbation is multiplied to be a share `length` nearer than `far` (R, 1);
    never by more than 1, as clipping may have brought it nearer.
    """
    return ((1 - length) * far / delta.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp(max=1)


ENTRY = Attack(
    name="boundary",
    function=boundary,
    minimal=boundary_minimal,
    norms=("L2",),
    radius_free=("L2",),
    positive=(*POSITIVE, "sphere_step", "inward_step"),
)
