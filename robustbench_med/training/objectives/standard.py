"""The plain training: what a training minimises, and what every objective is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.errors import UserError

Logits = tuple[Tensor, ...]


def multitask_loss(logits: Logits, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropies of the tasks, weighted 1/T; unlabelled samples (-1) do not count."""
    losses = [
        F.cross_entropy(
            z, y[:, t], ignore_index=-1, reduction="sum", label_smoothing=label_smoothing
        )
        / (y[:, t] >= 0).sum().clamp_min(1)
        for t, z in enumerate(logits)
    ]
    return torch.stack(losses).mean()


def kl(p: Tensor, logits: Tensor) -> Tensor:
    """KL(p || softmax(logits)), (B,); p (B, C) probabilities."""
    return F.kl_div(logits.log_softmax(1), p, reduction="none").sum(1)


def with_penalty(victim: nn.Module, loss: Tensor) -> Tensor:
    """A loss and the victim's own `penalty` on its weights, if it has one."""
    penalty = getattr(victim, "penalty", None)
    return loss if penalty is None else loss + penalty()


class Passes(NamedTuple):
    """Passes a sample and step of a training: forward; inner backward ones, which stop at the
    input; backward ones to the weights too.
    """

    forward: int
    inner: int
    backward: int


class Standard:
    """Cross-entropy on the images as they are. The other objectives differ in `perturb` and
    `loss`.
    """

    passes = Passes(forward=1, inner=0, backward=1)

    def replay(self, step: int) -> int:
        """Which batch a step takes."""
        return step

    def perturb(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        """The images that the loss is taken at."""
        return x

    def loss(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        return multitask_loss(victim(*perturbed), y)

    def backward(self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int) -> Tensor:
        """Leaves the gradient in the parameters and returns the loss."""
        perturbed = self.perturb(victim, x, y, step)
        loss = self.penalised(victim, x, perturbed, y)
        loss.backward()
        return loss.detach()

    def penalised(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        loss = self.loss(victim, x, perturbed, y)
        if not (isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad):
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(
                f"the training loss {type(self).__name__} returned {got}, expected a tensor of one"
                " number with a gradient"
            )
        return with_penalty(victim, loss)

    def tensors(self) -> dict[str, Tensor]:
        """State that an interrupted training needs."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""

    def validation(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor] | None:
        """Perturbed validation images, or None where the clean ones say what is asked for."""
        return None
