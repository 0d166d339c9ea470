"""What a victim is, found by trying: whether it is random, whether a seed repeats its passes,
whether it looks at its neighbours.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.attacks import Draws, derive_seed, seeded
from robustbench_med.data import Samples
from robustbench_med.evaluation.batching import drawing_of
from robustbench_med.evaluation.types import Drawing

BATCH = 8
"""Samples of a probe's batch."""
PASSES = 16
"""Passes over the same images in which a victim shows whether it is random: two members that take
turns by chance look alike in all of them once in 2^15.
"""
MOVED = 8 / 255
"""How far the images are moved on which it is asked again."""
ROUNDING = 1e-5
"""Differences up to this share of the largest logit are float32's rounding; between two passes over
the same images, up to this share of the logits' range.
"""
KERNELS = 2e-2
"""The same between batches of other sizes or places, whose kernels add up in another order: half
precision too.
"""
COPIES = 5
"""How often a large batch of the probe holds each sample."""
FALSE_ALARM = 1e-5
"""Chance that a random victim which does not look at its neighbours is refused: an alarm refuses
it.
"""
REPEATS = 64
"""Passes of each of two batches, where no seed repeats one."""


@dataclass(frozen=True)
class Nature:
    """What a victim is.

    Attributes:
        stochastic: passes on one input differ by more than rounding, or the victim says so.
        drawing: what a prediction depends on besides its sample.
        repeatable: one seed gives the same pass twice. Where it does not, two runs of one command
            differ.
        neighbours: how the predictions of a sample depend on its batch (neighbours, place, size),
            in words; None where they do not.
        rounding: the largest difference between passes of a victim that is not stochastic, as a
            share of the logits' range.
    """

    stochastic: bool
    drawing: Drawing
    repeatable: bool = True
    neighbours: str | None = None
    rounding: float = 0.0

    @property
    def notes(self) -> list[str]:
        """What a reader of the victim's figures has to know."""
        unrepeatable = "not repeatable: the victim draws numbers that no seed repeats"
        rounding = (
            f"passes on one image differ, by less than {ROUNDING:g} of the logits' range: taken for"
            " rounding, the victim is evaluated as deterministic"
        )
        return ([] if self.repeatable else [unrepeatable]) + ([rounding] if self.rounding else [])


@torch.no_grad()
def examine(victim: nn.Module, samples: Samples, device: torch.device, seed: int) -> Nature:
    """Tries a victim on the first samples and on noise; the answer depends on no batch size. A
    black box is asked afresh at every pass.
    """
    box = getattr(victim, "black_box", None)
    with contextlib.nullcontext() if box is None else box.afresh():
        return _examined(victim, samples, device, seed)


def _examined(victim: nn.Module, samples: Samples, device: torch.device, seed: int) -> Nature:
    x = [m.to(device) for m in padded(samples)]
    with seeded(device, seed, "stochastic?"):
        noise = max(noise_of(victim, images) for images in (x, shifted(x)))
    stochastic = noise > ROUNDING or bool(getattr(victim, "stochastic", False))
    drawing = drawing_of(victim, stochastic=stochastic)
    passes = SeededPasses(victim, seed, drawing == "sample")
    repeatable = passes.repeats(x)
    if drawing == "sample" and not repeatable:  # it takes generators, and draws from others
        drawing, passes = "batch", SeededPasses(victim, seed, per_sample=False)
        repeatable = passes.repeats(x)
    reason = neighbours(passes, x) if repeatable else neighbours_by_means(victim, x, seed)
    if reason is None and repeatable and drawing != "batch":
        reason = place_or_size(passes, x)
    rounding = 0.0 if stochastic else noise
    return Nature(stochastic, "batch" if reason else drawing, repeatable, reason, rounding)


