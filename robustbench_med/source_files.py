"""Files of the user's own code: which belong together, what they held when they were run, and how one is run."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

OURS = "robustbench_med"
_PACKAGE = [Path(__file__).resolve().parents[1] / name for name in (OURS, "attacks", "models", "reports")]
_STANDARD = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
_AS_RUN: dict[Path, str] = {}
"""sha256 of what was run of each file that was run here."""
_SEEN: dict[tuple[Path, int], tuple[object, str]] = {}
"""The same of modules that Python imported, as first seen: by file and module (its spec, which a reload replaces)."""


class Parsed(NamedTuple):
    """What a source says: its imports (level, module, names), and the globals that its functions rebind."""

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
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Global):
            rebound |= set(node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
            imports += [(0, arg.value, ()) for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return Parsed(tuple(imports), frozenset(rebound))


def dotted(source: bytes, package: str) -> list[str]:
    """Dotted names that a source of this package imports; of `from a import b` both a and a.b."""
    names = []
    for level, module, members in parsed(source).imports:
        parents = package.split(".") if package else []
        if level > len(parents):
            continue
        base = ".".join([*(parents[: len(parents) - level + 1] if level else []), *([module] if module else [])])
        names += [base, *(f"{base}.{member}" for member in members if member != "*")]
    return [name for name in names if name]


@lru_cache(maxsize=4096)
def is_own(file: Path) -> bool:
    """Whether a file is the user's: neither medrobust's, nor Python's, nor installed."""
    if {"site-packages", "dist-packages"} & set(file.parts) or any(file.is_relative_to(folder) for folder in (*_PACKAGE, *_STANDARD)):
        return False
    root = file.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        root = root.parent
    return next(root.glob("*.dist-info"), None) is None


def imported(path: Path, package: str | None = None) -> dict[str, Path]:
    """The user's files that a file needs, by dotted name: itself as "", what it imports, what those import.

    Args:
        package: of a module that Python imported as a part of a package; None: its imports are first looked for in its folder.
    """
    folder = path.parent if package is None else None
    found, waiting = {"": path}, [(path, package or "")]
    while waiting:
        file, inside = waiting.pop()
        if file.suffix not in SOURCE_SUFFIXES:
            continue
        for name in dotted(file.read_bytes(), inside):
            for each, other in _located(name, folder):
                if each not in found and other != path:
                    found[each] = other
                    waiting.append((other, each if other.stem == "__init__" else each.rpartition(".")[0]))
    return found


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
        file, places = next((found for found in (_in(place, part) for place in places) if any(found)), (None, []))
        if file is not None and is_own(file):
            yield ".".join([top, *rest[:number]]), file


def _top(name: str, folder: Path | None) -> tuple[Path | None, list[Path]]:
    """File and folders of a top-level module or package: one beside comes first, as it does for a script."""
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


# --- what was run ------------------------------------------------------------------------------------------------------------


def sha256_of(file: Path, name: str = "") -> str:
    """sha256 of a file as it was when it was run here (as module `name`), else as it is on disk."""
    if file in _AS_RUN:
        return _AS_RUN[file]
    module = sys.modules.get(name)
    if module is None or _file_of(module) != file:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    spec = getattr(module, "__spec__", None)
    key = file, id(spec)
    if key not in _SEEN:
        _SEEN[key] = spec, hashlib.sha256(file.read_bytes()).hexdigest()
    return _SEEN[key][1]


def fingerprint(path: Path) -> str:
    """sha256 of a file on disk; of a file that imports others of the user's, of all their names and hashes."""
    files = imported(path.resolve())
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    if len(hashes) == 1:
        return hashes[""]
    return hashlib.sha256("\n".join(f"{name} {sha256}" for name, sha256 in sorted(hashes.items())).encode()).hexdigest()


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def own_file(module: ModuleType | None) -> Path | None:
    """The user's file that a module was read from; None where it is not the user's, or lies in no file."""
    file = None if module is None else _file_of(module)
    return file if file is not None and file.is_file() and is_own(file) else None


def file_of_code(code: CodeType, scope: dict[str, Any]) -> Path | None:
    """The file that a code object with these globals was read from; None where there is none (a notebook, a prompt, `exec`)."""
    file, told = Path(code.co_filename), scope.get("__file__")
    if code.co_filename.startswith("<"):
        return None
    if isinstance(told, str) and Path(told).name == file.name:
        file = Path(told)  # absolute, where the code may have been compiled under a relative name
    return file.resolve() if file.is_file() else None


# --- running -----------------------------------------------------------------------------------------------------------------


class _Fresh(SourceFileLoader):
    """Reads a source, never its bytecode: that knows times in seconds and sizes, and an edit may change neither."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        _AS_RUN[Path(self.path).resolve()] = hashlib.sha256(source).hexdigest()
        return self.source_to_code(source, self.path)  # type: ignore[no-any-return]


class _Beside(MetaPathFinder):
    """Finds modules in the folder of a file of the user's."""

    def __init__(self, folder: Path, *, namespaces: bool) -> None:
        self.folder, self.namespaces = folder, namespaces

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] == OURS:
            return None
        for place in [str(self.folder)] if path is None else path:
            if not Path(place).resolve().is_relative_to(self.folder):
                continue
            spec = FileFinder(place, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Fresh, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is None or (spec.origin is not None and not is_own(Path(spec.origin))):
                continue
            if spec.loader is not None or self.namespaces:
                return spec
        return None


def run(path: Path, source: bytes, name: str) -> ModuleType:
    """Runs a user's file as the module `name`; what it imports from its folder is read anew. Whatever it raises goes through.

    Later imports, inside its functions, find its folder too.
    """
    file = path.resolve()
    module = ModuleType(name)
    module.__file__ = str(file)
    beside = {name for name, other in imported(file).items() if name and other.is_relative_to(file.parent)}
    beside |= {name[:end] for name in beside for end, letter in enumerate(name) if letter == "."}
    kept = {each: sys.modules.pop(each) for each in beside if each in sys.modules}
    finder = _Beside(file.parent, namespaces=False)
    sys.modules[name] = module  # dataclasses look their module up
    sys.meta_path.insert(0, finder)
    if not any(isinstance(other, _Beside) and other.namespaces and other.folder == file.parent for other in sys.meta_path):
        sys.meta_path.append(_Beside(file.parent, namespaces=True))
    _AS_RUN[file] = hashlib.sha256(source).hexdigest()
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.meta_path.remove(finder)
        theirs = {each: old for each, old in kept.items() if not isinstance(getattr(old.__spec__, "loader", None), _Fresh)}
        sys.modules.update(theirs)  # what Python itself had imported stays what others see
    return module
