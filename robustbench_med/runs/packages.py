"""Parts that installed packages bring: entry points in the groups `medrobust.attacks`,
`medrobust.losses`, `medrobust.defenses`, `medrobust.models`, `medrobust.datasets` and
`medrobust.reports`.
"""

from __future__ import annotations

import functools
import warnings
from importlib.metadata import EntryPoint, entry_points

from robustbench_med.errors import Notice
from robustbench_med.provenance.source_files import own_file
from robustbench_med.runs.registration import KINDS, of_packages, register

GROUPS = {f"medrobust.{kind}{'es' if kind == 'loss' else 's'}": kind for kind in KINDS}
"""Groups of entry points, and what each registers."""


@functools.cache
def load() -> None:
    """Registers what installed packages bring, once a process. What cannot be loaded is left out
    with a Notice that names its package.
    """
    for group, kind in GROUPS.items():
        for point in entry_points(group=group):
            try:
                register(kind, point.name, point.load(), version=_version(point))
            except Exception as error:  # code of others may raise any
                said = " ".join(str(error).split())
                warnings.warn(
                    f"{kind} {point.name!r} of the package {_package(point)} was left out:"
                    f" {type(error).__name__}: {said}",
                    Notice,
                    stacklevel=2,
                )
            else:
                of_packages(kind, point.name)


def _package(point: EntryPoint) -> str:
    return "?" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _version(point: EntryPoint) -> str | None:
    """What stands for the code of a package; None where it is the user's own, whose files do."""
    module = __import__(point.module, fromlist=["_"])
    return None if own_file(vars(module)) is not None else _package(point)
