"""Defences that change a victim: its layers (trained with them) or what it does to its inputs at
inference (no training).

`NETWORK[name](victim, shapes, *, parameters)` changes a victim in place before it is trained;
`INFERENCE[name](*, parameters)` makes a module that maps one modality (B, C, H, W) in [0, 1] to the
same shape, and `Defended` puts such modules in front of a victim. A defence of medrobust's is one
line in `SHIPPED`: the entry that stands beside its function. Defences that only change the training
are the harness's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustbench_med.models.contract import Generators, Victim, takes_generators
from robustbench_med.models.defenses import randomised, transforms
from robustbench_med.models.defenses.entry import Defense, InMail
from robustbench_med.models.tables import optional_of, present

ROBUST_MAIL = Defense(
    name="robust-mail",
    in_mail=InMail("robust-mail"),
    summary="The authors' RPF and MAN together, on mail (arXiv 2602.15346).",
)
SHIPPED = (
    randomised.RPF,
    randomised.MAN,
    randomised.PNI,
    ROBUST_MAIL,
    transforms.JPEG,
    transforms.BIT_DEPTH,
    transforms.MEDIAN,
    transforms.TOTAL_VARIATION,
    randomised.RESIZE_PAD,
    randomised.INPUT_NOISE,
    randomised.SMOOTHING,
)
"""The defences of medrobust that change the network or its inputs."""
NETWORK: dict[str, Callable[..., None]] = {
    entry.name: entry.network for entry in SHIPPED if entry.network is not None
}
INFERENCE: dict[str, Callable[..., nn.Module]] = {
    entry.name: entry.transform for entry in SHIPPED if entry.transform is not None
}


class Defended(nn.Module):
    """A victim behind input transforms, with a victim's contract; every image passes all
    transforms, in order. Clinical tables, (D, 1, 1), and what a sample misses stay as they are.
    """

    def __init__(self, network: nn.Module, transforms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.transforms = nn.ModuleList(transforms)
        victim = cast(Victim, network)
        self.n_modalities, self.class_counts = victim.n_modalities, victim.class_counts
        self.shares_noise = bool(getattr(network, "shares_noise", False))
        self.optional = optional_of(network)
        self.stochastic = bool(victim.stochastic) or any(t.stochastic for t in transforms)
        if hasattr(network, "soft"):
            self.soft = network.soft
        self.handed = tuple(takes_generators(part) for part in (*transforms, network))
        drawing = [*(bool(t.stochastic) for t in transforms), victim.stochastic]
        self.takes_generators = all(
            takes or not draws for takes, draws in zip(self.handed, drawing, strict=True)
        )

    @property
    def black_box(self) -> Any:
        """The device behind it, where the network is one that nobody can look into."""
        return getattr(self.network, "black_box", None)

    def forward(
        self, *modalities: Tensor, generators: Generators | None = None
    ) -> tuple[Tensor, ...]:
        given = [
            {"generators": generators} if takes and generators else {} for takes in self.handed
        ]
        xs = list(modalities)
        tables = [x.shape[2:] == (1, 1) for x in xs]
        for transform, numbers in zip(self.transforms, given, strict=False):
            xs = [
                x if table else transform(x, **numbers) for x, table in zip(xs, tables, strict=True)
            ]
        for m in self.optional:
            there = present([modalities[m]])[:, :, None, None]
            xs[m] = torch.where(there, xs[m], modalities[m])
        logits: tuple[Tensor, ...] = self.network(*xs, **given[-1])
        return logits


__all__ = ["INFERENCE", "NETWORK", "ROBUST_MAIL", "SHIPPED", "Defended", "Defense"]
