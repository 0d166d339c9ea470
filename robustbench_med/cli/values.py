"""What is typed: lists, NAME=VALUE assignments and run files, read as the values of fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.parameters import flat, split
from robustbench_med.parsing import DECIMAL, number


def listed(text: str) -> list[str]:
    """The parts between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def assignments(options: Sequence[str]) -> dict[str, Any]:
    """`name=value` options as a dictionary; values as YAML reads them, and 1e-3 is a number too.
    `late.width=8`: of one model alone.
    """
    import yaml

    values: dict[str, Any] = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UserError(f"expected NAME=VALUE such as steps=50, got {text!r}")
        try:
            loaded = yaml.safe_load(value)
        except (RecursionError, yaml.YAMLError) as error:
            raise UserError(
                f"cannot read the value in {text!r}: {' '.join(str(error).split())}"
            ) from error
        if isinstance(loaded, str) and DECIMAL.fullmatch(loaded):
            loaded = finite(loaded, name.strip())
        owner, plain = split(name.strip())
        key = f"{owner}.{plain.replace('-', '_')}" if owner else plain.replace("-", "_")
        try:
            values |= flat({key: loaded}, nested=lambda key: False)
        except ValueError as error:
            raise UserError(str(error)) from error
    return values


def finite(text: str, name: str) -> float:
    """The value of a parameter that is a decimal number."""
    try:
        return number(text)
    except ValueError as error:
        raise UserError(f"{name}: {text} is {error}") from error


def load_config(path: Path) -> dict[str, Any]:
    """A YAML run file as a dictionary of `RunSpec` fields."""
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"cannot read the run file {path}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping such as 'model: [mail, late]'")
    return loaded
