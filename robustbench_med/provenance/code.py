"""The identity of code: one hash of what a user's function or class is made of, and the revisions
of medrobust's own parts in it.

A function of a file is told by that file and the user's files that it imports. What a file does not
tell is hashed by value: what a closure, a partial, an instance or a default holds, and constants
that may be set from outside. Where there is no file (a notebook cell) the text of the function
stands for it, and every global it names is hashed too. What cannot be hashed is refused.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import inspect
import json
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch

from robustbench_med.errors import UserError
from robustbench_med.provenance import source_files
from robustbench_med.provenance.objects import (
    PLAIN,
    globals_of,
    is_constant,
    is_generated,
    is_named,
    is_shipped,
    module_of,
    names_used,
)
from robustbench_med.provenance.shipped import first_name, ours_among, revised
from robustbench_med.provenance.source_files import OURS

_VERSIONS: dict[int, tuple[Any, str]] = {}
"""What the user gave a version of, by identity."""


def declare(thing: Any, version: str | None) -> None:
    """Notes that a version stands for a thing's code, or no longer does (None)."""
    _VERSIONS.pop(id(thing), None)
    if version is not None:
        _VERSIONS[id(thing)] = thing, version


def code_of(thing: Any, what: str) -> str | None:
    """sha256 of a function's, class's or callable's code; None of what comes with medrobust, whose
    revisions speak for it.

    Args:
        what: what it is called in an error, such as "attack 'mine'".

    Raises:
        UserError: some of it can be told neither by a file nor by its text or value, and no version
            was given.
    """
    if id(thing) in _VERSIONS:
        return _hash("version", _VERSIONS[id(thing)][1])
    if (
        isinstance(thing, FunctionType | type)
        and is_named(thing)
        and module_of(thing).partition(".")[0] == OURS
    ):
        return None
    walk = _Walk(what)
    return _hash(walk.of(thing), *(f"{name} {sha256}" for name, sha256 in sorted(walk.files)))


def revisions(thing: Any, what: str) -> dict[str, int]:
    """Revisions of medrobust's files that a function, class or callable is made of, by name: its
    own, and those it builds on.
    """
    if id(thing) in _VERSIONS:
        return {}
    walk = _Walk(what)
    walk.of(thing)
    return revised(walk.ours)


