"""Parameters for all that have them (`steps`) and for one model, attack or defence alone
(`pgd.steps`), which win.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from robustbench_med.errors import unknown
from robustbench_med.naming import label


def split(key: str) -> tuple[str, str]:
    """Whose parameter it is (empty: everybody's) and its name. A name has no dot, a file of the
    user's has: `file.py:build.width`.
    """
    owner, _, name = key.rpartition(".")
    return label(owner) if owner else "", name


def flat(
    parameters: Mapping[str, Any], *, nested: Callable[[str], bool] = lambda key: True
) -> dict[str, Any]:
    """Parameters of a run file under one kind of key: `{pgd: {steps: 5}}` becomes
    `{"pgd.steps": 5}`; -0.0 becomes 0.0.

    Args:
        nested: whether a mapping under this key holds the parameters of one owner, instead of being
            a value itself.

    Raises:
        ValueError: an infinite number or NaN, or one too large for any use.
    """
    by_key: dict[str, Any] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping) and nested(key):
            by_key |= {
                f"{label(key)}.{name}": _checked(f"{key}.{name}", inner)
                for name, inner in value.items()
            }
        else:
            owner, name = split(key)
            by_key[f"{owner}.{name}" if owner else name] = _checked(key, value)
    return by_key


def of(parameters: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The parameters that hold for one owner, under their plain names: everybody's, its own
    on top.
    """
    keys = {key: split(key) for key in parameters}
    own = {name: parameters[key] for key, (whose, name) in keys.items() if whose == owner}
    return {name: parameters[key] for key, (whose, name) in keys.items() if not whose} | own


def only(parameters: Mapping[str, Any], owners: Collection[str]) -> dict[str, Any]:
    """Everybody's parameters and those of these owners, under the keys they have."""
    return {key: value for key, value in parameters.items() if split(key)[0] in ("", *owners)}


def owned(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that belong to one owner alone."""
    return {key: value for key, value in parameters.items() if split(key)[0]}


def check_owners(parameters: Mapping[str, Any], owners: Collection[str], kind: str) -> None:
    """Refuses (UserError) a parameter whose owner is none of these."""
    for key in parameters:
        owner, _ = split(key)
        if owner and owner not in owners:
            raise unknown(f"{kind} in the parameter {key!r}:", owner, owners)


def _checked(key: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_checked(key, each) for each in value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**63:
        raise ValueError(f"{key} must be a number below 2^63, got one of {len(str(value))} digits")
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, got {value}")
    return value + 0.0
