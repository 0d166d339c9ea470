"""Versions of everything that shapes a number, for records and checkpoints."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import robustbench_med

PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-learn", "pillow")


def versions() -> dict[str, str]:
    """Package name -> version, with Python's and medrobust's own."""
    numbers = {"medrobust": robustbench_med.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = "absent"
    return numbers
