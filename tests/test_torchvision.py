"""torchvision is not needed: nothing that is installed with this package demands it, and nothing in
it imports it.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.files import ROOT

OPTIONAL = {
    Path("monai", "utils", "module.py"),
    Path("transformers", "utils", "import_utils.py"),
}
"""MONAI's `optional_import`, and that of transformers where it is there, which take a module that
cannot be imported as one that is absent.
"""
WITHOUT_DEPENDENCIES = {"torchattacks"}
"""Demands torchvision without need, so it is installed without what it demands."""


@pytest.mark.slow
def test_everything_works_where_torchvision_cannot_be_imported(tmp_path: Path) -> None:
    pytest.importorskip("torchattacks", reason="needs the engines")
    pytest.importorskip("art", reason="needs the engines")
    pytest.importorskip("foolbox", reason="needs the engines")
    done = subprocess.run(
        [sys.executable, ROOT / "tests/support/without_torchvision.py"],
        env=os.environ | {"MEDROBUST_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    files = [
        path
        for room in ("robustbench_med", "attacks", "models", "reports")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "__main__.py"
    ]
    assert len(found["modules"]) == len(files)
    assert found["used"] == ["monai", "torchattacks", "art", "foolbox"]
    importers = {Path(*Path(files[0]).parts[-3:]) for files in found["attempts"]}
    assert importers <= OPTIONAL, found["attempts"]


def required(
    requirements: list[str], extras: set[str], own: dict[str, list[str]]
) -> Iterator[Requirement]:
    """The requirements that hold here with some extras; those on this package's extras (`own`)
    replaced by what these require.
    """
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            continue
        if requirement.name == "medrobust":
            for extra in requirement.extras:
                yield from required(own[extra], set(), own)
        else:
            yield requirement


def demanders(*extras: str) -> dict[str, list[str]]:
    """Of each installed distribution that this package requires with some extras, directly or not:
    what it demands, by its name.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = project["optional-dependencies"]
    roots = [*project["dependencies"], *(f"medrobust[{extra}]" for extra in extras)]
    waiting = list(required(roots, set(), own))
    seen: set[tuple[str, frozenset[str]]] = set()
    demands: dict[str, list[str]] = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = name, frozenset(requirement.extras)
        if key in seen or name in WITHOUT_DEPENDENCIES:
            continue
        seen.add(key)
        try:
            texts = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        theirs = list(required(texts, requirement.extras, own))
        demands.setdefault(name, []).extend(canonicalize_name(each.name) for each in theirs)
        waiting += theirs
    return demands


def test_nothing_that_is_installed_with_the_package_demands_torchvision() -> None:
    demands = demanders("engines", "dev", "clinical")
    assert {"torch", "monai", "numpy", "pytest", "mkdocs"} <= demands.keys()
    assert "typing-extensions" in demands["torch"]
    assert [name for name, theirs in demands.items() if "torchvision" in theirs] == []
    assert {"torchvision", "medmnist"}.isdisjoint(demands)
