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
    order = ORDER[norm]
    alpha_max, eta, beta = 0.1, 1.05, 0.9
    x, best, distance, alphas = x0, x0, np.inf, []
    for _ in range(steps):
        value, w = f(x)

        def to_plane(point: Array, x: Array = x, value: float = value, w: Array = w) -> Array:
            """The smallest d with f(x) + w . (point + d - x) = 0."""
            gap = -(value + w @ (point - x))
            steepest = np.where(np.abs(w) == np.abs(w).max(), w, 0)
            along = {"Linf": np.sign(w), "L2": w, "L1": steepest}[norm]
            return gap * along / (w @ along)

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


DUAL = {"Linf": 1, "L2": 2, "L1": np.inf}
ORDER = {"Linf": np.inf, "L2": 2, "L1": 1}


def places(change: Array, channels: int) -> Array:
    """Whether anything changed at each place of an image."""
    return (change.reshape(channels, -1) != 0).any(0)


def nearest_l1(x: Array, x0: Array, radius: float) -> Array:
    """The nearest point in the ball and in [0, 1], by bisection for what every coordinate gives up."""
    change = x - x0
    room = np.where(change > 0, 1 - x0, x0)

    def kept(t: float) -> Array:
        return np.minimum(np.maximum(np.abs(change) - t, 0), room)

    low, high = 0.0, float(np.abs(change).max())
    if kept(low).sum() <= radius:
        return np.clip(x, 0, 1)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle).sum() > radius else (low, middle)
    return np.clip(x0 + np.sign(change) * kept(high), 0, 1)


def nearest_l0(x: Array, x0: Array, count: int, channels: int) -> Array:
    """The same where `count` places may change: those whose way back is the longest."""
    inside = np.clip(x, 0, 1)
    gain = (((x - x0) ** 2) - (x - inside) ** 2).reshape(channels, -1).sum(0)
    chosen = np.zeros(gain.shape, bool)
    chosen[np.argsort(-gain, kind="stable")[:count]] = True
    return np.where(np.tile(chosen, channels), inside, x0)


def fmn(
    f: Callable[[Array], tuple[float, Array]], x0: Array, norm: str, steps: int, channels: int
) -> tuple[Array, float]:
    """Algorithm 1 of arXiv 2102.12827, its step to the boundary a thousandth longer, and longer by
    gamma where the boundary does not move on; in L1 and L0 the nearest points are in [0, 1] too.

    Returns every point (steps + 1, D), and the distance of the closest beyond the boundary f = 0.
    """

    def size_of(change: Array) -> float:
        if norm == "L0":
            return float(places(change, channels).sum())
        return float(np.linalg.norm(change, ORDER[norm]))

    x, epsilon, distance, path = x0, 1.0 if norm == "L0" else np.inf, np.inf, []
    worst = size_of(np.maximum(x0, 1 - x0))
    for k in range(steps + 1):
        alpha, gamma = annealed(1.0, 0.01, k, steps), annealed(0.05, 0.001, k, steps)
        value, g = f(x)
        broken, size = value > 0, size_of(x - x0)
        path.append(x)
        if broken:
            distance = min(distance, size)
        if norm == "L0":
            less = max(min(epsilon - 1, np.floor(epsilon * (1 - gamma)), distance), 1)
            more = max(epsilon + 1, np.floor(epsilon * (1 + gamma)))
            epsilon = less if broken else more
        else:
            reach = size + abs(value) / float(np.linalg.norm(g, DUAL[norm]))
            if broken:
                epsilon = min(epsilon * (1 - gamma), distance)
            elif np.isfinite(distance) or (reach <= epsilon < np.inf):
                epsilon *= 1 + gamma
            else:
                epsilon = 1.001 * reach
        epsilon = min(epsilon, worst)
        moved = x + alpha * g / np.linalg.norm(g)
        if norm == "L1":
            x = nearest_l1(moved, x0, epsilon)
        elif norm == "L0":
            x = nearest_l0(moved, x0, int(epsilon), channels)
        elif norm == "Linf":
            x = np.clip(x0 + np.clip(moved - x0, -epsilon, epsilon), 0, 1)
        else:
            x = np.clip(x0 + (moved - x0) * min(1.0, epsilon / size_of(moved - x0)), 0, 1)
    return np.stack(path), distance


def sigma_zero(
    f: Callable[[Array], tuple[float, Array]], x0: Array, steps: int, channels: int
) -> tuple[Array, float]:
    """Algorithm 1 of arXiv 2402.01879 where the channels of a place count together.

    Returns every point (steps + 1, D), and the fewest places beyond the boundary f = 0.
    """
    delta, tau, fewest, path = np.zeros_like(x0), 0.3, np.inf, []
    m, v = np.zeros_like(x0), np.zeros_like(x0)
    for k in range(steps + 1):
        value, slope = f(x0 + delta)
        path.append(x0 + delta)
        if value > 0:
            fewest = min(fewest, float(places(delta, channels).sum()))
        square = np.tile((delta.reshape(channels, -1) ** 2).sum(0), channels)
        count = 2 * delta * 0.001 / (square + 0.001) ** 2 / (len(x0) // channels)
        g = count - (slope if value < 0 else 0)
        g = g / max(float(np.abs(g).max()), 1e-12)
        eta = annealed(1.0, 0.1, k, steps)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        adam = (m / (1 - 0.9 ** (k + 1))) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8)
        delta = np.clip(x0 + delta - eta * adam, 0, 1) - x0
        tau = min(max(tau + 0.01 * eta * (1 if value > 0 else -1), 0), 1)
        most = np.tile(np.abs(delta).reshape(channels, -1).max(0), channels)
        delta = np.where(most < tau, 0, delta)
    return np.stack(path), fewest


def ead(
    f: Callable[[Array], tuple[float, Array]], x0: Array, steps: int, search: int
) -> tuple[Array, float]:
    """Algorithm 1 of arXiv 1709.04114 with FISTA's step and the code's search for c.

    Returns every point that is looked at, gradients' and iterates' in turn, and the L1 distance of
    the closest beyond the boundary f = 0.
    """
    beta, c, low, high, distance, path = 0.01, 0.001, 0.0, np.inf, np.inf, []
    for _ in range(search):
        x, y, broken = x0, x0, False
        for k in range(steps):
            value, slope = f(y)
            path.append(y)
            smooth = 2 * (y - x0) - c * slope * (value < 0)
            z = y - 0.01 * np.sqrt(1 - k / steps) * smooth
            shrunk = np.where(z - x0 > beta, np.minimum(z - beta, 1), x0)
            shrunk = np.where(z - x0 < -beta, np.maximum(z + beta, 0), shrunk)
            x, y = shrunk, shrunk + k / (k + 3) * (shrunk - x)
            path.append(x)
            if f(x)[0] > 0:
                broken, distance = True, min(distance, float(np.abs(x - x0).sum()))
        low, high = (low, c) if broken else (c, high)
        c = 10 * c if np.isinf(high) else (low + high) / 2
    return np.stack(path), distance
