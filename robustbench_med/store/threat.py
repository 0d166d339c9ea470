"""What a record says of its threat model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from robustbench_med.naming import Norm
from robustbench_med.store.parts import Part, Size


class ThreatSpec(Part):
    """What the attacker may do: a radius per modality (pixels in 0..1, 0 = trusted) and the tasks
    aimed at.
    """

    norm: Norm
    radii: list[Size]
    tasks: list[int] = Field(min_length=1)
    counts: Literal["coordinates"] | None = Field(
        None, description="what L0 counts; absent: pixels, all their channels together"
    )
    target: str | None = Field(
        None, description="the rule that chooses the classes aimed at; absent: any wrong one"
    )
    columns: dict[str, Size] | None = Field(
        None,
        description="bounds of the columns of clinical tables in their own units, and how many"
        " categorical ones may flip; absent: tables are trusted",
    )
    units: dict[str, str] | None = Field(
        None, description="radii in the unit of the files, as given; absent: none was"
    )
    each: str | None = Field(
        None,
        description="where radii differ between samples, and `radii` are the largest: sha256 of"
        " theirs, which the outcomes hold as `radii` (n, modalities); absent: they are the same",
    )

    least: int | None = Field(
        None,
        ge=1,
        description="how many of the tasks the attacker wants wrong, whichever of each sample he"
        " chooses; absent: all",
    )

    def unit_of(self, modality: str) -> str | None:
        """The radius of a modality in the unit of its files, where it was given so."""
        return (self.units or {}).get(modality)

    @property
    def norm_label(self) -> str:
        """The norm as tables name it: an L0 of coordinates is another than one of pixels."""
        return f"{self.norm} {self.counts}" if self.counts else self.norm
