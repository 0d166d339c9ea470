"""Arrays and what is near them."""

import numpy as np

RNG = np.random.default_rng(0)


def near(pixels: np.ndarray, expected: np.ndarray, tolerance: float = 1) -> bool:
    assert pixels.shape == expected.shape
    return bool(np.abs(pixels.astype(float) - np.asarray(expected, float)).max() <= tolerance)


VALUES = np.array([[0, 500], [1000, 4000]])


def linear(x: np.ndarray, c: float, w: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, with the output range [0, 1]."""
    return np.where(
        x <= c - 0.5 - (w - 1) / 2,
        0,
        np.where(x > c - 0.5 + (w - 1) / 2, 1, (x - (c - 0.5)) / (w - 1) + 0.5),
    )


def linear_exact(x: np.ndarray, c: float, w: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.2."""
    return np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 1, (x - c) / w + 0.5))
