"""A job: where and how to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from robustbench_med.progress import Display


@dataclass
class Job:
    """Where and how to run: nothing here changes what is measured, but for the rounding of float32
    kernels.
    """

    out: Path | None = None
    device: str = "auto"
    batch_size: str = "auto"
    data_root: Path | None = None
    accept_unverified: bool = False
    strict: bool = False
    force: bool = False
    display: Display = field(default_factory=lambda: Display(quiet=True))
