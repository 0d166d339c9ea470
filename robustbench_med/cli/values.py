"""What is typed: lists and NAME=VALUE assignments, read as the values of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError
from robustbench_med.parameters import flat, split
from robustbench_med.parsing import DECIMAL, number
from robustbench_med.runs.options import Option

ASSIGNMENTS, LISTED = "assignments", "listed"
"""Kinds of options that are no types of Python's: NAME=VALUE, repeatable; parted at commas."""


def kind_of(annotation: Any, option: Option) -> Any:
    """What an option reads: a type, a list of one (repeatable), `ASSIGNMENTS` or `LISTED`."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    kind = kinds[0] if type(None) in get_args(annotation) else annotation
    if get_origin(kind) is dict or kind is Preprocessing:
        return ASSIGNMENTS
    if get_origin(kind) is list:
        return kind if option.repeatable else LISTED
    return str if get_origin(kind) is Literal else kind


def value_of(annotation: Any, option: Option, typed: Any) -> Any:
    """The value of a field from what was typed."""
    kind = kind_of(annotation, option)
    if option.read is not None:
        return option.read(typed)
    if kind == ASSIGNMENTS:
        return assignments(typed)
    if kind == LISTED and not (parts := listed(typed)):
        raise UserError(f"{typed!r} is a list of nothing; name some, or leave the option out")
    return parts if kind == LISTED else typed


def listed(text: str) -> list[str]:
    """The parts between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def assignments(options: Sequence[str]) -> dict[str, Any]:
    """`name=value` options as a dictionary; values as YAML reads them, and 1e-3 is a number too.
    `late.width=8`: of one model alone.
    """
    from robustbench_med.formats import yaml_file

    values: dict[str, Any] = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UserError(f"expected NAME=VALUE such as steps=50, got {text!r}")
        loaded = yaml_file.loads(value, "the value in", repr(text))
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
