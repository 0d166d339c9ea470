"""The command line as a test runs it."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_med.cli import program as cli
from robustbench_med.models.registry import MODELS
from robustbench_med.runs.job import Job
from robustbench_med.runs.spec import TrainedSpec

SMALL = [
    "--size",
    "32",
    "--recipe",
    "steps=4",
    "--recipe",
    "eval_every=2",
    "--recipe",
    "batch_size=8",
]


def medrobust(*arguments: object, check: int = 0) -> subprocess.CompletedProcess[str]:
    """The command line in this process (starting Python and torch anew takes seconds), its output
    and exit code.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["medrobust", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == check, out.getvalue() + err.getvalue()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("medrobust: error:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def small_run(
    root: Path, out: Path, *more: object, model: str = "late,mail", attack: str = "fgsm,pgd"
) -> list[object]:
    """Arguments of a run of small victims on the two drawn data sets."""
    data = f"{root / 'heads.yaml'}+{root / 'chests.yaml'}"
    params = ["--attack-param", "steps=2"] if "pgd" in attack else []
    for name in (name for name in model.split(",") if name in MODELS):
        params += ["--model-param", f"{name}.width={16 if 'mail' in name else 8}"]
    return ["run", "--model", model, "--attack", attack, "--eps", "1/255,8/255", "--data", data, "--data-root", root, "--out", out,
            "--draws", 3, *SMALL, *params, *more]  # fmt: skip


class _AskedError(Exception):
    pass


def asked(*arguments: object) -> tuple[TrainedSpec, Job]:
    """What `run` or `train` is asked to do by a command line, without doing it."""
    calls = []

    def note(spec: TrainedSpec, job: Job) -> None:
        calls.append((spec, job))
        raise _AskedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustbench_med.runs.run.run", note)
        patch.setattr("robustbench_med.runs.train.train", note)
        with pytest.raises(_AskedError):
            medrobust(*arguments)
    (call,) = calls
    return call
