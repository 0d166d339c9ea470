"""The contract of a victim: what attacks, trainings and evaluations ask of a model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


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

    Attributes:
        n_modalities: how many modalities `forward` takes.
        class_counts: classes of each task.
        stochastic: whether two passes over the same images may differ.
        shares_noise: whether one random draw serves a whole batch; a victim that lacks it draws for
            each sample.
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
