"""Algorithm boxes of attacks in L1 and L0 in plain NumPy, float64, one sample and one modality at a
time: written from the text, not from our code. And a linear victim whose best perturbation is
known.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn

from support.algorithm_boxes import Array

Victim = Callable[[Array], tuple[float, Array]]
"""x (D,) -> what is to rise, and its gradient."""


class Linear(nn.Module):
    """Two modalities, one task of two classes: z_0 = lead, z_1 = w . x; with a large lead no sample
    falls, and attacks run to the end.
    """

    n_modalities, class_counts, stochastic = 2, (2,), False
    shapes = ((3, 6, 6), (1, 12, 12))

    def __init__(self, lead: float = 1000.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w, self.lead = torch.randn(252, generator=generator, dtype=torch.float64), lead

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor]:
        rise = torch.cat((a.flatten(1), b.flatten(1)), 1) @ self.w.to(a)
        return (torch.stack((torch.full_like(rise, self.lead), rise), 1),)

    def best(self, x: Tensor, norm: str, radii: tuple[float, float]) -> Tensor:
        """(B,) the most that z_1 can rise from x (B, 252)."""
        room = torch.where(self.w > 0, 1 - x, x)
        total = torch.zeros(len(x), dtype=x.dtype)
        for part, r, channels in zip((slice(0, 108), slice(108, 252)), radii, (3, 1), strict=True):
            w, own = self.w[part].abs().expand(len(x), -1), room[:, part]
            if norm == "L0":
                gain = (w * own).unflatten(1, (channels, -1)).sum(1)
                total += gain.sort(1, descending=True).values[:, : int(r)].sum(1)
            else:  # the steepest coordinates go to the border, until the radius is spent
                order = w.argsort(1, descending=True)
                own = own.gather(1, order)
                spent = (r - (own.cumsum(1) - own)).clamp_min(0)
                total += (torch.minimum(own, spent) * w.gather(1, order)).sum(1)
        return total


def into_l1(x: Array, x0: Array, eps: float) -> Array:
    """The nearest point in the L1 ball and [0, 1]: what every coordinate gives up, by bisection."""
    delta = x - x0
    room = np.where(delta > 0, 1 - x0, x0)

    def kept(given_up: float) -> Array:
        return np.minimum(np.maximum(np.abs(delta) - given_up, 0), room)

    low, high = 0.0, float(np.abs(delta).max())
    if kept(0).sum() > eps:
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if kept(middle).sum() > eps else (low, middle)
    return x0 + np.sign(delta) * kept(low)


def into_l0(x: Array, x0: Array, k: int) -> Array:
    """The k coordinates whose return would be the longest way stay changed."""
    inside = np.clip(x, 0, 1)
    gain = (x - x0) ** 2 - (x - inside) ** 2
    stay = np.argsort(-gain, kind="stable")[:k]
    found = x0.copy()
    found[stay] = inside[stay]
    return found


def pgd_0(f: Victim, x0: Array, k: int, steps: int, size: float) -> Array:
    """PGD_0 of arXiv 1909.05040, from the clean image: steps whose mean change is `size`."""
    x = x0
    for _ in range(steps):
        gradient = f(x)[1]
        x = into_l0(x + size * gradient * len(x) / np.abs(gradient).sum(), x0, k)
    return x


def apgd_l1(f: Victim, start: Array, x0: Array, eps: float, steps: int) -> Array:
    """Algorithm 1 of arXiv 2103.01208 in balls of 3, 2 and 1 eps."""
    d, sparsity, x, done = len(x0), 0.2 * len(x0), start, 0
    for factor, part in ((3, 0.3), (2, 0.3), (1, None)):
        n = int(part * steps) if part else steps - done
        radius, done = factor * eps, done + n
        x = into_l1(x, x0, radius)
        value, gradient = f(x)
        best, x_best, g_best = value, x, gradient
        eta, before = radius, int((x != x0).sum())
        for i in range(1, n + 1):
            k = min(max(ceil(sparsity), 1), d)
            largest = np.abs(gradient) >= np.sort(np.abs(gradient))[-k]
            x = into_l1(x + eta * np.sign(gradient) * largest / largest.sum(), x0, radius)
            value, gradient = f(x)
            if value > best:
                best, x_best, g_best = value, x, gradient
            if i % max(int(0.04 * n), 1) == 0:
                now = int((x_best != x0).sum())
                sparsity = now / 1.5
                if now / before < 0.95:
                    eta, x, gradient = radius, x_best, g_best
                else:
                    eta = max(eta / 1.5, radius / 10)
                before = now
        x, sparsity = x_best, int((x_best != x0).sum()) / 1.5
    return x
