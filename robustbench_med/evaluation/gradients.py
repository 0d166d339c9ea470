"""Whether a victim's gradients say where to go: what they foretell against what the logits do, of
each attacked task and modality, at the clean images, half way and at an attack's adversarials.

All of it is about the margin of one task alone: losses that add up or saturate hide what a gradient
is worth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from robustbench_med.attacks import Threat, View
from robustbench_med.attacks.losses import margin
from robustbench_med.data import Samples
from robustbench_med.evaluation.batching import drawn, shapes_of, together
from robustbench_med.evaluation.types import Clean, Setting

SAMPLES = 16
STEPS = (1 / 16, 1 / 16, 1 / 8, 1 / 8, 1 / 4, 1 / 4)
"""Lengths of the random directions along which differences are taken, as shares of the radius:
several, so that one kink does not decide.
"""
OWN_STEP = 1 / 8
"""The same along the attack's own perturbation."""
LONGEST = 8 / 255
"""Radii beyond this count as this: gradients say nothing about what is far away."""
SIGNIFICANT = 1e-4
"""Share of the logits' range below which a difference is none."""
COPIES = 4
PLACES = ("on clean images", "half way", "at the adversarials")


@dataclass(frozen=True)
class Place:
    """What the gradients of n samples are worth at one place of an attack's path. T attacked tasks,
    M modalities that may move; NaN where a sample has no label or nothing to compare.

    Attributes:
        where: in words.
        tasks, modalities: their numbers.
        dead: (T, M, n) 1 where the gradient is exactly zero or not finite though the logits move.
        agreement: (T, M, n) cosine between foretold and measured changes along random directions.
        own: (T, M, n) the same along the attack's perturbation, by size too: 2 p m / (p^2 + m^2) of
            foretold p and measured m, 1 where they are equal, negative where their signs differ.
    """

    where: str
    tasks: tuple[int, ...]
    modalities: tuple[int, ...]
    dead: NDArray[np.float64]
    agreement: NDArray[np.float64]
    own: NDArray[np.float64]


