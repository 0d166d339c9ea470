"""What Python tells of functions and classes: where they come from, and what they name."""

from __future__ import annotations

import dataclasses
import dis
import inspect
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from robustbench_med.provenance import source_files
from robustbench_med.provenance.source_files import OURS

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


def summary(thing: Any) -> str:
    """The first paragraph of a function's, class's or module's documentation, in one line; empty
    where there is none.
    """
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def is_constant(value: Any) -> bool:
    """Whether a value is plain, or a tuple or frozen set of such."""
    return type(value) in PLAIN or (
        type(value) in (tuple, frozenset) and all(map(is_constant, value))
    )


def globals_of(cls: type) -> source_files.Scope:
    """The globals of the module that a class was made in; of one beside a user's file its methods
    alone tell.
    """
    scopes = [value.__globals__ for value in vars(cls).values() if isinstance(value, FunctionType)]
    module = sys.modules.get(cls.__module__)
    return next(
        (scope for scope in scopes if scope.get("__name__") == cls.__module__),
        {} if module is None else vars(module),
    )


def is_generated(cls: type, name: str, method: Any) -> bool:
    """Whether Python wrote a method itself, of a data class or a named tuple: its fields tell all
    of it.
    """
    writes_methods = dataclasses.is_dataclass(cls) or issubclass(cls, tuple)
    return (
        writes_methods
        and name.startswith("__")
        and isinstance(method, FunctionType)
        and inspect.unwrap(method).__code__.co_filename[0] == "<"
    )


def is_shipped(scope: source_files.Scope) -> bool:
    """Whether a module with these globals comes with medrobust, Python or an installed package."""
    name = str(scope.get("__name__"))
    if name == "__main__" or scope.get("__spec__") is None:
        return False
    return name.partition(".")[0] == OURS or source_files.own_file(scope) is None


def module_of(thing: Any) -> str:
    """The module in which a function or class was made."""
    return (
        str(thing.__globals__.get("__name__", ""))
        if isinstance(thing, FunctionType)
        else str(thing.__module__)
    )


def is_named(thing: Callable[..., Any]) -> bool:
    """Whether a function or class is what its module calls by its name, and not one of many made on
    the way.
    """
    named: Any = sys.modules.get(thing.__module__ or "")
    for part in thing.__qualname__.split("."):
        named = getattr(named, part, None)
    return named is thing


def names_used(code: CodeType, *operations: str) -> set[str]:
    """Names that a code object, and those inside it, use in these operations."""
    names = {str(each.argval) for each in dis.get_instructions(code) if each.opname in operations}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= names_used(constant, *operations)
    return names
