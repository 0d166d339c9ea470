"""Patches: a rectangle of any content on each image, and nothing else (Brown et al., arXiv
1712.09665; the place moved as in Rao et al., arXiv 2005.02313).

A film mark, a marker or a device in the picture: no radius bounds it, only its share of the area
and [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from robustbench_med.attacks.entry import COMMON_CHOICES, POSITIVE, SHARES, Attack
from robustbench_med.attacks.losses import named
from robustbench_med.attacks.pgd import Lowest, decayed
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import Combine, RefusedError, View

REVISION = 1
OPTIMISED, RANDOM_PLACE = "optimised", "random"
MOVES, REACH = 8, 0.25
"""How often a patch tries to move, in the first three quarters of the steps, and how far, as a
share of the image's sides.
"""


def patch(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    size: float = 0.05,
    place: str = OPTIMISED,
    steps: int = 60,
    step_size: float = 0.1,
    candidates: int = 8,
    places: int = 4,
    loss: str = "margin",
    eot: int = 1,
    combine: Combine = "mean",
) -> Tensor:
    """One patch on every modality whose radius is not 0, of the image's proportions, its content
    made for that image by signed steps.

    Args:
        size: share of the image's area.
        place: "optimised": the best of some places, from which the patch moves on; "random": nobody
            chooses it, the content is made for places in general (EOT over them) and the patch lies
            at one that the attack never saw.
        steps: of the content.
        step_size: of the first, in grey values of [0, 1]; the others shrink along half a cosine.
        candidates: places that an optimised one is chosen from.
        places: drawn for each step where the place is random.
        loss: "ce", "margin", "dlr" or "pma".
        eot: draws of a random victim per gradient.
        combine: of the draws' gradients, see `View.gradient`.

    Raises:
        RefusedError: columns of a table are to be attacked, which are no images.
    """
    if threat.columns:
        raise RefusedError("a patch lies on images; trust the columns of tables")
    spots = Spots(view, threat, size, x)
    content = streams.uniform(spots.width).to(x)
    run = Run(view, spots, threat, loss, eot, combine, step_size, steps)
    if place == RANDOM_PLACE:
        content = run.anywhere(x, y, content, streams, places)
        moved = spots.paste(x, content, spots.drawn(streams))
    else:
        moved = run.somewhere(x, y, content, streams, candidates)
    return view.present(moved, x, threat)


class Spots:
    """Where patches may lie: one on each image whose radius is not 0.

    Args:
        size: share of each image's area.
        like: of the device and type of images.
    """

    def __init__(self, view: View, threat: Threat, size: float, like: Tensor) -> None:
        self.frames: list[tuple[int, int, int, int, int, int]] = []
        for segment, radius in zip(view.segments, threat.radii, strict=True):
            if radius:
                c, height, width = segment.shape
                h, w = (max(1, round(math.sqrt(size) * side)) for side in (height, width))
                self.frames.append((segment.start, c, height, width, h, w))
        self.width = sum(c * h * w for _, c, _, _, h, w in self.frames)
        self.device = like.device

    def drawn(self, streams: Streams) -> Tensor:
        """Corners (B, 2 a patch) drawn uniformly: rows and columns."""
        room = [n for _, _, height, width, h, w in self.frames for n in (height - h, width - w)]
        return streams.integers(0, [n + 1 for n in room]).to(self.device)

    def near(self, corners: Tensor, streams: Streams) -> Tensor:
        """Corners (B, 2 a patch) at most `REACH` of a side away."""
        sides = [n for frame in self.frames for n in frame[2:4]]
        room = [n - m for frame in self.frames for n, m in zip(frame[2:4], frame[4:], strict=True)]
        reach = [max(1, round(REACH * side)) for side in sides]
        offsets = streams.integers(0, [2 * n + 1 for n in reach]).to(corners)
        most = torch.tensor(room, device=corners.device)
        moved = corners + offsets - torch.tensor(reach, device=corners.device)
        return torch.minimum(moved.clamp_min(0), most)

    def index(self, corners: Tensor) -> Tensor:
        """(B, width) coordinates of the flat image that the patches cover."""
        parts = []
        for m, (start, c, height, width, h, w) in enumerate(self.frames):
            channel, row, column = (
                torch.arange(n, device=self.device).view(shape)
                for n, shape in ((c, (-1, 1, 1)), (h, (1, -1, 1)), (w, (1, 1, -1)))
            )
            inside = (start + (channel * height + row) * width + column).flatten()
            corner = corners[:, 2 * m] * width + corners[:, 2 * m + 1]
            parts.append(inside + corner[:, None])
        return torch.cat(parts, 1)

    def paste(self, x: Tensor, content: Tensor, corners: Tensor) -> Tensor:
        """The images (B, D) with patches (B, width) on them."""
        return x.scatter(1, self.index(corners), content) if self.frames else x.clone()


class Run:
    """How contents are made; the arguments are those of `patch`."""

    def __init__(
        self,
        view: View,
        spots: Spots,
        threat: Threat,
        loss: str,
        eot: int,
        combine: Combine,
        step_size: float,
        steps: int,
    ) -> None:
        self.view, self.spots, self.threat, self.steps = view, spots, threat, steps
        self.compare = not view.random
        self.eot, self.combine, self.step_size = eot, combine, step_size
        self.objective = named(loss, threat, standing_only=self.compare)

    def lengths(self) -> Iterator[float]:
        """Of each step."""
        for step in range(self.steps):
            yield self.step_size * decayed(step, self.steps)

    def anywhere(
        self, x: Tensor, y: Tensor, content: Tensor, streams: Streams, places: int
    ) -> Tensor:
        """A content that does its work wherever it lies."""
        for length in self.lengths():
            total = torch.zeros_like(content)
            for _ in range(places):
                corners = self.spots.drawn(streams)
                total += self.gradient(x, y, content, corners)[0]
            content = (content + length * total.sign()).clamp_(0, 1)
        return content

    def somewhere(
        self, x: Tensor, y: Tensor, content: Tensor, streams: Streams, candidates: int
    ) -> Tensor:
        """Images with the best patch, at the best place, that was found: of a deterministic victim
        the one under which least stands.
        """
        corners = self.best_of(x, y, content, streams, candidates)
        found, every = Lowest(x), max(1, 3 * self.steps // (4 * MOVES))
        rows = torch.arange(len(x), device=x.device)
        for step, length in enumerate(self.lengths()):
            gradient, standing = self.gradient(x, y, content, corners)
            found.note(rows, self.spots.paste(x, content, corners), standing)
            if self.compare and not (standing > 0).any():
                return found.best
            content = (content + length * gradient.sign()).clamp_(0, 1)
            if step % every == every - 1 and step < 3 * self.steps / 4:
                there = self.spots.near(corners, streams)
                here, moved = (self.loss(x, y, content, place) for place in (corners, there))
                corners = torch.where((moved > here)[:, None], there, corners)
        last = self.spots.paste(x, content, corners)
        if not self.compare:
            return last
        found.note(rows, last, self.view.standing(last, y, self.threat))
        return found.best

    def best_of(self, x: Tensor, y: Tensor, content: Tensor, streams: Streams, n: int) -> Tensor:
        """The corners, of n drawn, where this content does most."""
        best = self.spots.drawn(streams)
        highest = self.loss(x, y, content, best) if n > 1 else x.new_zeros(len(x))
        for _ in range(n - 1):
            corners = self.spots.drawn(streams)
            loss = self.loss(x, y, content, corners)
            better = loss > highest
            best = torch.where(better[:, None], corners, best)
            highest = torch.where(better, loss, highest)
        return best

    def gradient(
        self, x: Tensor, y: Tensor, content: Tensor, corners: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of the loss by the content (B, width), and the share standing (B,)."""
        found = self.view.gradient(
            self.spots.paste(x, content, corners),
            y,
            self.threat,
            loss=self.objective,
            eot=self.eot,
            combine=self.combine,
        )
        return found.direction.gather(1, self.spots.index(corners)), found.standing

    @torch.no_grad()
    def loss(self, x: Tensor, y: Tensor, content: Tensor, corners: Tensor) -> Tensor:
        """The loss (B,), mean over the view's draws."""
        drawn = self.view.predictions(self.spots.paste(x, content, corners), y)
        return torch.stack([self.objective(logits, y) for logits in drawn]).mean(0)


ENTRY = Attack(
    name="patch",
    function=patch,
    targeted=False,
    norms=("Linf",),
    radius_free=(),
    choices={**COMMON_CHOICES, "place": (OPTIMISED, RANDOM_PLACE)},
    positive=(*POSITIVE, "size", "candidates", "places"),
    shares=(*SHARES, "size"),
    random={"combine": "normalised"},
)
