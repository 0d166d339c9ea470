"""Algorithm boxes of papers in plain NumPy, float64, one sample and one modality at a time: written
from the text, not from our code.

The victim is `Waves`, whose logits and gradients are closed forms; with a large lead it is right
everywhere, and attacks run to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


class Waves(nn.Module):
    """One modality, one task of two classes: z_0 = lead, z_1 = sum_j a_j sin(w_j . x + b_j); more
    hills at a higher frequency.
    """

    n_modalities, class_counts, stochastic = 1, (2,), False

    def __init__(
        self,
        seed: int,
        frequency: float,
        lead: float = 100.0,
        shape: tuple[int, int, int] = (1, 2, 3),
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.shapes, self.lead = (shape,), lead
        self.a, self.w, self.b = (
            rng.uniform(0.5, 2, 8),
            rng.normal(0, frequency, (8, int(np.prod(shape)))),
            rng.uniform(0, 6, 8),
        )
        self.seen: list[Array] = []
        """Every sample that was asked about, flat."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.seen.extend(x.detach().flatten(1).numpy().astype(np.float64))
        a, w, b = (torch.from_numpy(each).to(x) for each in (self.a, self.w, self.b))
        wave = torch.sin(x.flatten(1) @ w.T + b) @ a
        return (torch.stack((torch.full_like(wave, self.lead), wave), 1),)

    def margin(self, x: Array) -> tuple[float, Array]:
        """z_1 - z_0 at x (D,), and its gradient."""
        phase = self.w @ x + self.b
        return float(self.a @ np.sin(phase) - self.lead), (self.a * np.cos(phase)) @ self.w


def projected(x: Array, x0: Array, norm: str, eps: float) -> Array:
    """P_S: into the ball, then into [0, 1]."""
    delta = x - x0
    delta = (
        np.clip(delta, -eps, eps)
        if norm == "Linf"
        else delta * min(1.0, eps / max(float(np.linalg.norm(delta)), 1e-300))
    )
    return np.clip(x0 + delta, 0, 1)


def checkpoints(steps: int) -> list[int]:
    """W of section 3.1: w_j = ceil(p_j steps), p_0 = 0, p_1 = 0.22, p_j+1 = p_j + max(p_j - p_j-1 -
    0.03, 0.06).
    """
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    return [ceil(share * steps) for share in p if share <= 1]


def apgd(
    f: Callable[[Array], tuple[float, Array]],
    start: Array,
    x0: Array,
    norm: str,
    eps: float,
    steps: int,
    rho: float,
) -> Array:
    """Algorithm 1 of arXiv 2003.01690 with the two conditions of section 3.2, each checked as soon
    as x^(w_j) is known.

    As in the authors' code, condition 1 compares the losses of the points that were stepped to,
    also right after a restart.
    """

    def ascent(gradient: Array) -> Array:
        return np.sign(gradient) if norm == "Linf" else gradient / np.linalg.norm(gradient)

    alpha, size, w = 0.75, 2 * eps, checkpoints(steps)
    x, before = start, start
    value, gradient = f(x)
    values, x_max, f_max, g_max = [value], x, value, gradient
    size_then, f_max_then, last = size, f_max, 0
    for k in range(steps):
        z = projected(x + size * ascent(gradient), x0, norm, eps)
        following = (
            z
            if k == 0
            else projected(x + alpha * (z - x) + (1 - alpha) * (x - before), x0, norm, eps)
        )
        before, x = x, following
        value, gradient = f(x)
        values.append(value)
        if value > f_max:
            x_max, f_max, g_max = x, value, gradient
        if k + 1 in w:
            rises = sum(values[i + 1] > values[i] for i in range(last, k + 1))
            one = rises < rho * (k + 1 - last)
            two = size == size_then and f_max == f_max_then
            size_then, f_max_then, last = size, f_max, k + 1
            if one or two:
                size, x, gradient = size / 2, x_max, g_max
    return x_max


def patch_sides(queries: int, side: int, p: float) -> list[int]:
    """Sides of the square of every query but the first point's: arXiv 1912.00049, section 3.2 and
    its schedule for 10,000 iterations.

    "p is halved at i in {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000}"; the square is the
    closest to p side^2 pixels, at least one.
    """
    halvings = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    shares = [p / 2 ** sum(i * 10_000 > at * queries for at in halvings) for i in range(1, queries)]
    return [min(max(round((share * side * side) ** 0.5), 1), side - 1) for share in shares]


