"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv 1902.02918): the CERTIFY algorithm
over several modalities and tasks.

The smoothed classifier of a task predicts the class that the base network f most often gives to x +
e, e ~ N(0, sigma^2 I) on the noised modalities. If P(f(x + e) = A) >= p > 1/2, no perturbation of
L2 size below sigma Phi^-1(p) changes it (theorem 1).

With all modalities noised, the size is the joint one, sqrt(sum_m |d_m|^2) over all modalities. It
holds for an attacker of one modality
too, and given p alone it is the largest that can be said of him: by the Neyman-Pearson argument the
    bound depends on the size of d, not
on where d points. With modality m alone noised, the certificate is that of another smoothed
classifier, which trusts the other modalities and passes them clean; its radius bounds |d_m|, and
says nothing once another modality is perturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta, norm
from torch import nn

from robustbench_med.attacks import Streams, View
from robustbench_med.data import Samples
from robustbench_med.evaluation.batching import drawn, together
from robustbench_med.evaluation.types import Drawing, Setting

ABSTAIN = -1


@dataclass(frozen=True)
class Certificates:
    """Per sample and task (n, T): the class that is certified (ABSTAIN: none), and its radius (0
    where it abstains).
    """

    predicted: NDArray[np.int64]
    radius: NDArray[np.float64]
    p_lower: NDArray[np.float64]
    """Lower bound of the probability of the class that was chosen on the first draws."""


def lower_bound(hits: NDArray[np.int64], n: int, alpha: float) -> NDArray[np.float64]:
    """One-sided Clopper-Pearson bound: a probability is at least this with confidence 1 - alpha
    after `hits` of n.
    """
    return np.where(hits > 0, beta.ppf(alpha, np.maximum(hits, 1), n - hits + 1), 0.0)


def radii(p_lower: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """sigma Phi^-1(p), 0 where p is not above one half (equation 3 with the runner-up's probability
    bounded by 1 - p).
    """
    return np.where(p_lower > 0.5, sigma * norm.ppf(np.maximum(p_lower, 0.5)), 0.0)


def certify(
    base: nn.Module,
    samples: Samples,
    *,
    sigma: float,
    noised: Sequence[int],
    n0: int,
    n: int,
    alpha: float,
    setting: Setting,
    drawing: Drawing = "none",
    tick: Callable[[int], None] = lambda done: None,
) -> Certificates:
    """CERTIFY for every sample and task: n0 draws choose a class, n fresh ones bound its
    probability.

    A certificate is right with probability 1 - alpha, each for itself. A draw is one pass over the
    batch: also a network with noise of its own, shared by the batch, gives every sample n
        independent draws. The same draws serve all tasks.

    Args:
        base: the network without the smoothing noise.
        noised: numbers of the modalities that carry noise and may be perturbed.
        drawing: what a prediction of the base network depends on besides its sample.
        setting: seed, device and batches; the noise is each sample's own, so that no batch size
            changes a certificate.
        tick: called with the number of samples done.
    """
    predicted, bounds = [], []
    view, ids = View(base, [tuple(m.shape[1:]) for m in samples.batch([0])]), samples.ids  # type: ignore[misc]
    sizes = torch.cat(
        [
            torch.full((s.stop - s.start,), sigma if m in noised else 0.0)
            for m, s in enumerate(view.segments)
        ]
    )
    for rows in together(np.arange(len(samples)), len(samples), setting, whole=drawing == "batch"):
        x = view.pack(samples.batch(rows))
        purpose = ("certify", *noised)
        streams = Streams.seeded(
            setting.seed, [ids[row] for row in rows], "/".join(map(str, purpose))
        )
        with drawn(view, drawing, setting, ids, rows, *purpose), torch.no_grad():
            chosen = [
                count.argmax(1) for count in _counts(view, x, sizes, streams, setting.device, n0)
            ]
            again = _counts(view, x, sizes, streams, setting.device, n)
            hits = [
                count[np.arange(len(rows)), top] for count, top in zip(again, chosen, strict=True)
            ]
        predicted.append(np.stack(chosen, 1))
        bounds.append(lower_bound(np.stack(hits, 1), n, alpha))
        tick(len(rows))
    p_lower = np.concatenate(bounds)
    return Certificates(
        np.where(p_lower > 0.5, np.concatenate(predicted), ABSTAIN), radii(p_lower, sigma), p_lower
    )


def _counts(
    view: View,
    x: torch.Tensor,
    sizes: torch.Tensor,
    streams: Streams,
    device: torch.device,
    draws: int,
) -> list[NDArray[Any]]:
    """How often each class was predicted, per task (B, C), finite logits only; `sizes` (D,): the
    noise's standard deviation.
    """
    counts: list[torch.Tensor] = []
    for _ in range(draws):
        logits = view.logits((x + sizes * streams.normal(view.dim)).to(device))
        hits = [
            torch.zeros_like(z, dtype=torch.int64).scatter_(
                1, z.argmax(1, keepdim=True), z.isfinite().all(1, keepdim=True).long()
            )
            for z in logits
        ]
        counts = [a + b for a, b in zip(counts, hits, strict=True)] if counts else hits
    return [count.cpu().numpy() for count in counts]
