"""The contract of a black box: what it takes and gives, in a YAML file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, field_validator, model_validator

from robustbench_med.errors import UserError
from robustbench_med.formats import yaml_file
from robustbench_med.models.black_box import FaultyAnswerError, Gives, Images
from robustbench_med.models.trial import Kind
from robustbench_med.parsing import STRICT, validate

NAME = re.compile(r"^[A-Za-z0-9][\w.-]*$")
"""What tables may call it."""
UNHEARD = ("headers", "batch_size", "rate", "timeout", "retries")
"""What no answer depends on, and so no identity."""


class Contract(BaseModel):
    """What a black box takes and gives."""

    model_config = STRICT

    name: str = Field(pattern=NAME.pattern)
    """What tables call it."""
    version: str
    """Your word for what answers: raise it whenever its answers may change."""
    gives: Gives = "scores"
    """A number for each class, or only which class it is."""
    outputs: Kind | None = None
    """What scores are; None: probabilities where they sum to 1, else logits."""
    images: dict[str, str] = {}
    """The field of each modality, dots between folders; by default its name."""
    encoding: Literal["float32", "uint8", "png"] = "float32"
    """How images are sent: raw float32 in [0, 1], or 8 bits, which is another victim."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Where the channels are."""
    mean: list[float] | None = Field(default=None, min_length=1)
    std: list[Annotated[float, Field(gt=0)]] | None = Field(default=None, min_length=1)
    """With float32: what is taken from each channel, and what it is divided by; a grey image gets
    as many channels as they have.
    """
    also: dict[str, Any] = {}
    """Further fields of every request."""
    headers: dict[str, str] = {}
    """Of every request; `${NAME}` is read from the environment."""
    answers: dict[str, str] = {}
    """The field of each task's scores or decisions; by default its name."""
    classes: dict[str, list[str]] = {}
    """Names of the classes that each task's decisions may be, in the order of the data."""
    batch_size: int = Field(default=16, ge=1)
    """Images of one request at most."""
    rate: float | None = Field(default=None, gt=0)
    """Requests a second at most."""
    timeout: float = Field(default=30.0, gt=0, le=86400)
    """Seconds for an answer."""
    retries: int = Field(default=3, ge=0)
    """How often a faulty answer is asked for again."""

    @field_validator("also")
    @classmethod
    def _as_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"fields of a request must be JSON: {error}") from error
        return value

    @model_validator(mode="after")
    def _normalised_as_float(self) -> Self:
        if self.encoding != "float32" and (self.mean or self.std):
            raise UserError(f"mean and std are for float32, the encoding is {self.encoding}")
        return self

    @property
    def note(self) -> str:
        """What readers of its figures must know."""
        if self.encoding == "float32":
            return ""
        return (
            f"{self.name} gets images as 8 bits ({self.encoding}): another victim than one that"
            " gets them as float32"
        )

    def identity(self) -> dict[str, Any]:
        """All that an answer depends on."""
        return self.model_dump(mode="json", exclude=set(UNHEARD), exclude_defaults=True)

    def encoded(self, images: Images) -> Images:
        """Images (B, C, H, W) float32 in [0, 1] as they are sent."""
        if self.encoding == "float32":
            if self.mean is not None:
                images = images - by_channel("mean", self.mean, images)
            if self.std is not None:
                images = images / by_channel("std", self.std, images)
            images = images.astype(np.float32)
        else:
            images = np.rint(images.clip(0, 1) * 255).astype(np.uint8)
        if self.layout == "NHWC":
            images = images.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images)

    def class_of(self, decision: Any, task: str) -> int:
        """The number of a class."""
        named = self.classes.get(task, [])
        if decision in named:
            return named.index(decision)
        if not named and isinstance(decision, int | float) and decision % 1 == 0:
            return int(decision)
        known = ", ".join(named) or "a class's number (or name them: classes)"
        raise FaultyAnswerError(f"the decision {decision!r} for {task}, needed {known}")


def by_channel(field: str, numbers: Sequence[float], images: Images) -> Images:
    """Numbers (1, C, 1, 1), of each channel; UserError where they are of other images."""
    channels = images.shape[1]
    if len(numbers) != channels and 1 not in (len(numbers), channels):
        raise UserError(
            f"the contract's {field} has {len(numbers)} numbers, the images {channels} channels"
        )
    return np.array(numbers, np.float32).reshape(1, -1, 1, 1)


def load(path: Path) -> Contract:
    """The contract that a YAML file holds; UserError."""
    content, _ = yaml_file.load_mapping(path, "the contract")
    return validate(Contract, content, f"the contract {path}")
