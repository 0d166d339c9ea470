"""Which weights a victim has, where it is not trained now. Light enough for `--help` to import."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

from robustbench_med.dataspec import Reading
from robustbench_med.errors import UserError
from robustbench_med.parsing import STRICT


class WeightsSpec(BaseModel):
    """A file of weights, and how it is read."""

    model_config = STRICT

    checkpoint: Path | None = None
    """Weights of the victim; in `train`, weights to start from."""
    checkpoint_part: str | None = None
    """Which set of weights of a file that holds several."""
    checkpoint_map: list[str] = []
    """What becomes of the names of its tensors (`training.weight_names.found`)."""

    @field_validator("checkpoint_map", mode="before")
    @classmethod
    def _map_listed(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _weights_to_read(self) -> Self:
        if self.checkpoint is None and self.reading != Reading():
            raise UserError("--checkpoint-part and --checkpoint-map say how --checkpoint is read")
        return self

    @property
    def reading(self) -> Reading:
        """How the file of weights is read."""
        return Reading(part=self.checkpoint_part, map=tuple(self.checkpoint_map))


class MayTrain(BaseModel):
    """Whether what has no weights gets some."""

    model_config = STRICT

    train: bool | None = None
    """Whether a model of the user's own is trained where no weights are named; None: it is, unless
    its code seems to load some.
    """


class AskedSpec(BaseModel):
    """What is said of black boxes."""

    model_config = STRICT

    contract: Path | None = None
    """What a black box takes and gives."""


class CappedSpec(BaseModel):
    """How long black boxes are asked."""

    model_config = STRICT

    max_queries: int | None = Field(None, ge=1)
    """Queries of a black box a sample and attack."""
