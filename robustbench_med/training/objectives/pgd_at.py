"""PGD adversarial training (Madry et al., arXiv 1706.06083), from which all schemes derive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.attacks import Streams, Threat, View, derive_seed
from robustbench_med.attacks.pgd import pgd
from robustbench_med.attacks.threat import Norm
from robustbench_med.models.defenses.entry import Defense
from robustbench_med.training.objectives.standard import Passes, Standard

VALIDATION_STEPS = 10
"""PGD steps of a quarter radius by which a robust training is validated (arXiv 2002.11569)."""


@dataclass
class PGDAT(Standard):
    """PGD adversarial training (Madry et al., arXiv 1706.06083, equation 2.1).

    Args:
        shapes: (C, H, W) of each modality.
        radii: radius of each modality.
        norm: "Linf" or "L2".
        steps, step_size: of the inner PGD, a step being a share of the radius.
        attacked: "all" modalities in every batch, or a "random" non-empty choice of them a batch.
        seed: of the starting points.
    """

    shapes: Sequence[tuple[int, int, int]]
    radii: tuple[float, ...]
    norm: Norm = "Linf"
    steps: int = 7
    step_size: float = 0.25
    attacked: str = "all"
    seed: int = 0
    optional = tuple[int, ...]()  # no field: what a user derives from this keeps its hash
    """Modalities that samples may miss."""

    @property
    def passes(self) -> Passes:  # type: ignore[override]
        return Passes(self.steps + 1, self.steps, 1)

    def threat(self, step: int, tasks: int) -> Threat:
        """The threat of one batch."""
        radii = self.radii
        if self.attacked == "random" and len(radii) > 1:
            choice = np.random.default_rng([self.seed, step, 2]).integers(1, 2 ** len(radii))
            radii = tuple(r if choice >> m & 1 else 0.0 for m, r in enumerate(radii))
        return Threat(self.norm, radii, tuple(range(tasks)), optional=self.optional)

    def streams(self, n: int, step: int, device: torch.device) -> Streams:
        keys = [derive_seed(self.seed, "training", step, i) for i in range(n)]
        return Streams(keys, device=device)

    def perturb(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        view = View(victim, self.shapes)
        with statistics_held(victim):
            return view.unpack(
                self.adversarial(
                    view, view.pack(x), y, self.threat(step, y.shape[1]), step
                ).detach()
            )

    def adversarial(self, view: View, x: Tensor, y: Tensor, threat: Threat, step: int) -> Tensor:
        streams = self.streams(len(x), step, x.device)
        return pgd(
            view, x, y, threat, streams, steps=self.steps, step_size=self.step_size, keep="last"
        )

    def validation(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        """PGD against the victim as it is evaluated; a random one's last iterate, not the draw it
        failed at.
        """
        view = View(victim, self.shapes)
        threat = Threat(self.norm, self.radii, tuple(range(y.shape[1])), optional=self.optional)
        keep = "last" if getattr(victim, "stochastic", False) else "best"
        flat, streams = view.pack(x), self.streams(len(y), step, y.device)
        return view.unpack(
            pgd(
                view, flat, y, threat, streams, steps=VALIDATION_STEPS, step_size=0.25, keep=keep
            ).detach()
        )


@contextlib.contextmanager
def statistics_held(victim: nn.Module) -> Iterator[None]:
    """BatchNorm normalises as in training, but its running statistics do not learn from adversarial
    iterates.
    """
    layers = [m for m in victim.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [layer.momentum for layer in layers]
    counts = [
        layer.num_batches_tracked.clone()
        for layer in layers
        if layer.num_batches_tracked is not None
    ]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
        for layer, count in zip(
            (m for m in layers if m.num_batches_tracked is not None), counts, strict=True
        ):
            layer.num_batches_tracked.copy_(count)  # type: ignore[union-attr]


ENTRY = Defense(name="pgd-at", objective=PGDAT)
