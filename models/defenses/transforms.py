"""Input transforms, computed by ART's preprocessors (extra `engines`), with a gradient that
adaptive attacks can use.

The forward pass is the transform; the backward pass takes it for the identity (BPDA's
straight-through estimator, Athalye et al., arXiv 1802.00420, section 4.1). With `attack="unaware"`
a pass with gradients skips the transform: the attacker does not know of it, the figure is the
over-estimate that papers before 2018 published.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.models.defenses.entry import Defense

REVISION = 1
ATTACKS = ("bpda", "unaware")


class Transform(nn.Module):
    """One of ART's preprocessors in front of a victim; deterministic unless a subclass says
    otherwise.
    """

    stochastic = False

    def __init__(self, attack: str) -> None:
        super().__init__()
        if attack not in ATTACKS:
            raise ValueError(
                f"attack on an input transform must be one of {', '.join(ATTACKS)}, got {attack!r}"
            )
        self.attack = attack
        self.preprocessor = self.load()

    def load(self) -> Any:
        """ART's preprocessor."""
        raise NotImplementedError

    @torch.no_grad()
    def transformed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> same."""
        pixels = x.clamp(0, 1).cpu().numpy().astype(np.float32)
        with seeded_numpy():
            result, _ = self.preprocessor(pixels)
        return torch.from_numpy(np.ascontiguousarray(result, np.float32)).to(x)

    def forward(self, x: Tensor) -> Tensor:
        attacked = torch.is_grad_enabled() and x.requires_grad
        if attacked and self.attack == "unaware":
            return x
        straight = x - x.detach() if attacked else 0.0
        return self.transformed(x) + straight


class Jpeg(Transform):
    """JPEG compression (Dziugaite et al., arXiv 1608.00853; Guo et al., arXiv 1711.00117);
    `quality` 1 (worst) to 95.
    """

    def __init__(self, *, quality: int = 50, attack: str = "bpda") -> None:
        if not 1 <= quality <= 95:
            raise ValueError(f"jpeg: quality must lie in 1..95, got {quality}")
        self.quality = quality
        super().__init__(attack)

    def load(self) -> Any:
        return art("JpegCompression")((0.0, 1.0), self.quality, channels_first=True)


class BitDepth(Transform):
    """Feature squeezing by fewer bits a pixel (Xu et al., NDSS 2018, arXiv 1704.01155); `bits` 1 to
    7.
    """

    def __init__(self, *, bits: int = 4, attack: str = "bpda") -> None:
        if not 1 <= bits <= 7:
            raise ValueError(f"bit-depth: bits must lie in 1..7, got {bits}")
        self.bits = bits
        super().__init__(attack)

    def load(self) -> Any:
        return art("FeatureSqueezing")((0.0, 1.0), self.bits)


class Median(Transform):
    """Feature squeezing by a median filter (Xu et al., NDSS 2018, arXiv 1704.01155); `window`
    pixels a side.
    """

    def __init__(self, *, window: int = 3, attack: str = "bpda") -> None:
        if window < 2:
            raise ValueError(f"median: window must be at least 2, got {window}")
        self.window = window
        super().__init__(attack)

    def load(self) -> Any:
        return art("SpatialSmoothing")(self.window, channels_first=True, clip_values=(0.0, 1.0))


class TotalVariation(Transform):
    """Total variation minimisation (Guo et al., ICLR 2018, arXiv 1711.00117): refits a random share
    of the pixels. Slow.

    Args:
        keep: share of pixels that the fit sees, in (0, 1).
        weight: of the (anisotropic) total variation.
    """

    stochastic = True

    def __init__(self, *, keep: float = 0.5, weight: float = 0.03, attack: str = "bpda") -> None:
        if not 0 < keep < 1:
            raise ValueError(f"total-variation: keep must lie in (0, 1), got {keep}")
        self.keep, self.weight = keep, weight
        super().__init__(attack)

    def load(self) -> Any:
        return art("TotalVarMin")(prob=self.keep, norm=1, lamb=self.weight, clip_values=(0.0, 1.0))

    @torch.no_grad()
    def transformed(self, x: Tensor) -> Tensor:
        return (
            super().transformed(x.movedim(1, 3)).movedim(3, 1)
        )  # this preprocessor takes channels last


@contextlib.contextmanager
def seeded_numpy() -> Iterator[None]:
    """ART draws from NumPy's global state: here it follows torch's, and is put back afterwards."""
    state = np.random.get_state()
    np.random.seed(int(torch.randint(2**31, ())))
    try:
        yield
    finally:
        np.random.set_state(state)


def art(name: str) -> Any:
    """A preprocessor class of ART."""
    try:
        from art.defences import preprocessor
    except ImportError as error:
        raise ValueError(
            "input transforms come from adversarial-robustness-toolbox: pip install"
            " 'medrobust[engines]'"
        ) from error
    return getattr(preprocessor, name)


JPEG = Defense(name="jpeg", transform=Jpeg)
BIT_DEPTH = Defense(name="bit-depth", transform=BitDepth)
MEDIAN = Defense(name="median", transform=Median)
TOTAL_VARIATION = Defense(name="total-variation", transform=TotalVariation)
