"""The contract of a victim: what attacks, trainings and evaluations ask of a model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn


class Generators(Protocol):
    """Random numbers of the samples of a batch, whose number is B, each with its own; what a random
    victim may take as `forward(*modalities, generators=None)`, and draws from where it is given.
    They lie on the device of the images.
    """

    def uniform(self, dim: int) -> Tensor:
        """(B, dim) float32 from U[0, 1)."""

    def normal(self, dim: int) -> Tensor:
        """(B, dim) float32 from N(0, 1)."""

    def integers(self, low: int, high: Sequence[int]) -> Tensor:
        """(B, len(high)) int64: column j uniform on low ... high[j] - 1."""

    def bernoulli(self, dim: int, of_256: int) -> Tensor:
        """(B, dim) bool, true with probability `of_256` / 256."""


class Victim(Protocol):
    """A victim is an `nn.Module` that keeps this contract.

    Normalisation lives inside it, so that attacks work in pixel space. Where code holds it as an
    `nn.Module`, `cast(Victim, module)` says that its attributes are these.

    It may also have:
        penalty: `penalty() -> Tensor`, a scalar that is added to the training loss.
        warm_up: `warm_up(progress)`, called before every training step with the share of the
            training that is done.
        soft: `soft()`, a context in which clips, gates and roundings pass a gradient while the
            forward values stay.
        reject: `reject(*modalities)`, one score a task, (B, T): a prediction is rejected where it
            is above 0 (`abstaining`).

    Attributes:
        n_modalities: how many modalities `forward` takes.
        class_counts: classes of each task.
        stochastic: whether two passes over the same images may differ.
        shares_noise: whether one random draw serves a whole batch; a victim that lacks it draws for
            each sample.

    A random victim may take `generators` (`Generators`) as a keyword of `forward`: what it draws
    for a sample then depends on no batch. An attribute `takes_generators = False` says that this
    one cannot.
    """

    n_modalities: int
    class_counts: tuple[int, ...]
    stochastic: bool
    shares_noise: bool

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        """Logits of each task.

        Args:
            modalities: (B, C_m, H_m, W_m) each, float32 in [0, 1].

        Returns:
            (B, classes_t) for each task t.
        """


def takes_generators(module: nn.Module) -> bool:
    """Whether a random victim, or a part of one, draws for each sample by itself: its forward has a
    keyword `generators`, and no attribute `takes_generators` says that it cannot use it.
    """
    told = getattr(module, "takes_generators", True)
    return bool(told) and "generators" in inspect.signature(module.forward).parameters
