"""What a card's user says that no record knows: intended use and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_med.errors import UserError, unknown
from robustbench_med.formats import yaml_file

LONGEST = 400
"""Characters of one statement: all of them have to fit on one page."""
USE = ("intended_use", "users", "patients", "not_for", "notes")
DEVICE = ("device", "version", "manufacturer", "contact")
Said = Annotated[str, Field(max_length=LONGEST)]


class About(BaseModel):
    """What `--about` holds; everything may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    device: Said | None = None
    version: Said | None = None
    manufacturer: Said | None = None
    contact: Said | None = None
    intended_use: Said | None = None
    users: Said | None = None
    patients: Said | None = None
    not_for: Said | None = None
    notes: Said | None = None

    @property
    def lines(self) -> list[str]:
        """What is said, in two paragraphs: of the use, and of the device and who makes it."""
        said = {name: " ".join(text.split()) for name, text in self if text}
        return [line for names in (USE, DEVICE) if (line := _joined(said, names))]


def _joined(said: Mapping[str, str], names: Sequence[str]) -> str:
    return " ".join(
        f"{name.replace('_', ' ').capitalize()}: {said[name].rstrip('.')}."
        for name in names
        if name in said
    )


def read(path: Path) -> About:
    """The statements of a YAML file.

    Raises:
        UserError: it cannot be read, says something else, or too much for a page.
    """
    try:
        content, keys = yaml_file.load_mapping(path, "what is said of the card")
        for key in keys:
            if key not in About.model_fields:
                raise UserError(f"{path}: {unknown('key', key, sorted(About.model_fields))}")
        return About.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        hint = " (write numbers and dates in quotation marks)" if "string" in first["msg"] else ""
        raise UserError(f"{path}: {where}: {first['msg']}{hint}") from error
