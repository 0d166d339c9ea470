"""What a specification says of data besides their names. Light enough for `--help` to import."""

from __future__ import annotations

from typing import Literal

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
