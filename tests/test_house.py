"""The house: rooms import downwards only, and nothing in them outgrows a head."""

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from support.files import ROOT

FLOORS = (
    {
        "errors",
        "owners",
        "paths",
        "progress",
        "naming",
        "version",
        "parsing",
        "parameters",
        "statistics",
        "dataspec",
        "formats",
    },
    {"provenance"},
    {"store"},
    {"attacks", "models", "data"},
    {"evaluation"},
    {"training"},
    {"objectives"},
    {"reports"},
    {"runs"},
    {"api"},
    {"cli"},
)
"""From the ground up: a room imports from floors below its own, and from itself. On the ground floor
one file may import another, where Python lets it.
"""
READ_BY_REPORTS = {"store", "statistics", "naming", "paths", "errors", "formats", "reports"}
"""What reports see of the house."""
ALGORITHM_BOXES = {("attacks/pgd.py", "ascend")}
"""Functions that follow their paper's box line by line and may be longer than 60 lines."""
OURS = "robustbench_med"


def files() -> list[Path]:
    folders = (ROOT / OURS, ROOT / "attacks", ROOT / "models", ROOT / "reports")
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def dotted(path: Path) -> str:
    """The module's name below the package: `runs.cell`, `attacks.pgd`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == OURS else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of the package that a file imports anywhere, functions too, with the line."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == OURS:
            inner = ".".join(node.module.split(".")[1:])
            yield from ((inner or alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == OURS:
                    yield ".".join(alias.name.split(".")[1:]), node.lineno


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor() -> None:
    rooms = {dotted(path).split(".")[0] for path in files()} - {""}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", files(), ids=dotted)
def test_no_module_imports_upwards(path: Path) -> None:
    room = dotted(path).split(".")[0]
    if not room:
        pytest.skip("the package itself hands out the public names")
    for name, line in imported(path):
        other = name.split(".")[0]
        if other in ("", "__version__", room):
            continue
        below = floor(other) < floor(room) or floor(room) == 0 == floor(other)
        assert below, f"{path}:{line}: {room} imports {name}"
        if room == "reports":
            assert other in READ_BY_REPORTS, f"{path}:{line}: reports read the store, not {name}"


def test_attacks_models_and_data_know_nothing_of_each_other() -> None:
    for path in files():
        room = dotted(path).split(".")[0]
        for name, line in imported(path) if room in FLOORS[3] else ():
            other = name.split(".")[0]
            assert other == room or other not in FLOORS[3], f"{path}:{line}: {room} imports {name}"


LATE = {("models.fusion", "robustbench_med.models", "encoders")}
"""Imports of our own where they are used: MONAI's networks take seconds, which MAIL need not pay."""


def test_imports_inside_functions_are_for_the_start_of_the_command_line() -> None:
    for path in files():
        if dotted(path).split(".")[0] in ("cli", ""):
            continue
        functions = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef)]
        for function in functions:
            for node in ast.walk(function):
                module = getattr(node, "module", None) or ""
                inner = isinstance(node, ast.ImportFrom) and module.split(".")[0] == OURS
                inner = inner and module != OURS  # the version, which the package itself defines
                names = [alias.name for alias in node.names] if inner else []
                inner = inner and (dotted(path), module, *names) not in LATE
                assert not inner, f"{path}:{node.lineno}: {function.name} imports {module}"


def test_files_fit_in_a_head() -> None:
    long = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    long |= {path: len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert {str(path): n for path, n in long.items() if n > 400} == {}


def test_functions_can_be_read_from_top_to_bottom() -> None:
    long, wide = [], []
    for path in files():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > 60 and (str(path.relative_to(ROOT)), node.name) not in ALGORITHM_BOXES:
                long.append((where, lines))
            arguments = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
            room = dotted(path).split(".")[0]
            parameters = room in ("attacks", "models")  # what users set by name
            if arguments > 8 and room != "cli" and not parameters:
                wide.append((where, arguments))
    assert long == []
    assert wide == []


def test_the_package_has_a_dozen_files_of_its_own_at_most() -> None:
    assert len(list((ROOT / OURS).glob("*.py"))) <= 12


def test_floors_are_named_once() -> None:
    for lower, upper in pairwise(FLOORS):
        assert not lower & upper
