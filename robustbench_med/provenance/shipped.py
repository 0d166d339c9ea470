"""What of medrobust's own a result is made of: the revisions of its modules, and the names under
which they stand in hashes of the user's code.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from importlib.util import find_spec

from robustbench_med.provenance import source_files
from robustbench_med.provenance.source_files import OURS

_MOVED = {
    "robustbench_med.attacks.apgd_l1": "robustbench_med.attacks.apgd",
    "robustbench_med.attacks.balls": "robustbench_med.attacks.view",
    "robustbench_med.attacks.queries": "robustbench_med.attacks.view",
    "robustbench_med.attacks.random_search": "robustbench_med.attacks.square",
    "robustbench_med.attacks.registry": "robustbench_med.attacks",
    "robustbench_med.attacks.sigma_zero": "robustbench_med.attacks.minimal",
    "robustbench_med.attacks.space": "robustbench_med.attacks.view",
    "robustbench_med.attacks.sparse_rs": "robustbench_med.attacks.square",
    "robustbench_med.attacks.tables": "robustbench_med.attacks.view",
    "robustbench_med.attacks.threat": "robustbench_med.attacks.view",
    "robustbench_med.training.objectives": "robustbench_med.objectives",
}
"""Where what the user's code builds on first lay: a module, or a package for all its files."""


def first_name(module: str) -> str:
    """The module in which a module's contents first lay: they are hashed under that name, wherever
    they lie.
    """
    return _MOVED.get(module) or _MOVED.get(module.rpartition(".")[0]) or module


def revised(modules: set[str]) -> dict[str, int]:
    """`REVISION` of modules of medrobust's and of those that they import, by the last part of their
    name.

    A module that states none counts as the one in which its contents first lay, or as its package:
    that speaks for all its files.
    """
    revisions: dict[str, int] = {}
    waiting, seen = set(modules), set()
    while waiting:
        seen.add(name := waiting.pop())
        if (speaker := _speaker(name)) is not None:
            revisions[speaker.rpartition(".")[2]] = sys.modules[speaker].REVISION
            waiting |= (_imports(name) | {speaker}) - seen
    return dict(sorted(revisions.items()))


def _speaker(name: str) -> str | None:
    """The module whose `REVISION` speaks for a module; None where nobody's does."""
    for module in (name, first_name(name), name.rpartition(".")[0]):
        if isinstance(getattr(sys.modules.get(module), "REVISION", None), int):
            return module
    return None


@functools.cache
def _imports(name: str) -> set[str]:
    source = inspect.getsource(sys.modules[name]).encode()
    return ours_among(source_files.dotted(source, name.rpartition(".")[0]))


def ours_among(names: list[str]) -> set[str]:
    """Modules of medrobust's among dotted names, those among them that are imported where they are
    used; what a package passes on is looked up where it was made.
    """
    modules = set()
    for name in (name for name in names if name.partition(".")[0] == OURS):
        parent, _, last = name.rpartition(".")
        package = sys.modules.get(parent)
        if hasattr(package, "__path__") and not hasattr(package, last) and find_spec(name):
            importlib.import_module(name)
        passed_on = getattr(package, last, None)
        modules.add(
            name if name in sys.modules else getattr(passed_on, "__module__", None) or parent
        )
    return modules
