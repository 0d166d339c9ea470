"""Free adversarial training (Shafahi et al., arXiv 1904.12843)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustbench_med.attacks import View
from robustbench_med.models.defenses.entry import Defense
from robustbench_med.training.objectives.pgd_at import PGDAT
from robustbench_med.training.objectives.standard import Passes


@dataclass
class FreeAT(PGDAT):
    """Free adversarial training (Shafahi et al., arXiv 1904.12843, algorithm 1): a batch replayed
    `replays` times.

    One backward pass serves weights and perturbation; the perturbation is carried from step to
    step, and over to the next batch.
    """

    replays: int = 4
    delta: Tensor | None = field(default=None, init=False, repr=False)
    passes = Passes(forward=1, inner=0, backward=1)

    def replay(self, step: int) -> int:
        return step // self.replays

    def backward(self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int) -> Tensor:
        view = View(victim, self.shapes)
        clean, threat = view.pack(x), self.threat(self.replay(step), y.shape[1])
        delta = torch.zeros_like(clean) if self.delta is None else self.delta.to(clean)
        leaf = view.project(clean + delta, clean, threat).requires_grad_()
        loss = self.penalised(victim, x, view.unpack(leaf), y)
        loss.backward()
        assert leaf.grad is not None
        self.delta = (
            view.project(leaf.detach() + view.steepest(leaf.grad, threat), clean, threat) - clean
        )
        return loss.detach()

    def tensors(self) -> dict[str, Tensor]:
        return {} if self.delta is None else {"delta": self.delta}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.delta = tensors.get("delta")


ENTRY = Defense(name="free-at", objective=FreeAT, fixed=("steps", "step_size"), under_awp=False)
