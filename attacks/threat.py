"""The threat model: what the attacker may do, and whose predictions it wants wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustbench_med.naming import Counts, Norm

__all__ = ["Counts", "Norm", "Threat"]


@dataclass(frozen=True)
class Columns:
    """What may change of a clinical table, under Linf.

    Args:
        said: the bounds as a user gave them: ("clinic.age", radius in its own unit),
            ("clinic.flips", k).
        radii: radius of each coordinate for values in [0, 1]; 0 of those of categorical columns.
        groups: of each categorical column its first coordinate, and the one behind its last.
        flips: how many categorical columns may take another value.
    """

    said: tuple[tuple[str, float], ...]
    radii: tuple[float, ...]
    groups: tuple[tuple[int, int], ...] = ()
    flips: int = 0

    @property
    def radius(self) -> float:
        """The largest change of a coordinate: 1 where one may flip."""
        return 1.0 if self.flips else max(self.radii)


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
        columns: of each modality, what may change of it where it is a clinical table; empty where
            none is attacked. Its radius is then `Columns.radius`.
        optional: modalities that samples may miss: what is missing (all zeros) stays missing.
        each: radii of each sample, (n, M), where they differ: what a unit of a file is in [0, 1]
            may depend on the image. `radii` are then the largest. No attack sees such a threat:
            it gets samples whose radii are the same (`by_radii`).
        least: how many of the tasks he wants wrong, those of each sample that are easiest; None:
            all.
        units: radii in the unit of the files as a user gave them, by modality: ("xray", "4grey").

    Raises:
        ValueError: an L0 radius that is no whole number.
    """

    norm: Norm
    radii: tuple[float, ...]
    tasks: tuple[int, ...]
    targeted: bool = False
    counts: Counts = "pixels"
    columns: tuple[Columns | None, ...] = ()
    optional: tuple[int, ...] = ()
    each: tuple[tuple[float, ...], ...] = ()
    units: tuple[tuple[str, str], ...] = ()
    least: int | None = None

    def __post_init__(self) -> None:
        if self.norm == "L0" and any(radius != round(radius) for radius in self.radii):
            raise ValueError(f"an L0 radius is a whole number of {self.counts}, got {self.radii}")

    @property
    def flips(self) -> bool:
        """Whether categorical columns may take another value."""
        return any(columns is not None and columns.flips for columns in self.columns)

    @property
    def said(self) -> dict[str, float]:
        """The bounds of the columns of all attacked tables, as a user gave them."""
        return {name: bound for _, columns in self.tables() for name, bound in columns.said}

    def of(self, rows: Sequence[int]) -> Threat:
        """The same for some of the samples, in this order."""
        return replace(self, each=tuple(self.each[row] for row in rows)) if self.each else self

    def by_radii(self, rows: Sequence[int]) -> list[tuple[Threat, list[int]]]:
        """The places in `rows` of samples that share their radii, ascending, and their threat."""
        if not self.each:
            return [(self, list(range(len(rows))))]
        found: dict[tuple[float, ...], list[int]] = {}
        for place, row in enumerate(rows):
            found.setdefault(self.each[row], []).append(place)
        return [
            (replace(self, radii=radii, each=()), places) for radii, places in sorted(found.items())
        ]

    def bounds(self, n: int) -> tuple[tuple[float, ...], ...]:
        """The radii of each of n samples, (n, M)."""
        return self.each or (self.radii,) * n

    def tables(self) -> list[tuple[int, Columns]]:
        """The attacked tables by number of their modality."""
        return [(m, columns) for m, columns in enumerate(self.columns) if columns is not None]

    def over(self, radii: tuple[float, ...]) -> Threat:
        """The same with other radii of the modalities: those of 0 are trusted, those of a table's
        columns keep their proportions, and all its flips.
        """
        columns = tuple(
            None
            if each is None or not radius
            else replace(
                each,
                radii=tuple(min(r * radius / each.radius, 1.0) for r in each.radii)
                if not each.flips
                else each.radii,
            )
            for each, radius in zip(self.columns, radii, strict=False)
        )
        each = tuple(
            tuple(
                r * new / old if old else new
                for r, old, new in zip(own, self.radii, radii, strict=True)
            )
            for own in self.each
        )
        return replace(self, radii=radii, columns=columns if any(columns) else (), each=each)

    def scaled(self, factor: float) -> Threat:
        """The same with radii so many times as large; of L0 to the nearest whole number, at least
        one where it was.
        """
        radii = tuple(factor * radius for radius in self.radii)
        if self.norm == "L0":
            radii = tuple(max(round(r), 1) if r > 0 else 0.0 for r in radii)
        return self.over(radii) if self.columns or self.each else replace(self, radii=radii)
