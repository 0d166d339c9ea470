"""Defences that change a victim: its layers (trained with them) or what it does to its inputs at
inference (no training).

`NETWORK[name](victim, shapes, *, parameters)` changes a victim in place before it is trained;
`INFERENCE[name](*, parameters)` makes a module that maps one modality (B, C, H, W) in [0, 1] to the
same shape, and `Defended` puts such modules in front of a victim. Defences that only change the
training are the harness's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from robustbench_med.models.defenses.randomised import (
    InputNoise,
    ResizePad,
    gate_noise,
    random_filters,
    weight_noise,
)
from robustbench_med.models.defenses.transforms import BitDepth, Jpeg, Median, TotalVariation

NETWORK: dict[str, Callable[..., None]] = {
    "rpf": random_filters,
    "man": gate_noise,
    "pni": weight_noise,
}
INFERENCE: dict[str, Callable[..., nn.Module]] = {
    "jpeg": Jpeg,
    "bit-depth": BitDepth,
    "median": Median,
    "total-variation": TotalVariation,
    "resize-pad": ResizePad,
    "input-noise": InputNoise,
    "smoothing": InputNoise,
}


class Defended(nn.Module):
    """A victim behind input transforms, with a victim's contract; every modality passes all
    transforms, in order.
    """

    def __init__(self, network: nn.Module, transforms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.transforms = nn.ModuleList(transforms)
        self.n_modalities: int = network.n_modalities  # type: ignore[assignment]
        self.class_counts: tuple[int, ...] = network.class_counts  # type: ignore[assignment]
        self.shares_noise = bool(getattr(network, "shares_noise", False))
        self.stochastic = bool(network.stochastic) or any(t.stochastic for t in transforms)

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        xs = list(modalities)
        for transform in self.transforms:
            xs = [transform(x) for x in xs]
        logits: tuple[Tensor, ...] = self.network(*xs)
        return logits


__all__ = ["INFERENCE", "NETWORK", "Defended"]
