"""Suites: one name for many data sets and pairings, shipped or in a user's YAML file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_med.data.cards import PhantomReader, card
from robustbench_med.data.source import locate
from robustbench_med.errors import UserError
from robustbench_med.formats import yaml_file
from robustbench_med.formats.files import door, text_of

SUITES = files(__package__) / "suites"


class Suite(BaseModel):
    """A suite file: `suite` is its name, `pairings` what `--data` would be given one by one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    title: str = ""
    pairings: tuple[str, ...] = Field(min_length=1)


def names() -> list[str]:
    """Suites shipped."""
    return sorted(
        path.name.removesuffix(".yaml") for path in SUITES.iterdir() if path.name.endswith(".yaml")
    )


def suite(name: str) -> Suite | None:
    """A shipped suite by name or a user's by path; None where the name is no suite's."""
    if name in names():
        text = (SUITES / f"{name}.yaml").read_text(encoding="utf-8")
    elif name.endswith((".yaml", ".yml")) and "+" not in name:
        with door("the data card or suite", name):
            text = text_of(Path(name))
    else:
        return None
    loaded = yaml_file.loads(text, "the data card or suite", name)
    if not isinstance(loaded, dict) or "suite" not in loaded:
        return None  # a data card
    try:
        return Suite.model_validate(loaded)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"suite {name}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"
        ) from error


def expand(data: list[str], data_root: Path | None) -> tuple[list[str], list[str]]:
    """What `--data` kept with its suites taken apart, and a line for every pairing left out
    because a set of it is not on disk.

    Only a suite's pairings are left out; a set the user kept is loaded, or refused, as always.

    Raises:
        UserError: nothing is left.
    """
    kept: list[str] = []
    skipped: list[str] = []
    for name in data:
        members = suite(name)
        if members is None:
            kept.append(name)
            continue
        for pairing in members.pairings:
            absent = [part for part in pairing.split("+") if not _here(part, data_root)]
            if absent:
                skipped.append(
                    f"{members.suite}: skipped {pairing}, not on disk: {', '.join(absent)}"
                    f" (`medrobust data show {absent[0]}`)"
                )
            else:
                kept.append(pairing)
    if not kept:
        raise UserError(
            f"none of the pairings of {', '.join(data)} is on disk; `medrobust data list` says what"
            " is, `data show ID` how to get it"
        )
    return list(dict.fromkeys(kept)), skipped


def _here(name: str, data_root: Path | None) -> bool:
    each = card(name)
    return isinstance(each.reader, PhantomReader) or locate(each, data_root) is not None
