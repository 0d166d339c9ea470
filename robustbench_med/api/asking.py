"""What the public calls have in common: options made a specification and a job, objects named,
errors in the words of Python, random states left alone.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustbench_med import parsing
from robustbench_med.progress import Display, display_of
from robustbench_med.runs import packages
from robustbench_med.runs.job import Job
from robustbench_med.runs.objects import named
from robustbench_med.runs.options import COMMANDS
from robustbench_med.runs.spec import TrainedSpec
from robustbench_med.runs.wording import in_python, worded
from robustbench_med.store.loggers import Logger, loggers_of

CALLED = {"run": "evaluate"}
SWITCHES = ("accept_unverified", "strict", "fail_fast", "skip_failed")
PLACES = ("threads", "shard", "address", "gpus", "slurm")
OBJECTS = ("name", "version")
"""Options of a call that say of objects what no field does."""


def job_of(options: dict[str, Any], *, quiet: bool, **where: Any) -> Job:
    """Where and how to run; takes what it needs out of the options."""
    root = options.pop("data_root", None)
    for name in SWITCHES:
        where[name] = bool(options.pop(name, False))
    where["batch_size"] = str(options.pop("batch_size", "auto"))
    where["jobs"] = str(options.pop("jobs", 1))
    where["keep"] = options.pop("keep", "examples")
    where["executor"] = options.pop("executor", "local")
    for name in PLACES:
        where[name] = options.pop(name, None)
    return Job(
        data_root=None if root is None else Path(root), display=Spoken(display_of(quiet)), **where
    )


def loggers_in(options: dict[str, Any]) -> list[Logger]:
    """The loggers that options name; takes them out of the options."""
    return loggers_of(**{key: options.pop(key, None) for key in ("mlflow", "tensorboard", "wandb")})


@contextlib.contextmanager
def asked(command: str, fields: Mapping[str, Any], **where: Any) -> Iterator[tuple[Any, Job]]:
    """Inside, the specification and the job of a call.

    Args:
        command: what it is called on the command line: run, compare, certify, diagnose, train.
        fields: of its specification and job, `name` and `version` of objects among them.
        where: further fields of the job.

    Raises:
        UserError: an unknown option or a bad value.
    """
    options = {key: value for key, value in fields.items() if value is not None or key != "model"}
    of_objects = {key: options.pop(key, None) for key in OBJECTS}
    kind: type[TrainedSpec] = COMMANDS[command]
    packages.load()
    with in_python(), random_states_kept():
        job = job_of(options, **where)
        with named(options, command, **of_objects) as given:
            yield parsing.validate(kind, given, CALLED.get(command, command)), job
        job.display.ended()


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Inside, global generators may go on; afterwards they are where they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


class Spoken(Display):
    """Shows what another display shows, in the words of Python."""

    def __init__(self, display: Display) -> None:
        super().__init__(quiet=display.quiet)
        self.display = display

    def say(self, line: str) -> None:
        """One line about what is going on."""
        self.display.say(worded(line))

    def warn(self, line: str) -> None:
        """One line the user must not miss."""
        self.display.warn(worded(line))

    def ended(self) -> None:
        """Nothing more will be shown."""
        self.display.ended()

    def bar(self, description: str, total: float) -> Any:
        """A progress bar."""
        return self.display.bar(description, total)

    def overall(self, description: str, total: float) -> Any:
        """One bar for a whole grid."""
        return self.display.overall(description, total)
