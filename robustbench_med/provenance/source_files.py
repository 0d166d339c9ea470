"""Files of the user's own code: which belong together, what they held when they were run, and how
one is run.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from robustbench_med.formats.files import data_of

OURS = "robustbench_med"
_PACKAGE = [
    Path(__file__).resolve().parents[2] / name for name in (OURS, "attacks", "models", "reports")
]
_STANDARD = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
_SEEN: dict[tuple[Path, int], tuple[object, str]] = {}
"""sha256 of modules that Python imported, as first seen: by file and module (its spec, which a
reload replaces).
"""
Scope = Mapping[str, Any]
"""The globals of a module."""


class Source(NamedTuple):
    """A file and what it held when it was read."""

    path: Path
    text: bytes


class Parsed(NamedTuple):
    """What a source says: its imports (level, module, names), and the globals that its functions
    rebind.
    """

    imports: tuple[tuple[int, str, tuple[str, ...]], ...]
    rebound: frozenset[str]


@lru_cache(maxsize=512)
def parsed(source: bytes) -> Parsed:
    """The imports anywhere in a source, in functions too; nothing where it is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Parsed((), frozenset())
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    rebound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append(
                (node.level, node.module or "", tuple(alias.name for alias in node.names))
            )
        elif isinstance(node, ast.Global):
            rebound |= set(node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            imports += [
                (0, arg.value, ())
                for arg in node.args[:1]
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            ]
    return Parsed(tuple(imports), frozenset(rebound))


def dotted(source: bytes, package: str) -> list[str]:
    """Dotted names that a source of this package imports; of `from a import b` both a and a.b."""
    names = []
    for level, module, members in parsed(source).imports:
        parents = package.split(".") if package else []
        if level > len(parents):
            continue
        base = ".".join(
            [*(parents[: len(parents) - level + 1] if level else []), *([module] if module else [])]
        )
        names += [base, *(f"{base}.{member}" for member in members if member != "*")]
    return [name for name in names if name]


@lru_cache(maxsize=4096)
def is_own(file: Path) -> bool:
    """Whether a file is the user's: neither medrobust's, nor Python's, nor installed."""
    if {"site-packages", "dist-packages"} & set(file.parts) or any(
        file.is_relative_to(folder) for folder in (*_PACKAGE, *_STANDARD)
    ):
        return False
    root = file.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        root = root.parent
    return next(root.glob("*.dist-info"), None) is None


def imported(path: Path, package: str | None = None) -> dict[str, Source]:
    """The user's files that a file needs, by dotted name: itself as "", what it imports, what those
    import.

    Args:
        path: absolute.
        package: of a module that Python imported as a part of a package; None: its imports are
            first looked for in its folder.
    """
    folder = path.parent if package is None else None
    found = {"": Source(path, data_of(path, "text_bytes"))}
    waiting = [("", package or "")]
    while waiting:
        each, inside = waiting.pop()
        if found[each].path.suffix not in SOURCE_SUFFIXES:
            continue
        for name in dotted(found[each].text, inside):
            for other, file in _located(name, folder):
                if other not in found and file != path:
                    found[other] = Source(file, file.read_bytes())
                    waiting.append(
                        (other, other if file.stem == "__init__" else other.rpartition(".")[0])
                    )
    return found


def fingerprint(files: Mapping[str, Source]) -> str:
    """sha256 of a file; of one that imports others of the user's, of all their names and hashes."""
    hashes = {name: hashlib.sha256(file.text).hexdigest() for name, file in files.items()}
    if len(hashes) == 1:
        return hashes[""]
    return hashlib.sha256(
        "\n".join(f"{name} {sha256}" for name, sha256 in sorted(hashes.items())).encode()
    ).hexdigest()


def _located(name: str, folder: Path | None) -> Iterator[tuple[str, Path]]:
    """The user's files of a dotted name: of each package on the way, and of the module."""
    top, *rest = name.split(".")
    if top == OURS:
        return
    file, places = _top(top, folder)
    if file is not None and is_own(file):
        yield top, file
    elif file is not None:
        return
    for number, part in enumerate(rest, 1):
        file, places = next(
            (found for found in (_in(place, part) for place in places) if any(found)), (None, [])
        )
        if file is not None and is_own(file):
            yield ".".join([top, *rest[:number]]), file


def _top(name: str, folder: Path | None) -> tuple[Path | None, list[Path]]:
    """File and folders of a top-level module or package: one beside comes first, as it does for a
    script.
    """
    beside = (None, []) if folder is None else _in(folder, name)
    if beside[0] is not None:
        return beside
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        return beside
    file = Path(spec.origin).resolve() if spec.has_location and spec.origin else None
    return file, [Path(place).resolve() for place in spec.submodule_search_locations or ()]


def _in(folder: Path, name: str) -> tuple[Path | None, list[Path]]:
    package = folder / name
    if (package / "__init__.py").is_file():
        return package / "__init__.py", [package]
    for suffix in (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES):
        if (file := folder / (name + suffix)).is_file():
            return file, []
    return None, [package] if package.is_dir() else []


# --- what was run ---------------------------------------------------------------------------------


def own_file(scope: Scope) -> Path | None:
    """The user's file that a module with these globals was read from; None where it is not the
    user's, or lies in no file.
    """
    told = scope.get("__file__")
    file = Path(told).resolve() if isinstance(told, str) else None
    return file if file is not None and file.is_file() and is_own(file) else None


def file_of_code(code: CodeType, scope: Scope) -> Path | None:
    """The file that a code object with these globals was read from; None where there is none (a
    notebook, a prompt, `exec`).
    """
    file, told = Path(code.co_filename), scope.get("__file__")
    if code.co_filename.startswith("<"):
        return None
    if isinstance(told, str) and Path(told).name == file.name:
        file = Path(told)  # absolute, where the code may have been compiled under a relative name
    return file.resolve() if file.is_file() else None


def files_of(path: Path, scope: Scope) -> dict[str, tuple[Path, str]]:
    """The user's files behind a module with these globals, each with the sha256 of what was run of
    it: by dotted name, itself as "".
    """
    folder = _folder_of(scope)
    found = {}
    for name, (file, text) in imported(path, scope.get("__package__") or None).items():
        if folder is not None and file in folder.texts:
            text = folder.texts[file]
        module = None if folder is not None else sys.modules.get(name or str(scope.get("__name__")))
        sha256 = hashlib.sha256(text).hexdigest()
        if module is not None and own_file(vars(module)) == file:
            spec = getattr(module, "__spec__", None)
            sha256 = _SEEN.setdefault((file, id(spec)), (spec, sha256))[1]
        found[name] = file, sha256
    return found


def _folder_of(scope: Scope) -> _Folder | None:
    theirs = scope.get("__builtins__")
    owner = (
        getattr(theirs.get("__import__"), "__self__", None) if isinstance(theirs, dict) else None
    )
    return owner if isinstance(owner, _Folder) else None


# --- running --------------------------------------------------------------------------------------


class _Folder(MetaPathFinder):
    """What a file of the user's imports from its folder: read when the file was, seen by nobody
    else, also when imported late.
    """

    def __init__(self, folder: Path, files: Mapping[str, Source]) -> None:
        self.folder = folder
        self.texts = {
            file.path: file.text for file in files.values() if file.path.is_relative_to(folder)
        }
        names = [name for name, file in files.items() if name and file.path in self.texts]
        self.names = {
            name[:end]
            for name in names
            for end in range(1, len(name) + 1)
            if f"{name}."[end] == "."
        }
        self.modules: dict[str, ModuleType] = {}
        self.opened = False

    def builtins(self) -> dict[str, Any]:
        """Builtins of a module that imports from here."""
        return {**vars(builtins), "__import__": self.import_}

    def import_(self, name: str, *rest: Any, **more: Any) -> ModuleType:
        """`__import__` in the folder's modules."""
        with self.open():
            return builtins.__import__(name, *rest, **more)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Its modules are what Python finds under their names, for as long as this lasts."""
        if self.opened:
            yield
            return
        others = {name: sys.modules.pop(name) for name in self.names if name in sys.modules}
        sys.modules.update(self.modules)
        sys.meta_path.insert(0, self)
        self.opened = True
        try:
            yield
        finally:
            self.opened = False
            sys.meta_path.remove(self)
            self.modules = {
                name: sys.modules.pop(name) for name in self.names if name in sys.modules
            }
            sys.modules.update(others)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] == OURS:
            return None
        for place in [str(self.folder)] if path is None else path:
            if (
                Path(place).resolve().is_relative_to(self.folder)
                and (spec := self._spec(fullname, place)) is not None
            ):
                self.names.add(fullname)
                return spec
        return None

    def _spec(self, fullname: str, place: str) -> ModuleSpec | None:
        finder = FileFinder(
            place, (ExtensionFileLoader, EXTENSION_SUFFIXES), (SourceFileLoader, SOURCE_SUFFIXES)
        )
        spec = finder.find_spec(fullname)
        if spec is None or (spec.loader is None and fullname not in self.names):
            return (
                None  # a folder without modules of the file's: some package of this name is meant
            )
        if spec.origin is not None and not is_own(Path(spec.origin).resolve()):
            return None
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Beside(fullname, spec.loader.path, self)
        return spec


class _Beside(SourceFileLoader):
    """Runs a module as its folder read it, never its bytecode: that knows times in seconds and
    sizes, and an edit may change neither.
    """

    def __init__(self, fullname: str, path: str, folder: _Folder) -> None:
        super().__init__(fullname, path)
        self.folder = folder

    def get_code(self, fullname: str) -> CodeType:
        file = Path(self.path).resolve()
        return self.source_to_code(self.folder.texts.setdefault(file, file.read_bytes()), self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self.folder.builtins()
        super().exec_module(module)


def run(path: Path, files: Mapping[str, Source], name: str) -> ModuleType:
    """Runs a user's file as the module `name`, and what it imports from its folder, as `imported`
    read them.

    Whatever the file raises goes through.
    """
    file = path.resolve()
    folder = _Folder(file.parent, files)
    module = ModuleType(name)
    vars(module).update(__file__=str(file), __builtins__=folder.builtins())
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with folder.open():
            exec(compile(files[""].text, str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module