def revisions_of_file(path: Path) -> dict[str, int]:
    """The same of a user's file and those it imports."""
    walk = _Walk(str(path))
    walk.file(path.resolve(), {})
    return revised(walk.ours)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Walk:
    """Everything that one thing is made of: hashes of values, and the user's files met on the way
    (name, sha256).
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.files: set[tuple[str, str]] = set()
        self.ours: set[str] = set()
        self._first: Path | None = None
        self._known: dict[int, tuple[Any, str]] = {}
        self._open: set[int] = set()

    def of(self, value: Any) -> str:
        """The hash of a value: equal values give equal hashes in every process."""
        if type(value) in PLAIN:
            return _hash("plain", type(value).__name__, repr(value))
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._open:
            return "itself"
        self._open.add(id(value))
        try:
            sha256 = _hash(*self._parts(value))
        finally:
            self._open.discard(id(value))
        self._known[id(value)] = value, sha256  # kept, so that no other gets its id
        return sha256

    def refused(self, why: str) -> UserError:
        return UserError(
            f"{self.what} {why}, so that nothing tells when it changes; put it into a file"
            " (--include), or give it a version of yours: version='1', where you register it or"
            " hand it over"
        )

    def _parts(self, value: Any) -> list[str]:
        kind = type(value)
        if kind in (tuple, list):
            return [kind.__name__, *map(self.of, value)]
        if kind is dict:
            return ["dict", *sorted(self.of(k) + self.of(v) for k, v in value.items())]
        if kind in (set, frozenset):
            return [kind.__name__, *sorted(map(self.of, value))]
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            return self._array(value)
        if kind is FunctionType:
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if kind is ModuleType:
            return self._module(value)
        if kind is MethodType:
            return ["method", self.of(value.__func__), self.of(value.__self__)]
        if kind is functools.partial:
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if kind in (staticmethod, classmethod):
            return [kind.__name__, self.of(value.__func__)]
        if kind is property:
            return ["property", self.of(value.fget), self.of(value.fset)]
        if not isinstance(vars(kind).get("__call__"), FunctionType) and isinstance(
            getattr(value, "__wrapped__", None), FunctionType
        ):
            return ["around", kind.__qualname__, self.of(value.__wrapped__)]  # functools.cache
        return self._instance(value)

    def _array(self, value: torch.Tensor | np.ndarray[Any, Any] | np.generic) -> list[str]:
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized:
                raise self.refused("holds a sparse or quantised tensor")
            pixels = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            return [
                "tensor",
                str(value.dtype),
                str(tuple(value.shape)),
                hashlib.sha256(pixels).hexdigest(),
            ]
        if value.dtype.hasobject:
            return ["array", str(value.shape), self.of(value.tolist())]
        return [
            "array",
            value.dtype.str,
            str(value.shape),
            hashlib.sha256(value.tobytes()).hexdigest(),
        ]

    def _instance(self, value: Any) -> list[str]:
        """What it would be made again from: its class and state, as `copy` and `pickle` ask for
        them.
        """
        reducer = copyreg.dispatch_table.get(type(value))
        try:
            reduced = reducer(value) if reducer else value.__reduce_ex__(2)
        except Exception as error:
            raise self.refused(
                f"holds a {type(value).__qualname__}, whose state cannot be read"
            ) from error
        if isinstance(reduced, str):
            return ["named", str(getattr(value, "__module__", "")), reduced]
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        return [
            "instance",
            *map(self.of, (type(value), make, arguments, state)),
            *(self.of(list(each)) for each in (items, pairs) if each is not None),
        ]

    def _module(self, module: ModuleType) -> list[str]:
        if (path := source_files.own_file(vars(module))) is not None:
            self.file(path, vars(module))
            return ["module", "" if path == self._first else module.__name__]
        if not is_shipped(vars(module)):
            raise self.refused(f"uses the module {module.__name__}, which was read from no file")
        self._note(module.__name__)
        return ["module", module.__name__]

    def _function(self, function: FunctionType) -> list[str]:
        code, scope = function.__code__, function.__globals__
        held = [
            *(
                f"{name} {self._cell(cell)}"
                for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
            ),
            *(f"default {self.of(value)}" for value in function.__defaults__ or ()),
            *(
                f"default {name} {self.of(value)}"
                for name, value in sorted((function.__kwdefaults__ or {}).items())
            ),
            *(
                f"attribute {name} {self.of(value)}"
                for name, value in sorted(function.__dict__.items())
            ),
        ]
        home = str(scope.get("__name__", ""))
        path = source_files.file_of_code(code, scope)
        if is_shipped(scope) or (path is not None and not source_files.is_own(path)):
            self._note(home)
            return [
                "shipped",
                first_name(home),
                code.co_qualname,
                *([] if is_named(function) else held),
            ]
        if path is not None:
            self.file(path, scope)
            rebound = source_files.parsed(path.read_bytes()).rebound
            return [
                "function",
                code.co_qualname,
                str(code.co_firstlineno),
                *held,
                *self._constants(code, scope, rebound),
            ]
        try:
            text = inspect.getsource(code)
        except (OSError, TypeError, SyntaxError, IndexError) as error:
            raise self.refused(f"has no source that can be read ({code.co_qualname})") from error
        return ["text", text, *held, *self._globals(code, scope)]

    def _cell(self, cell: Any) -> str:
        try:
            return self.of(cell.cell_contents)
        except ValueError:
            return "empty"

    def _globals(self, code: CodeType, scope: dict[str, Any]) -> list[str]:
        """Every global that a function without a file names, but those that it sets."""
        named = names_used(code, "LOAD_GLOBAL", "LOAD_NAME") - names_used(code, "STORE_GLOBAL")
        return [
            f"{name} {self.of(scope[name])}"
            for name in sorted(named)
            if name in scope and not name.startswith("__")
        ]

    def _constants(
        self, code: CodeType, scope: dict[str, Any], rebound: frozenset[str]
    ) -> list[str]:
        """Of a function with a file: constants that it names, which may be set from outside, and
        the functions and classes.
        """
        globals_named: list[tuple[str, Any]] = []
        for name in sorted(names_used(code, "LOAD_GLOBAL", "LOAD_NAME") - rebound):
            value = scope.get(name)
            if name.startswith("__") or name not in scope:
                continue
            if (
                isinstance(value, ModuleType)
                and (path := source_files.own_file(vars(value))) is not None
            ):
                set_there = source_files.parsed(path.read_bytes()).rebound
                inside = names_used(code, "LOAD_ATTR", "LOAD_METHOD") - set_there
                globals_named += [
                    (f"{name}.{each}", getattr(value, each))
                    for each in sorted(inside)
                    if hasattr(value, each)
                ]
            else:
                globals_named.append((name, value))
        return [
            f"{name} {self.of(value)}"
            for name, value in globals_named
            if is_constant(value) or isinstance(value, FunctionType | type)
        ]

    def _class(self, cls: type) -> list[str]:
        scope = globals_of(cls)
        if is_shipped(scope) and is_named(cls):
            self._note(cls.__module__)
            return ["shipped", first_name(cls.__module__), cls.__qualname__]
        if (path := source_files.own_file(scope)) is not None:
            self.file(path, scope)
        members = [
            f"{name} {self.of(value)}"
            for name, value in sorted(self._members(cls, known=path is not None), key=itemgetter(0))
        ]
        return ["class", cls.__qualname__, *map(self.of, (type(cls), *cls.__bases__)), *members]

    def _members(self, cls: type, *, known: bool) -> Iterator[tuple[str, Any]]:
        """Methods and attributes of a class; where its file is `known` only attributes that may be
        set from outside.
        """
        fields = vars(cls).get("__dataclass_fields__", {})
        for name, field in fields.items():
            yield from (
                (f"{name} {each}", getattr(field, each)) for each in ("default", "default_factory")
            )
        for name, value in vars(cls).items():
            method = isinstance(value, FunctionType | staticmethod | classmethod | property)
            set_there = not name.startswith(("__", "_abc_")) and not isinstance(
                value, GetSetDescriptorType | MemberDescriptorType
            )
            if (method and not is_generated(cls, name, value)) or (
                set_there
                and not method
                and (not known or is_constant(value) or isinstance(value, type))
            ):
                yield name, value

    def file(self, path: Path, scope: source_files.Scope) -> None:
        """Notes a user's file, of a module with these globals, and those that it imports; the
        folder they lie in does not matter.
        """
        self._first = self._first or path
        own = path.stem if scope.get("__spec__") is None else str(scope["__name__"])
        for name, (other, sha256) in source_files.files_of(path, scope).items():
            self.files.add(("" if other == self._first else name or own, sha256))
            if other.suffix == ".py":
                self.ours |= ours_among(source_files.dotted(other.read_bytes(), ""))

    def _note(self, module: str) -> None:
        if module.partition(".")[0] == OURS:
            self.ours.add(module)