def noise_of(victim: nn.Module, x: Sequence[Tensor]) -> float:
    """The largest difference between `PASSES` passes over one batch, as a share of the range of its
    task's logits (largest less smallest, the median over the images); ends with the first that is
    more than rounding. What is finite in one pass alone differs by the whole range.
    """
    first, largest = [z.double() for z in victim(*x)], 0.0
    for _ in range(PASSES - 1):
        for one, other in zip(first, victim(*x), strict=True):
            two, finite = other.double(), one.isfinite()
            if not torch.equal(finite, two.isfinite()):
                return 1.0
            gap = float((one - two)[finite].abs().max()) if finite.any() else 0.0
            span = float((one.amax(1) - one.amin(1)).nan_to_num(0, 0, 0).median())
            largest = max(largest, gap and (gap / span if span else 1.0))
        if largest > ROUNDING:
            break
    return largest


def shifted(x: Sequence[Tensor]) -> list[Tensor]:
    """The images, every pixel moved up or down."""
    generator = torch.Generator().manual_seed(2)
    signs = [torch.randint(0, 2, m.shape, generator=generator).to(m) * 2 - 1 for m in x]
    return [(m + MOVED * sign).clamp(0, 1) for m, sign in zip(x, signs, strict=True)]


@dataclass(frozen=True)
class SeededPasses:
    """Passes of a victim under one seed: of the batch, or of each sample (by its row) where the
    victim takes generators.
    """

    victim: nn.Module
    seed: int
    per_sample: bool

    def once(
        self, batch: Sequence[Tensor], rows: Sequence[int] | None = None
    ) -> tuple[tuple[Tensor, ...], object]:
        """Logits, and how far the global generators have gone; `rows`: which samples of the probe
        these are.
        """
        if self.per_sample:
            ids = [f"probe {row}" for row in (range(len(batch[0])) if rows is None else rows)]
            return Draws(self.seed, "probe", ids=ids).run(self.victim, batch), None
        device = batch[0].device
        with seeded(device, self.seed, "probe"):
            logits = tuple(self.victim(*batch))
            torch_state = (
                (
                    torch.cuda.get_rng_state(device)
                    if device.type == "cuda"
                    else torch.get_rng_state()
                )
                .numpy()
                .tobytes()
            )
            _, keys, position, *_ = np.random.get_state()
            return logits, (torch_state, np.asarray(keys).tobytes(), position, random.getstate())

    def repeats(self, batch: Sequence[Tensor]) -> bool:
        """Whether one seed gives the same pass twice."""
        return same(self.once(batch)[0], self.once(batch)[0])


def padded(samples: Samples) -> list[Tensor]:
    """BATCH samples: the first of the set, noise where it has fewer."""
    x = samples.batch(range(min(len(samples), BATCH)))
    generator = torch.Generator().manual_seed(0)
    return [
        torch.cat((m, torch.rand(BATCH - len(m), *m.shape[1:], generator=generator))) for m in x
    ]