def is_square_step(candidate: Array, incumbent: Array, x0: Array, eps: float, side: int) -> bool:
    """Algorithm 2 of arXiv 1912.00049, (H, W): somewhere a square of this side is at x0 + eps or x0
    - eps, all else is the incumbent's.
    """
    height, width = x0.shape
    for row in range(height - side + 1):
        for column in range(width - side + 1):
            for sign in (1, -1):
                expected = incumbent.copy()
                window = (slice(row, row + side), slice(column, column + side))
                expected[window] = np.clip(x0[window] + sign * eps, 0, 1)
                if np.allclose(candidate, expected, atol=1e-12):
                    return True
    return False


def fab(
    f: Callable[[Array], tuple[float, Array]], x0: Array, norm: str, steps: int
) -> tuple[Array, list[float]]:
    """Algorithm 1 of arXiv 1907.02044 from x0, without restarts, far from the bounds of the pixels,
    which it checks.

    Returns the closest point found beyond the boundary f = 0, and the alpha of every step.
    """
    order = np.inf if norm == "Linf" else 2
    alpha_max, eta, beta = 0.1, 1.05, 0.9
    x, best, distance, alphas = x0, x0, np.inf, []
    for _ in range(steps):
        value, w = f(x)

        def to_plane(point: Array, x: Array = x, value: float = value, w: Array = w) -> Array:
            """The smallest d with f(x) + w . (point + d - x) = 0."""
            gap = -(value + w @ (point - x))
            return gap * np.sign(w) / np.abs(w).sum() if norm == "Linf" else gap * w / (w @ w)

        near, far = to_plane(x), to_plane(x0)
        share = float(
            np.linalg.norm(near, order) / (np.linalg.norm(near, order) + np.linalg.norm(far, order))
        )
        alphas.append(min(share, alpha_max))
        x = (1 - alphas[-1]) * (x + eta * near) + alphas[-1] * (x0 + eta * far)
        assert x.min() > 0
        assert x.max() < 1
        if f(x)[0] > 0:
            size = float(np.linalg.norm(x - x0, order))
            if size < distance:
                best, distance = x, size
            x = (1 - beta) * x0 + beta * x
    return best, alphas


def annealed(first: float, last: float, k: int, steps: int) -> float:
    """Half a cosine from first to last."""
    return float(last + (first - last) * (1 + np.cos(np.pi * k / steps)) / 2)


def ddn(f: Callable[[Array], tuple[float, Array]], x0: Array, steps: int) -> tuple[Array, float]:
    """Algorithm 1 of arXiv 1811.09600 without its quantisation; f is the margin, whose gradient is
    that of two classes' cross-entropy but for its length.

    Returns every point (steps + 1, D), and the distance of the closest beyond the boundary f = 0.
    """
    x, epsilon, distance, path = x0, 1.0, np.inf, []
    worst = float(np.linalg.norm(np.maximum(x0, 1 - x0)))
    for k in range(steps + 1):
        value, g = f(x)
        broken, size = value > 0, float(np.linalg.norm(x - x0))
        path.append(x)
        if broken:
            distance = min(distance, size)
        delta = x - x0 + annealed(1.0, 0.01, k, steps) * g / np.linalg.norm(g)
        epsilon = min(epsilon * (0.95 if broken else 1.05), worst)
        x = np.clip(x0 + epsilon * delta / np.linalg.norm(delta), 0, 1)
    return np.stack(path), distance


DUAL = {"Linf": 1, "L2": 2}


def fmn(
    f: Callable[[Array], tuple[float, Array]], x0: Array, norm: str, steps: int
) -> tuple[Array, float]:
    """Algorithm 1 of arXiv 2102.12827, its step to the boundary a thousandth longer, and longer by
    gamma where the boundary does not move on.

    Returns every point (steps + 1, D), and the distance of the closest beyond the boundary f = 0.
    """
    order = np.inf if norm == "Linf" else 2
    x, epsilon, distance, path = x0, np.inf, np.inf, []
    worst = float(np.linalg.norm(np.maximum(x0, 1 - x0), order))
    for k in range(steps + 1):
        alpha, gamma = annealed(1.0, 0.01, k, steps), annealed(0.05, 0.001, k, steps)
        value, g = f(x)
        broken, size = value > 0, float(np.linalg.norm(x - x0, order))
        path.append(x)
        if broken:
            distance = min(distance, size)
        reach = size + abs(value) / float(np.linalg.norm(g, DUAL[norm]))
        if broken:
            epsilon = min(epsilon * (1 - gamma), distance)
        elif np.isfinite(distance) or (reach <= epsilon < np.inf):
            epsilon *= 1 + gamma
        else:
            epsilon = 1.001 * reach
        epsilon = min(epsilon, worst)
        delta = x - x0 + alpha * g / np.linalg.norm(g)
        if norm == "Linf":
            delta = np.clip(delta, -epsilon, epsilon)
        else:
            delta = delta * min(1.0, epsilon / float(np.linalg.norm(delta)))
        x = np.clip(x0 + delta, 0, 1)
    return np.stack(path), distance
