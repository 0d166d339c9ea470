"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv 1902.02918): the CERTIFY algorithm
over several modalities and tasks.

The smoothed classifier of a task predicts the class that the base network f most often gives to x +
e, e ~ N(0, sigma^2 I) on the noised modalities. If P(f(x + e) = A) >= p > 1/2, no perturbation of
L2 size below sigma Phi^-1(p) changes it (theorem 1).

With all modalities noised, the size is the joint one, sqrt(sum_m |d_m|^2) over all modalities. It
holds for an attacker of one modality too, and given p alone it is the largest that can be said of
him: by the Neyman-Pearson argument the bound depends on the size of d, not on where d points. With
modality m alone noised, the certificate is that of another smoothed classifier, which trusts the
other modalities and passes them clean; its radius bounds |d_m|, and says nothing once another
modality is perturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta, norm
from torch import nn

from robustbench_med.attacks import Streams, View
from robustbench_med.data import Samples
from robustbench_med.evaluation.batching import drawn, shapes_of, together
from robustbench_med.evaluation.types import Drawing, Setting
from robustbench_med.progress import Advance

ABSTAIN = -1


@dataclass(frozen=True)
class Smoothing:
    """The smoothed classifier, and how it is certified."""

    sigma: float
    """Standard deviation of the noise, for pixels in [0, 1]."""
    noised: Sequence[int]
    """Numbers of the modalities that carry noise and may be perturbed."""
    n0: int
    """Draws that choose a class."""
    n: int
    """Draws that bound its probability."""
    alpha: float
    """Chance that a certificate is wrong."""

    def deviations(self, view: View) -> torch.Tensor:
        """(D,) standard deviation of the noise on each coordinate."""
        parts = []
        for m, segment in enumerate(view.segments):
            sigma = self.sigma if m in self.noised else 0.0
            parts.append(torch.full((segment.stop - segment.start,), sigma))
        return torch.cat(parts)


@dataclass(frozen=True)
class Certificates:
    """Per sample and task (n, T): the class that is certified (ABSTAIN: none), and its radius (0
    where it abstains).
    """

    predicted: NDArray[np.int64]
    radius: NDArray[np.float64]
    p_lower: NDArray[np.float64]
    """Lower bound of the probability of the class that the first draws predict most often."""


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
    smoothing: Smoothing,
    setting: Setting,
    *,
    drawing: Drawing = "none",
    tick: Advance = lambda done: None,
) -> Certificates:
    """CERTIFY for every sample and task: n0 draws choose a class, n fresh ones bound its
    probability.

    A certificate is right with probability 1 - alpha, each for itself. A draw is one pass over the
    batch: also a network with noise of its own, shared by the batch, gives every sample n
    independent draws. The same draws serve all tasks.

    Args:
        base: the network without the smoothing noise, in evaluation mode, on the setting's device.
        smoothing: the noise and the numbers of draws.
        setting: seed, device and batches; the noise is each sample's own, so that no batch size
            changes a certificate.
        drawing: what a prediction of the base network depends on besides its sample.
        tick: called with the number of samples of each batch that is done.

    Returns:
        Classes, radii (L2, for pixels in [0, 1]) and lower bounds, (n, T) each.

    Example:
        smoothing = Smoothing(sigma=0.25, noised=(0, 1), n0=100, n=10_000, alpha=0.001)
        certify(network, samples, smoothing, setting).radius.mean()
    """
    view, ids, n = View(base, shapes_of(samples)), samples.ids, len(samples)
    deviations = smoothing.deviations(view)
    purpose = ("certify", *smoothing.noised)
    predicted, bounds = [], []
    for rows in together(np.arange(n), n, setting, whole=drawing == "batch"):
        x = view.pack(samples.batch(rows))
        streams = Streams.seeded(
            setting.seed,
            [ids[row] for row in rows],
            "/".join(map(str, purpose)),
            device=setting.device,
        )
        noisy = NoisyPasses(view, x.to(setting.device), deviations.to(setting.device), streams)
        with drawn(view, drawing, setting, ids, rows, *purpose), torch.no_grad():
            classes = [count.argmax(1) for count in noisy.counts(smoothing.n0)]
            counts = noisy.counts(smoothing.n)
        places = np.arange(len(rows))
        hits = [count[places, top] for count, top in zip(counts, classes, strict=True)]
        predicted.append(np.stack(classes, 1))
        bounds.append(lower_bound(np.stack(hits, 1), smoothing.n, smoothing.alpha))
        tick(len(rows))
    p_lower = np.concatenate(bounds)
    certified = np.where(p_lower > 0.5, np.concatenate(predicted), ABSTAIN)
    return Certificates(certified, radii(p_lower, smoothing.sigma), p_lower)


@dataclass(frozen=True)
class NoisyPasses:
    """A batch that is passed through the network again and again, with fresh noise."""

    view: View
    x: torch.Tensor
    """(B, D)."""
    deviations: torch.Tensor
    """(D,) standard deviation of the noise."""
    streams: Streams

    def counts(self, draws: int) -> list[NDArray[Any]]:
        """How often each class is predicted in so many draws, per task (B, C), finite logits
        only.
        """
        totals: list[torch.Tensor] = []
        for _ in range(draws):
            noise = self.deviations * self.streams.normal(self.view.dim)
            logits = self.view.logits(self.x + noise)
            hits = [_hits(of_task) for of_task in logits]
            totals = [a + b for a, b in zip(totals, hits, strict=True)] if totals else hits
        return [total.cpu().numpy() for total in totals]


def _hits(logits: torch.Tensor) -> torch.Tensor:
    """(B, C), 1 at the class predicted, 0 everywhere where logits (B, C) are not finite."""
    finite = logits.isfinite().all(1, keepdim=True).long()
    return torch.zeros_like(logits, dtype=torch.int64).scatter_(
        1, logits.argmax(1, keepdim=True), finite
    )
