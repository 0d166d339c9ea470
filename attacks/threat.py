"""The threat model: what the attacker may do, and whose predictions it wants wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robustbench_med.naming import Counts, Norm

__all__ = ["Counts", "Norm", "Threat"]


@dataclass(frozen=True)
class Threat:
    """What the attacker may do.

    Args:
        norm: "Linf", "L2", "L1" or "L0"; but for Linf one ball per modality.
        radii: radius of each modality, for pixels in [0, 1]; a modality of radius 0 is trusted and
            comes back bit-identical. "L1": the sum of absolute changes. "L0": a whole number of
            places that may change.
        tasks: indices of the tasks whose predictions the attacker wants wrong; their losses are
            summed.
        targeted: the labels given to an attack are classes it wants predicted, not classes it wants
            to avoid.
        counts: what L0 counts: "pixels", places of an image with all their channels together, or
            "coordinates", each channel of each place by itself.

    Raises:
        ValueError: an L0 radius that is no whole number.
    """

    norm: Norm
    radii: tuple[float, ...]
    tasks: tuple[int, ...]
    targeted: bool = False
    counts: Counts = "pixels"

    def __post_init__(self) -> None:
        if self.norm == "L0" and any(radius != round(radius) for radius in self.radii):
            raise ValueError(f"an L0 radius is a whole number of {self.counts}, got {self.radii}")

    def scaled(self, factor: float) -> Threat:
        """The same with radii so many times as large; of L0 to the nearest whole number, at least
        one where it was.
        """
        radii = tuple(factor * radius for radius in self.radii)
        if self.norm == "L0":
            radii = tuple(max(round(r), 1) if r > 0 else 0.0 for r in radii)
        return replace(self, radii=radii)