def others(x: Sequence[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
    """Batches of other neighbours: the samples in another order and inverted, black, white,
    noise.
    """
    generator = torch.Generator().manual_seed(1)
    yield "other samples", [1 - m.roll(1, 0) for m in x]
    yield "black images", [torch.zeros_like(m) for m in x]
    yield "white images", [torch.ones_like(m) for m in x]
    yield "noise", [torch.rand(m.shape, generator=generator).to(m) for m in x]


def placed(x: Sequence[Tensor], around: Sequence[Tensor], place: int) -> list[Tensor]:
    """A sample at its own place of a batch of other neighbours."""
    batch = [m.clone() for m in around]
    for whole, own in zip(batch, x, strict=True):
        whole[place] = own[place]
    return batch


def neighbours(passes: SeededPasses, x: Sequence[Tensor]) -> str | None:
    """Whether the logits of a sample at one place of two batches of one size differ, under the same
    seed, by more than rounding.

    A victim whose number of draws depends on the images hands every later sample other numbers,
    though none looks at its neighbours: where the generators have gone further in one of the two
    passes, draws are compared instead.
    """
    base, gone = passes.once(x)
    for place in (0, BATCH // 2, BATCH - 1):
        for name, around in others(x):
            moved, elsewhere = passes.once(placed(x, around, place))
            if same([z[place] for z in base], [z[place] for z in moved]):
                continue
            if gone != elsewhere:
                return neighbours_by_means(passes.victim, x, passes.seed)
            gap = max(
                float((a[place] - b[place]).abs().max()) for a, b in zip(base, moved, strict=True)
            )
            return f"the logits of one image change by {gap:.3g} when its neighbours are {name}"
    return None


def place_or_size(passes: SeededPasses, x: Sequence[Tensor]) -> str | None:
    """Whether the logits of a sample depend on its place in the batch, or on the batch's size, by
    more than other kernels round.
    """
    base, _ = passes.once(x)
    copied, _ = passes.once([m.repeat(COPIES, 1, 1, 1) for m in x], list(range(BATCH)) * COPIES)
    for row in range(BATCH):
        alone, _ = passes.once([m[row : row + 1] for m in x], [row])
        for what, logits in (
            ("alone", [z[0] for z in alone]),
            *((f"at place {p}", [z[p] for z in copied]) for p in places(row)),
        ):
            if not same([z[row] for z in base], logits, rounding=KERNELS):
                gap = max(
                    float((a[row] - b).abs().max()) for a, b in zip(base, logits, strict=True)
                )
                return (
                    f"the logits of one image change by {gap:.3g} when it stands {what} of another"
                    " batch"
                )
    return None


def places(row: int) -> range:
    """Where the copies of a sample stand."""
    return range(row, BATCH * COPIES, BATCH)


def neighbours_by_means(victim: nn.Module, x: Sequence[Tensor], seed: int) -> str | None:
    """The same of a victim whose passes no seed repeats: draws with two kinds of neighbours,
    compared by ranks (Mann & Whitney 1947).

    The test needs no distribution, so that a victim which does not look at its neighbours is
    refused with a chance of at most `FALSE_ALARM`. The two kinds alternate in a drawn order: what
    depends on the number of the call is no neighbour.
    """
    from scipy.stats import mannwhitneyu  # half a second to import

    place = BATCH // 2
    batches = [placed(x, around, place) for _, around in list(others(x))[:3]]
    order = [0, 1, 2] * REPEATS
    random.Random(derive_seed(seed, "probe order")).shuffle(order)
    with seeded(x[0].device, seed, "probe draws"):
        drawn = alternating(victim, batches, order, place)
    values = {kind: np.nan_to_num(np.stack(rows)) for kind, rows in drawn.items()}
    n_logits = values[0].shape[1]
    pairs = list(itertools.combinations(values.values(), 2))
    p = min(
        float(mannwhitneyu(one[:, i], other[:, i]).pvalue)
        for one, other in pairs
        for i in range(n_logits)
    )
    if p * len(pairs) * n_logits < FALSE_ALARM:
        return (
            f"the logits of one image depend on its neighbours (p = {p:.1g} over {REPEATS} draws)"
        )
    return None


def alternating(
    victim: nn.Module, batches: Sequence[Sequence[Tensor]], order: Sequence[int], place: int
) -> dict[int, list[np.ndarray[tuple[int], np.dtype[np.float64]]]]:
    """The logits of the sample at a place in one draw after another, by which of the batches it
    stood in.
    """
    drawn: dict[int, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {0: [], 1: [], 2: []}
    for kind in order:
        drawn[kind].append(
            np.concatenate([z[place].double().cpu().numpy() for z in victim(*batches[kind])])
        )
    return drawn


def same(a: Sequence[Tensor], b: Sequence[Tensor], *, rounding: float = ROUNDING) -> bool:
    """Whether logits are equal, up to a share of the largest; what is not finite equals itself."""
    for left, right in zip(a, b, strict=True):
        if not torch.equal(left.isfinite(), right.isfinite()):
            return False
        one, two = left.nan_to_num(0, 0, 0), right.nan_to_num(0, 0, 0)
        allowed = rounding * float(torch.maximum(one.abs(), two.abs()).max())
        if float((one - two).abs().max()) > allowed:
            return False
    return True
