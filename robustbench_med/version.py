"""Versions of everything that shapes a number, for records and checkpoints."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-learn", "pillow", "medmnist")


def versions() -> dict[str, str]:
    """Package name -> version, with Python's and medrobust's own."""
    from robustbench_med import __version__

    found = {"medrobust": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
