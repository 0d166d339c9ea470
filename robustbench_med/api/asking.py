"""What the public calls have in common: options made a specification and a job, objects named,
errors in the words of Python, random states left alone.
"""

from __future__ import annotations

import contextlib
import random
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustbench_med import errors, parsing
from robustbench_med.errors import LeftOutWarning, UserError
from robustbench_med.progress import Display, display_of
from robustbench_med.runs import packages
from robustbench_med.runs.job import Job
from robustbench_med.runs.objects import named
from robustbench_med.runs.options import COMMANDS, OPTIONS, flags_of
from robustbench_med.runs.spec import TrainedSpec
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


# --- words ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Errors and warnings name arguments in place of the command line's options."""
    with warnings.catch_warnings(record=False):
        usual = warnings.showwarning

        def show(message: Any, category: Any, *rest: Any) -> None:
            if issubclass(category, LeftOutWarning):
                message = category(worded(str(message)))
            usual(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        try:
            yield
        except UserError as error:
            error.args = (worded(str(error)), *error.args[1:])
            raise


def worded(text: str) -> str:
    """A text with `eps` in place of `--eps`, but for commands of a shell in it."""
    text = text.replace(errors.INCLUDE, "one of your own is given as an object, or registered")
    parts = re.split(r"(`[^`]*`|medrobust [^\n;]*)", text)
    return "".join(part if i % 2 else _without_flags(part) for i, part in enumerate(parts))


def _without_flags(text: str) -> str:
    known = _arguments()

    def argument(found: re.Match[str]) -> str:
        name = known.get(found["flag"])
        if name is None:
            return found[0]
        return f"{name}={found['number']}" if found["number"] else name

    number = r"(?: (?P<number>\d[\d./]*)(?=[\s),;.]|$))?"
    return re.sub(rf"(?P<flag>--[a-z][a-z0-9-]*){number}", argument, text)


def _arguments() -> dict[str, str]:
    """Arguments by the options that they stand for."""
    known = {}
    for field in OPTIONS:
        on, *off = flags_of("run", field)
        known[on] = field
        switches = [flag for flag in off if flag.startswith("--")]
        known |= dict.fromkeys(switches, f"{field}=False")
    return known


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