@dataclass(frozen=True)
class Probing:
    """Who is probed on what.

    Attributes:
        rows: numbers of the samples, ascending.
        moved: flat adversarials (D,) by sample; clean images stand for those that are missing.
    """

    victim: nn.Module
    samples: Samples
    rows: NDArray[np.int64]
    moved: Mapping[int, Tensor]
    threat: Threat
    clean: Clean
    setting: Setting

    @property
    def modalities(self) -> tuple[int, ...]:
        """Those that may move, but tables: their columns are no directions of small steps."""
        tables = [m for m, _ in self.threat.tables()]
        return tuple(m for m, r in enumerate(self.threat.radii) if r > 0 and m not in tables)

    def view(self) -> View:
        """The victim, a draw a pass."""
        return View(self.victim, shapes_of(self.samples))

    def there(self, view: View, x: Tensor) -> Tensor:
        """(M', B): which of these modalities the samples x (B, D) have."""
        there = [
            part.flatten(1).any(1) | (m not in self.threat.optional)
            for m, part in enumerate(view.unpack(x))
        ]
        return torch.stack([there[m] for m in self.modalities])

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """The samples in the batches they are computed in."""
        whole = self.clean.drawing == "batch"
        return together(self.rows, len(self.samples), self.setting, whole=whole)

    def pair(self, view: View, part: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Clean images and adversarials of a batch, (B, D) each, where the victim is."""
        x = view.pack(self.samples.batch(part))
        moved = [self.moved.get(int(row), x[i]) for i, row in enumerate(part)]
        return x.to(self.setting.device), torch.stack(moved).to(self.setting.device)


def rows_of(clean: Clean, threat: Threat) -> NDArray[np.int64]:
    """The first samples that are ever right at an attacked task."""
    return np.flatnonzero(clean.right[:, list(threat.tasks)].max(1) > 0)[:SAMPLES]


def look(probing: Probing) -> list[Place]:
    """What gradients are worth at each place; only the clean images where nothing was moved."""
    places = PLACES if probing.moved else PLACES[:1]
    parts = [[of_batch(probing, part, place) for part in probing.batches()] for place in places]
    return [
        Place(
            place,
            probing.threat.tasks,
            probing.modalities,
            *(np.concatenate(each, 2) for each in zip(*of_place, strict=True)),
        )
        for place, of_place in zip(places, parts, strict=True)
    ]


def of_batch(
    probing: Probing, part: NDArray[np.int64], place: str
) -> tuple[NDArray[np.float64], ...]:
    """`dead`, `agreement` and `own` (T, M, samples of this batch that are probed)."""
    margins = Margins(probing, part)
    clean, moved = probing.pair(margins.view, part)
    x = {PLACES[0]: clean, PLACES[1]: (clean + moved) / 2, PLACES[2]: moved}[place]
    onward = clean - moved if place == PLACES[2] else moved - clean
    base, gradient = margins.gradients(x)
    least = torch.maximum(margins.least, 10 * (margins.at(x) - base).abs())
    nothing = (gradient == 0).all(2)  # with respect to no modality
    noted = []
    for m in probing.modalities:
        unit, own_part = margins.unit(m), gradient[:, :, margins.slice(m)]
        foretold, measured, answers = [], [], torch.zeros_like(nothing)
        for share, direction in zip(STEPS, margins.random_directions(x, m), strict=True):
            change = margins.at(x + share * unit * direction) - base
            foretold.append((gradient * direction).sum(2))
            measured.append(change / (share * unit))
            answers |= change.abs() > least
        zero, finite = (own_part == 0).all(2), own_part.isfinite().all(2)
        dead = (zero & (answers | nothing)) | ~finite
        step = OWN_STEP * unit * margins.scaled(onward, m)
        p, change = (gradient * step).sum(2), margins.at(x + step) - base
        moves = torch.maximum(p.abs(), change.abs()) > least
        noted.append(
            (
                dead.double(),
                torch.where(answers & finite & ~zero, cosine(foretold, measured), torch.nan),
                torch.where(moves & finite & ~zero, alike(p, change), torch.nan),
            )
        )
    probed = torch.from_numpy(np.isin(part, probing.rows))
    of_modalities = (torch.stack(each, 1).double() for each in zip(*noted, strict=True))
    counted = margins.labelled[:, None] & probing.there(margins.view, clean)
    return tuple(
        torch.where(counted, each, torch.nan).cpu()[:, :, probed].numpy() for each in of_modalities
    )


class Margins:
    """The margins of the attacked tasks on one batch, (T, B): positive where a task is wrong. Every
    pass gets the same random numbers, so that differences are those of the images.
    """

    def __init__(self, probing: Probing, part: NDArray[np.int64], purpose: str = "probe") -> None:
        self.probing, self.part, self.purpose = probing, part, purpose
        self.view = probing.view()
        self.y = probing.samples.labels[part].to(probing.setting.device)
        self.labelled = (self.y[:, list(probing.threat.tasks)] >= 0).T
        self.least = torch.zeros(())
        """(T, 1): changes up to this are none."""

    def drawn(self) -> contextlib.AbstractContextManager[None]:
        """The same random numbers each time."""
        case = self.probing
        return drawn(
            self.view, case.clean.drawing, case.setting, case.samples.ids, self.part, self.purpose
        )

    def of(self, logits: Sequence[Tensor]) -> Tensor:
        """(T, B)."""
        tasks = self.probing.threat.tasks
        return torch.stack([margin(logits[t], self.y[:, t].clamp_min(0)) for t in tasks])

    @torch.no_grad()
    def at(self, x: Tensor) -> Tensor:
        """At x (B, D)."""
        with self.drawn():
            return self.of(self.view.logits(x, self.y))

    def gradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The margins at x and their gradients (T, B, D), zero where a graph is cut."""
        leaf = x.detach().clone().requires_grad_()
        with self.drawn(), torch.enable_grad():
            logits = self.view.logits(leaf, self.y)
            margins = self.of(logits)
            gradients = [gradient_of(value, leaf) for value in margins]
        spans = [
            (logits[t].amax(1) - logits[t].amin(1)).detach().nan_to_num(0, 0, 0).median()
            for t in self.probing.threat.tasks
        ]
        self.least = SIGNIFICANT * torch.stack(spans)[:, None]
        return margins.detach(), torch.stack(gradients)

    def slice(self, m: int) -> slice:
        """Where a modality lies in the flat tensor."""
        return slice(self.view.segments[m].start, self.view.segments[m].stop)

    def unit(self, m: int) -> float:
        """A modality's radius as the size of one pixel's move."""
        radius, part = self.probing.threat.radii[m], self.slice(m)
        n, norm = part.stop - part.start, self.probing.threat.norm
        radius /= {"Linf": 1.0, "L2": n**0.5}.get(norm, n)  # all move by as much
        return min(radius, LONGEST)

    def random_directions(self, x: Tensor, m: int) -> Iterator[Tensor]:
        """Directions (B, D) in one modality, a coin for every pixel; pixels at a border of [0, 1]
        move inwards or not at all.
        """
        part, edge = self.slice(m), max(STEPS) * self.unit(m)
        generator = torch.Generator().manual_seed(m)
        inside = x[:, part]
        for _ in STEPS:
            coins = torch.randint(0, 2, inside.shape, generator=generator).to(x) * 2 - 1
            coins = torch.where((inside + edge * coins < 0) | (inside + edge * coins > 1), 0, coins)
            direction = torch.zeros_like(x)
            direction[:, part] = coins
            yield direction

    def scaled(self, delta: Tensor, m: int) -> Tensor:
        """One modality's part of perturbations (B, D), the largest entry 1; zero where there is
        none.
        """
        part, scaled = self.slice(m), torch.zeros_like(delta)
        own = delta[:, part]
        scaled[:, part] = own / own.abs().amax(1, keepdim=True).clamp_min(1e-30)
        return scaled


def gradient_of(values: Tensor, leaf: Tensor) -> Tensor:
    """Gradient of the sum of values (B,) at a leaf (B, D); the graph stays for other tasks."""
    if not values.requires_grad:
        return torch.zeros_like(leaf)
    (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True, retain_graph=True)
    return torch.zeros_like(leaf) if gradient is None else gradient


def cosine(foretold: list[Tensor], measured: list[Tensor]) -> Tensor:
    """Cosine over the directions, each side K tensors (T, B)."""
    p, change = torch.stack(foretold).double(), torch.stack(measured).double()
    size = p.norm(dim=0) * change.norm(dim=0)
    return (p * change).sum(0) / size.clamp_min(1e-30)


def alike(p: Tensor, change: Tensor) -> Tensor:
    """2 p m / (p^2 + m^2)."""
    p, change = p.double(), change.double()
    return 2 * p * change / (p**2 + change**2).clamp_min(1e-60)


def disagreement(probing: Probing) -> float:
    """The cosine of the gradients of two passes at the clean images, mean over samples, of the
    modality and task where it is lowest; 1 where there is no gradient.

    Of a random victim the second pass has other random numbers; of another the batch holds every
    image several times, as an attack's batch may be larger than this one.
    """
    found = []
    copies = 1 if probing.clean.stochastic else COPIES
    for part in probing.batches():
        margins = Margins(probing, part)
        clean, _ = probing.pair(margins.view, part)
        one = margins.gradients(clean)[1].double()
        other = Margins(probing, np.tile(part, copies), "another probe")
        again = other.gradients(clean.repeat(copies, 1))[1][:, -len(part) :].double()
        probed = torch.from_numpy(np.isin(part, probing.rows))
        cosines = []
        for m in probing.modalities:
            a, b = one[:, :, margins.slice(m)], again[:, :, margins.slice(m)]
            some = ((a.abs() + b.abs()).amax(2) > 0) & margins.labelled
            cosines.append(torch.where(some, cosine_similarity(a, b, dim=2), torch.nan))
        found.append(torch.stack(cosines, 1).cpu()[:, :, probed].numpy())
    values = np.concatenate(found, 2)
    rows = [row[~np.isnan(row)] for row in values.reshape(-1, values.shape[-1])]
    return min((float(row.mean()) for row in rows if len(row)), default=1.0)
