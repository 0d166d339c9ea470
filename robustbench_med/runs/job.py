"""A job: where and how to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from robustbench_med.errors import unknown
from robustbench_med.naming import Keep
from robustbench_med.progress import Display


@dataclass
class Job:
    """Where and how to run: nothing here changes what is measured, but for the rounding of float32
    kernels.

    Attributes:
        keep: which attacked images are kept besides the records (`store.adversarials`).
        fail_fast: the first cell that fails ends the run.
        skip_failed: cells that failed before are not tried again.
        jobs: processes that work on the units of a run; "auto": as many as there are GPUs, or
            processors.
        threads: of PyTorch in each of them; None: the processors' share.
        executor: "local"; "ray": a task a unit; "slurm": array jobs of packed units.
        address: of a Ray cluster; None: one of this machine for this run.
        gpus: GPUs of a Ray task, or a part of one; None: one where the device is cuda.
        slurm: parameters of the Slurm job, by their names (`executors.slurm.Parameters`).
        detach: end once Slurm has the job, instead of waiting for it.
        shard: "i/n": only the units that fall to part i of n.
    """

    out: Path | None = None
    device: str = "auto"
    batch_size: str = "auto"
    data_root: Path | None = None
    accept_unverified: bool = False
    strict: bool = False
    force: bool = False
    keep: Keep = "examples"
    fail_fast: bool = False
    skip_failed: bool = False
    jobs: str = "1"
    threads: int | None = None
    executor: str = "local"
    address: str | None = None
    gpus: float | None = None
    slurm: dict[str, Any] | None = None
    detach: bool = False
    shard: str | None = None
    display: Display = field(default_factory=lambda: Display(quiet=True))

    def __post_init__(self) -> None:
        if self.keep not in get_args(Keep):
            raise unknown("value of --keep", str(self.keep), get_args(Keep))

    def plain(self) -> dict[str, Any]:
        """Everything but the display, as JSON holds it; paths are whole."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["display"]
        return {
            name: str(value.resolve()) if isinstance(value, Path) else value
            for name, value in values.items()
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any], display: Display) -> Job:
        """What `plain` gave, with another display."""
        paths = {
            name: Path(plain[name]) for name in ("out", "data_root") if plain[name] is not None
        }
        return cls(**{**plain, **paths, "display": display})
