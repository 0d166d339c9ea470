"""What a victim is, found by trying: whether it is random, whether a seed repeats its passes, whether it looks at its neighbours."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from robustbench_med.attacks import Draws, derive_seed, seeded
from robustbench_med.batching import Drawing, drawing_of
from robustbench_med.data import Samples

BATCH = 8
"""Samples of a probe's batch."""
ROUNDING = 1e-5
"""Differences up to this share of the largest logit are float32's rounding."""
FALSE_ALARM = 1e-5
"""Chance that a random victim which does not look at its neighbours is refused: an alarm refuses it."""
REPEATS = 64
"""Passes of each of two batches, where no seed repeats one."""

Pass = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Nature:
    """What a victim is.

    Attributes:
        stochastic: two passes on one input differ, or the victim says so.
        drawing: what a prediction depends on besides its sample.
        repeatable: one seed gives the same pass twice. Where it does not, two runs of one command differ.
        neighbours: how the predictions of a sample depend on its batch, in words; None where they do not.
    """

    stochastic: bool
    drawing: Drawing
    repeatable: bool = True
    neighbours: str | None = None


@torch.no_grad()
def examine(victim: nn.Module, samples: Samples, device: torch.device, seed: int) -> Nature:
    """Tries a victim on the first samples and on noise; the answer depends on no batch size."""
    x = [m.to(device) for m in padded(samples)]
    with seeded(device, seed, "stochastic?"):
        differ = not same(victim(*x), victim(*x), exact=True)
    stochastic = differ or bool(getattr(victim, "stochastic", False))
    drawing = drawing_of(victim, stochastic=stochastic)
    ids = [f"probe {i}" for i in range(BATCH)]

    def once(batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return Draws(seed, "probe", ids=ids if drawing == "sample" else None).run(victim, batch)

    repeatable = same(once(x), once(x))
    reason = neighbours(once, x) if repeatable else neighbours_by_means(victim, x, seed)
    return Nature(stochastic, "batch" if reason else drawing, repeatable, reason)


def padded(samples: Samples) -> list[Tensor]:
    """BATCH samples: the first of the set, noise where it has fewer."""
    x = samples.batch(range(min(len(samples), BATCH)))
    generator = torch.Generator().manual_seed(0)
    return [torch.cat((m, torch.rand(BATCH - len(m), *m.shape[1:], generator=generator))) for m in x]


def others(x: Sequence[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
    """Batches of other neighbours: the samples in another order and inverted, black, white, noise."""
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


def neighbours(once: Pass, x: Sequence[Tensor]) -> str | None:
    """Whether the logits of a sample at one place of two batches of one size differ, under the same seed, by more than rounding."""
    base = once(x)
    for place in (0, BATCH // 2, BATCH - 1):
        for name, around in others(x):
            moved = once(placed(x, around, place))
            if not same([z[place] for z in base], [z[place] for z in moved]):
                gap = max(float((a[place] - b[place]).abs().max()) for a, b in zip(base, moved, strict=True))
                return f"the logits of one image change by {gap:.3g} when its neighbours are {name}"
    return None


def neighbours_by_means(victim: nn.Module, x: Sequence[Tensor], seed: int) -> str | None:
    """The same of a victim whose passes no seed repeats: draws with two kinds of neighbours, compared by ranks (Mann & Whitney 1947).

    The test needs no distribution, so that a victim which does not look at its neighbours is refused with a chance of at most
    `FALSE_ALARM`. The two kinds alternate in a drawn order: what depends on the number of the call is no neighbour.
    """
    place = BATCH // 2
    batches = [placed(x, around, place) for _, around in list(others(x))[:3]]
    order = [0, 1, 2] * REPEATS
    random.Random(derive_seed(seed, "probe order")).shuffle(order)
    drawn: dict[int, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {0: [], 1: [], 2: []}
    for kind in order:
        drawn[kind].append(np.concatenate([z[place].double().cpu().numpy() for z in victim(*batches[kind])]))
    values = {kind: np.nan_to_num(np.stack(rows)) for kind, rows in drawn.items()}
    n_logits = values[0].shape[1]
    p = min(float(mannwhitneyu(values[0][:, i], values[k][:, i]).pvalue) for k in (1, 2) for i in range(n_logits))
    if p * 2 * n_logits < FALSE_ALARM:
        return f"the logits of one image depend on its neighbours (p = {p:.1g} over {REPEATS} draws)"
    return None


def same(a: Sequence[Tensor], b: Sequence[Tensor], *, exact: bool = False) -> bool:
    """Whether logits are equal, up to rounding unless `exact`; what is not finite equals itself."""
    for left, right in zip(a, b, strict=True):
        if not torch.equal(left.isfinite(), right.isfinite()):
            return False
        one, two = left.nan_to_num(0, 0, 0), right.nan_to_num(0, 0, 0)
        allowed = 0.0 if exact else ROUNDING * float(torch.maximum(one.abs(), two.abs()).max())
        if float((one - two).abs().max()) > allowed:
            return False
    return True
