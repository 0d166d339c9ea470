"""Runs hostile inputs, each in a process of its own, and judges what came of it.

A child of this process, which has imported everything, meets the input: an interpreter takes
seconds to start. What belongs to an interpreter's start is run in one of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from support.hostile.case import DONE, LEFT_OUT, REFUSED, Case

SECONDS = 30
"""Of processor time, after which an input is taken to hang; the slowest honest one takes a tenth."""
WAITING = 10
"""How many times as long by the clock it may take, on a machine that does something else too."""
MEMORY = 1 << 30
"""Bytes of memory, above what the process had, that no input may take."""
LINE = 2200
"""Characters of a line: 300 of the input, its file and what was expected."""
UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What must not reach a terminal."""
KINDS = ("clean", "traceback", "hang", "memory", "silent", "unfit")


@dataclass(frozen=True)
class Result:
    """What came of an input: one of `KINDS`, and why."""

    kind: str
    why: str
    output: str = ""
    seconds: float = 0.0


def meet(case: Case, home: Path | None = None) -> Result:
    """Runs a case in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        inner = folder / "here"
        inner.mkdir()
        case.make(inner)
        variables = {
            "MEDROBUST_HOME": str(home or folder / "home"),
            "HOME": str(folder / "user"),
            "NO_COLOR": "1",
            "TERM": "dumb",
            **case.variables,
        }
        begun = time.monotonic()
        run = _interpreter if case.fresh else _child
        code, grown, output = run(case, inner, variables, folder / "output")
        took = time.monotonic() - begun
        if code == DONE and case.code != DONE and case.right is not None and case.right(inner):
            case = replace(case, code=DONE, says=())
        return _judged(case, code, grown, output, took)
    finally:
        for path in (folder, *folder.rglob("*")):
            with contextlib.suppress(OSError):
                path.is_dir() and not path.is_symlink() and path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _child(
    case: Case, folder: Path, variables: dict[str, str | None], output: Path
) -> tuple[int, int, str]:
    before = _resident()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            _settle(case, folder, variables, output)
            code = command_of(case.command)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    code, peak = _waited(pid)
    text = output.read_bytes().decode("utf-8", "replace") if output.exists() else ""
    return code, peak - before, text


def _settle(case: Case, folder: Path, variables: dict[str, str | None], output: Path) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(folder)
    speak_into(output)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 6 * MEMORY, now + 6 * MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, value in case.limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def speak_into(output: Path) -> None:
    """From now on this process writes into a file, and has nothing to read."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0), os.dup2(descriptor, 1), os.dup2(descriptor, 2)
    # the process may have replaced them (pytest): the command writes to the very files
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def command_of(arguments: tuple[str, ...]) -> int:
    from robustbench_med.cli import program

    sys.argv = ["medrobust", *arguments]
    try:
        program.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def _interpreter(
    case: Case, folder: Path, variables: dict[str, str | None], output: Path
) -> tuple[int, int, str]:
    environment = {**os.environ, **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [sys.executable, "-m", "robustbench_med.cli", *case.command]

    def limited() -> None:
        for name, value in case.limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file,
            stderr=file, start_new_session=True, preexec_fn=limited,
        )  # fmt: skip
        code, _ = _waited(process.pid, 2 * SECONDS)
        process.returncode = code
    return code, 0, output.read_bytes().decode(_encoding(environment), "replace")


def _encoding(environment: dict[str, str]) -> str:
    """What an interpreter writes with."""
    return "utf-16" if environment.get("PYTHONIOENCODING") == "utf-16" else "utf-8"


def _waited(pid: int, seconds: float = SECONDS) -> tuple[int, int]:
    """Exit code of a child and its peak memory; one that hangs is killed."""
    end = time.monotonic() + WAITING * seconds
    killed = False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it may have started
            code = os.waitstatus_to_exitcode(status)
            return (-1000 if killed else code), usage.ru_maxrss * 1024
        if time.monotonic() > end or _worked(pid) > seconds:
            killed = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _worked(pid: int) -> float:
    """Seconds of processor time of a process; 0 where it has ended, or the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _judged(case: Case, code: int, grown: int, output: str, seconds: float) -> Result:
    """The first thing wrong, in the order of `KINDS`."""
    tests: tuple[tuple[str, Callable[[], str]], ...] = (
        ("hang", lambda: f"after {seconds:.0f} s" if code == -1000 else ""),
        ("traceback", lambda: _crashed(code, output)),
        ("memory", lambda: f"{grown >> 20} MiB" if grown > MEMORY else ""),
        ("silent", lambda: _unexpected(case, code, output)),
        ("unfit", lambda: _unfit(case, code, output)),
    )
    for kind, test in tests:
        if why := test():
            return Result(kind, why, output, seconds)
    return Result("clean", "", output, seconds)


def _crashed(code: int, output: str) -> str:
    last = output.strip().splitlines()[-1:] or [""]
    if "Traceback (most recent call last)" in output or code not in (0, 1, 2):
        return f"exit code {code}: {last[0][:200]!r}"
    return "Aborted." if re.search(r"^Aborted[.!]$", output, re.MULTILINE) else ""


def _unexpected(case: Case, code: int, output: str) -> str:
    if code != case.code:
        return f"exit code {code}, expected {case.code}: {output.strip()[-200:]!r}"
    flat = re.sub(r"[\s│]+", "", output)
    lacks = [text for text in case.says if re.sub(r"[\s│]+", "", text) not in flat]
    if lacks:
        return f"says nothing of {lacks[0]!r}: {output.strip()[-300:]!r}"
    there = [text for text in case.never if text in output]
    return f"says {there[0]!r}" if there else ""


def _unfit(case: Case, code: int, output: str) -> str:
    if (found := UNFIT.search(output)) is not None:
        return f"the character {found[0]!r}: {output[max(0, found.start() - 60) :][:120]!r}"
    long = [line for line in output.splitlines() if len(line) > LINE]
    if long:
        return f"a line of {len(long[0])} characters: {long[0][:150]!r}"
    errors = [line for line in output.splitlines() if line.startswith("medrobust: error:")]
    if code == REFUSED and len(errors) != 1 and "╭─ Error" not in output:
        return f"{len(errors)} lines of error: {output.strip()[-200:]!r}"
    if code == REFUSED and errors and output.rstrip().splitlines()[-1] != errors[0]:
        return f"more than a line: {output.strip()[-300:]!r}"
    if code == LEFT_OUT and "medrobust: warning:" not in output and errors == []:
        return f"no word of what was left out: {output.strip()[-200:]!r}"
    return ""


def ready() -> None:
    """Imports what commands import when they are asked for, so that children share it."""
    for module in HEAVY:
        import_module(module)


HEAVY = (
    "h5py",
    "nibabel",
    "pydicom.pixels",
    "robustbench_med.cli.listings",
    "robustbench_med.data.archive",
    "robustbench_med.data.verify",
    "robustbench_med.models.encoders",
    "robustbench_med.reports.write",
    "robustbench_med.reports.claims",
    "robustbench_med.runs.certify",
    "robustbench_med.runs.commands",
    "robustbench_med.runs.compare",
    "robustbench_med.runs.costs",
    "robustbench_med.runs.diagnose",
    "robustbench_med.runs.plan",
    "robustbench_med.runs.run",
    "robustbench_med.runs.train",
    "robustbench_med.training.keras",
    "sklearn.metrics",
    "torch.utils.flop_counter",
)
