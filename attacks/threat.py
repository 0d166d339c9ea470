"""The threat model: what the attacker may do, and whose predictions it wants wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Norm = Literal["Linf", "L2"]


@dataclass(frozen=True)
class Threat:
    """What the attacker may do.

    Args:
        norm: "Linf" or "L2"; L2 is one ball per modality.
        radii: radius of each modality, for pixels in [0, 1]; a modality of radius 0 is trusted and
            comes back bit-identical.
        tasks: indices of the tasks whose predictions the attacker wants wrong; their losses are
            summed.
        targeted: the labels given to an attack are classes it wants predicted, not classes it wants
            to avoid.
    """

    norm: Norm
    radii: tuple[float, ...]
    tasks: tuple[int, ...]
    targeted: bool = False
