"""Victims that users could write and whose defect signs may miss, of no row of the table."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.broken.networks import Net
from support.broken.randomised import Members
from support.broken.victims import Broken, Repaired, each, levels, rewired, shown, untrained


class LargeBatchDecoy(Broken):
    defect = "batches of more than 16 have the gradient of an untrained network"

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__(channels, class_counts)
        self.wrong = untrained(channels, class_counts)

    def lures(self, modalities: Sequence[Tensor]) -> bool:
        """Whether this pass shows the wrong gradient."""
        return len(modalities[0]) > 16

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        logits = self.beneath(*modalities)
        return each(shown, logits, self.wrong(*modalities)) if self.lures(modalities) else logits


class TiredGradient(LargeBatchDecoy):
    defect = "from its 12th backward pass on it has the gradient of an untrained network"
    calls = 0

    def lures(self, modalities: Sequence[Tensor]) -> bool:
        self.calls += torch.is_grad_enabled() and modalities[0].requires_grad
        return self.calls >= 12

    def forget(self) -> None:
        self.calls = 0


class FarDecoy(LargeBatchDecoy):
    defect = (
        "one image in the batch off its grey levels, and the gradient is an untrained network's"
    )

    def lures(self, modalities: Sequence[Tensor]) -> bool:
        return any(bool((levels(x, 255) - x).abs().max() > 1e-4) for x in modalities)


class HashedSign(Broken):
    defect = "a hash of the image says which sign its gradient has: every second step goes back"

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        total = sum((255 * 64 * x.detach()).round().long().flatten(1).sum(1) for x in modalities)
        sign = (1.0 - 2 * (total % 2))[:, None, None, None]
        return self.beneath(*(rewired(x, lambda gradient: sign * gradient) for x in modalities))


class AlternatingMember(Members):
    defect = "its passes take turns between two networks; no seed has a part in it"
    calls = 0

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        return (self.beneath if self.calls % 2 else self.other)(*modalities)

    def forget(self) -> None:
        self.calls = 0


class NegatedModality(Broken):
    defect = "the gradient of the second modality has the wrong sign"

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(first, rewired(second, torch.neg))


class Remembering(Broken):
    defect = "an image near one that it has seen gets the answer that one got"
    within = 0.5  # of squared distance, summed over both modalities

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__(channels, class_counts)
        self.forget()

    def forget(self) -> None:
        self.seen: list[Tensor] = []
        self.answers: list[list[Tensor]] = []

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        logits = self.beneath(*modalities)
        images = torch.cat([x.detach().flatten(1) for x in modalities], 1)
        rows = [self.remembered(image, logits, i) for i, image in enumerate(images)]
        answers = [torch.stack(task) for task in zip(*rows, strict=True)]
        return each(shown, answers, logits)

    def remembered(self, image: Tensor, logits: Sequence[Tensor], i: int) -> list[Tensor]:
        """The answer to the first image seen nearby; this one's own where there is none."""
        if self.seen:
            near = (torch.stack(self.seen) - image).pow(2).mean(1).sqrt() < 16 / 255
            if near.any():
                return self.answers[int(near.float().argmax())]
        self.seen.append(image)
        self.answers.append([z[i].detach() for z in logits])
        return self.answers[-1]


class CoarseCosines(Broken):
    defect = "rounds the cosine transform of its input as JPEG does; backward, the identity"
    step = 0.25

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.beneath(*(shown(compressed(x, self.step), x) for x in modalities))

    def repaired(self) -> list[nn.Module]:
        soft = Repaired(self, lambda *m: self.beneath(*(smoothly(x, self.step) for x in m)))
        return [Repaired(self, self.forward), soft, self.beneath]


def cosines(side: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (side, side)."""
    k, n = torch.arange(side)[:, None], torch.arange(side)[None]
    basis = torch.cos(torch.pi * (2 * n + 1) * k / (2 * side)) * (2 / side) ** 0.5
    basis[0] /= 2**0.5
    return basis


def compressed(x: Tensor, step: float) -> Tensor:
    """Blocks of 4 x 4 whose cosine coefficients are rounded to multiples of `step`."""
    return from_blocks((blocks(x) / step).round() * step, x)


def smoothly(x: Tensor, step: float) -> Tensor:
    """The same forward; backward, coefficients that are rounded to zero pass a tenth."""
    coefficients = blocks(x)
    rounded = (coefficients / step).round() * step
    return from_blocks(
        shown(rounded, torch.where(rounded == 0, 0.1 * coefficients, coefficients)), x
    )


def blocks(x: Tensor) -> Tensor:
    """(B, C, H, W) -> cosine coefficients (B, C, H / 4, W / 4, 4, 4)."""
    dct = cosines(4)
    return dct @ x.unfold(2, 4, 4).unfold(3, 4, 4) @ dct.T


def from_blocks(coefficients: Tensor, like: Tensor) -> Tensor:
    dct = cosines(4)
    return (dct.T @ coefficients @ dct).transpose(3, 4).reshape(like.shape)


class Votes(Broken):
    defect = "three networks vote; backward, the first alone"
    bases: ClassVar = {"beneath": "plain", "other": "twin", "third": "triplet"}

    def members(self) -> list[Net]:
        return [self.beneath, self.other, self.third]

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        answers = [member(*modalities) for member in self.members()]
        return each(counted, *answers)

    def repaired(self) -> list[nn.Module]:
        means = Repaired(self, lambda *m: each(mean, *(member(*m) for member in self.members())))
        wary = Repaired(self, lambda *m: each(squashed, *(member(*m) for member in self.members())))
        return [means, wary]


def counted(*members: Tensor) -> Tensor:
    votes = [F.one_hot(z.argmax(1), z.shape[1]).float() for z in members]
    return shown(sum(votes), members[0].softmax(1))


def mean(*members: Tensor) -> Tensor:
    return torch.stack(members).mean(0)


def squashed(*members: Tensor) -> Tensor:
    """Votes as smooth shares: a member that is lost already pulls no more."""
    return torch.stack([3 * z.softmax(1) for z in members]).sum(0)


class Augmented(Broken):
    defect = "the mean answer to nine shifts of the image; backward, eight of them are detached"
    shifts = tuple((dy, dx) for dy in (-2, 0, 2) for dx in (-2, 0, 2))

    def answers(self, modalities: Sequence[Tensor], *, detached: bool) -> tuple[Tensor, ...]:
        views = []
        for shift in self.shifts:
            keep = not detached or shift == (2, 2)
            moved = [torch.roll(x if keep else x.detach(), shift, (2, 3)) for x in modalities]
            views.append(self.beneath(*moved))
        return each(mean, *views)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        return self.answers(modalities, detached=True)

    def repaired(self) -> list[nn.Module]:
        return [Repaired(self, lambda *m: self.answers(m, detached=False))]


class Rippled(Broken):
    defect = "tiny steep ripples on the logits: the gradient is true, and useless a hair further"
    height, pitch = 0.02, 3e3

    def __init__(self, channels: Sequence[int], class_counts: Sequence[int]) -> None:
        super().__init__(channels, class_counts)
        generator = torch.Generator().manual_seed(7)
        self.ways = [torch.randn(n, 4 * 28 * 28, generator=generator) / 28 for n in class_counts]

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        flat = torch.cat([x.flatten(1) for x in modalities], 1)
        logits = self.beneath(*modalities)
        return tuple(
            z + self.height * (self.pitch * flat @ way[:, : flat.shape[1]].T).sin()
            for z, way in zip(logits, self.ways, strict=True)
        )
