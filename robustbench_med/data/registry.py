"""The registry of data sets: one YAML card each, shipped or the user's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_med.errors import UserError, unknown

CARDS = files(__package__) / "cards"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Modality(_Strict):
    """One kind of image: a short name (`mri`, `xray`, `ultrasound`) and the channels of its files."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    channels: Literal[1, 3]


class Task(_Strict):
    """One classification task; class names in label order."""

    name: str
    classes: tuple[str, ...] = Field(min_length=2)


class PhantomReader(_Strict):
    """Drawn by the package."""

    kind: Literal["phantoms"]


class MedMNISTReader(_Strict):
    """A MedMNIST npz; `flag` is its key in `medmnist.INFO`."""

    kind: Literal["medmnist"]
    flag: str


class FolderReader(_Strict):
    """Class folders, below one folder per published split, or directly below the root when `splits` is empty."""

    kind: Literal["folders"]
    splits: dict[Literal["train", "val", "test"], str] = {}
    folders: dict[str, str] = {}
    """Folder name of a class where it differs from the class name."""


class Card(_Strict):
    """What is known about one data set."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    modalities: tuple[Modality, ...] = Field(min_length=1)
    tasks: tuple[Task, ...] = Field(min_length=1)
    counts: dict[str, int]
    url: str
    licence: str
    access: str
    citation: str
    reader: Annotated[PhantomReader | MedMNISTReader | FolderReader, Field(discriminator="kind")]
    provenance: str
    known_defects: tuple[str, ...] = ()
    synthetic: bool = False


def ids() -> list[str]:
    """Ids of the cards shipped, built-in phantoms first."""
    names = sorted(path.name.removesuffix(".yaml") for path in CARDS.iterdir() if path.name.endswith(".yaml"))
    return sorted(names, key=lambda name: name != "phantoms")


def card(name: str) -> Card:
    """A shipped card by id, or the user's own by a path to its YAML file."""
    if name in ids():
        text, origin = (CARDS / f"{name}.yaml").read_text(encoding="utf-8"), f"card {name}"
    elif name.endswith((".yaml", ".yml")):
        try:
            text, origin = Path(name).read_text(encoding="utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the data card {name}: {error}") from error
    else:
        raise unknown("data set", name, ids())
    try:
        return Card.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{origin}: {'.'.join(map(str, first['loc'])) or 'card'}: {first['msg']}") from error
