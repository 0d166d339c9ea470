"""What a specification says of data and weights besides their names. Light enough for `--help` to
import.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Fold = tuple[int, int]
"""(k, n): fold k, from 0, of the n of a cross-validation."""


class Preprocessing(BaseModel):
    """Choices between file and model, part of every record.

    Attributes:
        fit: `stretch` to the square, `pad` with black to keep the aspect, or `crop` the centre.
        scaling: `fixed`: grey levels mean the same in every image; `minmax`: each image's extremes
            become 0 and 255.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fit: Literal["stretch", "pad", "crop"] = "stretch"
    scaling: Literal["fixed", "minmax"] = "fixed"


class Reading(BaseModel):
    """How a file of weights is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    part: str | None = None
    """Which of its sets of weights; None: the usual one."""
    map: tuple[str, ...] = ()
    """What is asked of the names of its tensors (`training.weight_names.found`)."""
    names: dict[str, str | None] = {}
    """What became of them, by prefixes; empty until it is read, and where they are the network's.
    """

    def taken(self, part: str, names: Mapping[str, str | None]) -> Reading:
        """The same once it was read."""
        return Reading(
            part=part if self.part is not None else None, map=self.map, names=dict(names)
        )

    @property
    def told(self) -> dict[str, Any]:
        """What a record says of it; empty where nothing was asked for and names fit."""
        facts = {"part": self.part, "names": self.names}
        return {key: value for key, value in facts.items() if value}


def is_table(shape: tuple[int, int, int]) -> bool:
    """Whether a modality (C, H, W) is a clinical table: (D, 1, 1)."""
    return shape[1:] == (1, 1)


def shapes(
    channels: Sequence[int], size: int, tables: Collection[int] = ()
) -> list[tuple[int, int, int]]:
    """(C, size, size) of each modality, (D, 1, 1) of those that are tables."""
    return [(c, 1, 1) if m in tables else (c, size, size) for m, c in enumerate(channels)]
