"""What records and certificates are made of alike: victim, data, names, environment, digests.

A part keeps what it was made of: fields that were absent stay absent when it is written again,
those of newer versions stay, whole numbers stay whole. So hashes and digests of what was read are
those of what would be written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator

SHORT = 12
"""Digits of a hash that are shown."""


def _as_written(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """A number that is valid as it is: 1 and 1.0 have different hashes."""
    validate(value)
    return value


Number = Annotated[float, WrapValidator(_as_written)]
Share = Annotated[float, Field(ge=0, le=1), WrapValidator(_as_written)]
Size = Annotated[float, Field(ge=0), WrapValidator(_as_written)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]


class Part(BaseModel):
    """A part of what a store keeps; never changed."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def plain(self) -> dict[str, Any]:
        """Its JSON, as it was read or is to be written."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def __getitem__(self, name: str) -> Any:
        """A field as its JSON holds it, dictionaries within: `record["figures"]["robust"]`."""
        return self.plain()[name]


class InputsAndTasks(Part):
    """What modalities and tasks are called."""

    modalities: list[str] = Field(min_length=1)
    tasks: list[str] = Field(min_length=1)


class DefenseSpec(Part):
    """A layer of the victim's defence with all its parameters."""

    name: str
    params: dict[str, Any]

    @property
    def unaware(self) -> bool:
        """Whether attacks were not told of it."""
        return bool(self.params.get("attack") == "unaware")


class ReadingSpec(Part):
    """How a file of weights was read that holds several sets, or names other than the model's."""

    part: str | None = Field(None, description="which of its sets of weights")
    names: dict[str, str | None] | None = Field(
        None, description="prefixes of names that were changed; null: left out"
    )


class VictimSpec(Part):
    """The trained network."""

    model: str
    params: dict[str, Any]
    preset: str
    recipe: dict[str, Any] | None = Field(
        None, description="of the training that its sidecar tells of; null for foreign weights"
    )
    training: Hash | None = Field(
        None, description="of that training's specification without its seed and data"
    )
    train_seed: int | None
    weights_sha256: Hash
    access: Literal["scores", "decisions"] | None = Field(
        None, description="what a black box answers with; absent: the victim is none"
    )
    abstains: int | None = Field(
        None,
        description="revision of how its method `reject` was heeded; absent: it has none: what is"
        " right in such a record is right or rejected",
    )
    reading: ReadingSpec | None = Field(
        None, description="how the file of weights was read; absent: as it is"
    )
    defense: list[DefenseSpec] = Field([], description="its layers in order; absent: undefended")
    source_sha256: Hash | None = Field(
        None, description="of the file that builds a model of the user's own"
    )
    revision: dict[str, int] | None = Field(
        None, description="of the files that the model and its defences are made of"
    )
    code: dict[str, Hash] | None = Field(None, description="of defences of the user's own, by name")

    @property
    def checkpoint(self) -> str:
        """The first digits of the weights' hash, as tables show it."""
        return self.weights_sha256[:SHORT]


class FoldSpec(Part):
    """Fold `number` (from 0) of the `of` of a cross-validation; `content` is the hash of the files
    and the split's seed.
    """

    number: int = Field(ge=0)
    of: int = Field(ge=2)
    content: Hash


class DataSpec(Part):
    """The samples: `n` first ones of a split, images of `size` pixels, `manifest` the hash of
    splits and pairing.
    """

    name: str
    split: str
    n: int = Field(ge=1)
    samples: Hash = Field(description="of their ids in order")
    size: int = Field(ge=1)
    channels: list[int]
    preprocessing: dict[str, str] | None = Field(
        None, description="how images of other shapes and scales were made to fit"
    )
    manifest: str
    shapes: list[list[int]] | None = Field(
        None, description="(C, H, W) of each modality; absent where all are `size` x `size`"
    )
    fold: FoldSpec | None = None
    anonymous: str | None = Field(
        None,
        description="fingerprint of the key that samples of an anonymous copy are named by; absent:"
        " they have their own names",
    )

    @property
    def label(self) -> str:
        """The data set, with the number of folds where it is a cross-validation: other test samples
        than those of the usual split.
        """
        return self.name + (f" ({self.fold.of}-fold)" if self.fold else "")


class Environment(Part):
    """Where it ran."""

    device: str
    versions: dict[str, str]
    started: Number
    threads: int | None = Field(
        None, description="of PyTorch on the CPU: trainings with other numbers differ in rounding"
    )
    seconds: Number | None = Field(None, description="wall clock, in certificates")


class Digests(Part):
    """What a reader checks before it believes: sha256 of the outcomes' npz, and of everything else
    here as canonical JSON.
    """

    outcomes: Hash
    record: Hash


class Kept(Part):
    """What records and certificates share."""

    hash: Hash
    schema_: int = Field(1, alias="schema", ge=1, description="version of what the hash means")
    shape: int = Field(1, ge=1, description="version of the layout")
    source: Hash | None = Field(
        None, description="hash of what this is an anonymous copy of; absent: it is none"
    )
    digests: Digests | None = Field(
        None, description="absent in what was written before there were any (shape 1)"
    )

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """One made of what it should say: anything that JSON can hold; tuples become lists.

        Raises:
            pydantic.ValidationError: it breaks the schema.
            ValueError: it holds a number that is not finite.
        """
        return cls.model_validate(json.loads(json.dumps(content, allow_nan=False)), strict=True)

    @property
    def short(self) -> str:
        """The first digits of its hash, as tables and commands call it."""
        return self.hash[:SHORT]

    def plain(self) -> dict[str, Any]:
        """Its JSON, as it was read or is to be written; what says how to read it comes last."""
        content = super().plain()
        last = {key: content.pop(key) for key in ("schema", "shape", "digests") if key in content}
        return content | last
