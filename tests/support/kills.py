"""Commands that are killed at a chosen file-system call, and what they must leave.

    python -m support.kills JOB EVERY [FIRST]     # kills JOB at one call in EVERY; JSON on stdout

A process that has imported everything forks a child for each kill: a hook of Python's auditing
counts the calls that change the folder, and at one of them the child kills itself with SIGKILL.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.rmtree", "shutil.move", "sqlite3.connect"}  # fmt: skip
TINY = ("--size", "16", "--limit", "4", "--model-param", "width=4", "--recipe", "steps=2", "--quiet")  # fmt: skip
ATTACKED = ("--attack", "fgsm,noise", "--eps", "1/255,4/255", "--no-challenge")
SECONDS = 120
NAMED_ELSEWHERE = {"runs", "paces", "hashed"}
"""Folders whose files are named by time, speed or place."""


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        before: commands that make what it reads.
        command: the one; its folder is `out`.
    """

    before: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]


RUN = ("run", "--model", "late", *ATTACKED, *TINY)
TRAIN = ("train", "--model", "late", *TINY[:2], *TINY[4:])
JOBS = {
    "run": Job((), (*RUN, "--out", "out")),
    "train": Job((), TRAIN),
    "train again": Job(((*TRAIN, "--out", "out"),), (*TRAIN, "--force", "--out", "out")),
    "merge": Job(
        ((*RUN, "--out", "a"), (*RUN, "--out", "b", "--seed", "1")),
        ("merge", "a", "b", "--out", "out"),
    ),
    "report": Job(((*RUN, "--out", "out"),), ("report", "--out", "out")),
}
"""By name."""


def main() -> None:
    name, every = sys.argv[1], int(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else every // 2
    print(json.dumps(killed(JOBS[name], every, first)))


def killed(job: Job, every: int, first: int) -> dict[str, Any]:
    """Kills a job at one change in `every`, and starts it again.

    Returns:
        `calls`: changes that the whole job makes; `kills`; `faults`: what was not as it must be.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # a child of many threads has none of them
    from support.hostile.runner import ready
    from support.short import shorten, unsynced

    ready(), shorten(), unsynced()
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        folder = Path(place)
        fresh = folder / "fresh"
        fresh.mkdir()
        for command in job.before:
            assert _forked(fresh, command) == (0, False), (fresh / "said").read_text()
        whole = folder / "whole"
        shutil.copytree(fresh, whole)
        counted = folder / "counted"
        code, _ = _forked(whole, job.command, count=counted)
        assert code == 0, (whole / "said").read_text()
        calls, expected, faults, kills = int(counted.read_text()), state(whole), list[str](), 0
        for call in range(first, calls, every):
            here = folder / "here"
            shutil.copytree(fresh, here)
            _, died = _forked(here, job.command, at=call)
            kills += died
            faults += [f"call {call}: {fault}" for fault in _faults(here, job, expected)]
            shutil.rmtree(here)
    return {"calls": calls, "kills": kills, "faults": faults}


def _faults(here: Path, job: Job, expected: dict[str, str]) -> Iterator[str]:
    """What a killed job left that it must not, and what the next start does not mend."""
    yield from torn(here)
    before = {path: path.read_bytes() for path in (here / "out").glob("records/*.json")}
    code, _ = _forked(here, job.command)
    if code != 0:
        yield f"started again it ends with {code}: {(here / 'said').read_text()[-300:]}"
    after = state(here)
    for name in sorted(expected.keys() - after.keys()):
        yield f"{name} is lost"
    for name in sorted(after.keys() - expected.keys()):
        yield f"{name} is left over"
    for name, content in expected.items():
        if content and after.get(name, content) != content:
            yield f"{name} is another"
    for path, data in before.items():
        if not path.exists() or path.read_bytes() != data:
            yield f"{path.name}, finished before, was made again"


def torn(folder: Path) -> Iterator[str]:
    """Files that are not whole; what is hidden is no file yet."""
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            _read(path)
        except Exception as error:
            yield f"{path.relative_to(folder)} is torn: {type(error).__name__}: {error}"


def _read(path: Path) -> None:
    data = path.read_bytes()
    if path.suffix == ".json":
        json.loads(data)
    elif path.suffix == ".npz":
        import numpy as np

        with np.load(path) as arrays:
            {name: arrays[name] for name in arrays.files}
    elif path.suffix == ".safetensors":
        import safetensors.torch

        safetensors.torch.load(data)
    elif path.suffix == ".png":
        from PIL import Image

        Image.open(path).load()
    elif path.suffix == ".html" and not data.rstrip().endswith(b"</html>"):
        raise ValueError("it does not end as a page does")
    elif path.suffix in (".csv", ".md", ".tex", ".svg") and not data.endswith(b"\n"):
        raise ValueError("it does not end with a line")


def state(folder: Path) -> dict[str, str]:
    """Every file of the folders, by name; of weights the hash of their content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name == "said" or set(path.parts) & NAMED_ELSEWHERE:
            continue
        weights = path.suffix == ".safetensors"
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if weights else ""
    return found


def _forked(
    folder: Path, command: tuple[str, ...], *, at: int | None = None, count: Path | None = None
) -> tuple[int, bool]:
    """Exit code of a command in a child, and whether it was killed.

    Args:
        at: the number of the change at which it kills itself.
        count: where it writes how many it made.
    """
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            from support.hostile.runner import command_of, speak_into

            os.setsid()
            os.chdir(folder)
            os.environ.update(MEDROBUST_HOME=str(folder / "home"), NO_COLOR="1", TERM="dumb")
            speak_into(folder / "said")
            changes = _counted(folder, at)
            code = command_of(command)
            sys.stdout.flush(), sys.stderr.flush()
            if count is not None:
                count.write_text(str(changes()))
        finally:
            os._exit(code)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), os.WIFSIGNALED(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1, False


def _counted(folder: Path, at: int | None) -> Callable[[], int]:
    """Counts changes of the folder from now on, and dies at one; how many there were."""
    n, below = 0, str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal n
        if event == "open":
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            changes = event in CHANGES
        if not changes:
            return
        place = str(arguments[0])
        if not (place.startswith(below) or not place.startswith("/")):
            return
        n += 1
        if n == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: n


if __name__ == "__main__":
    main()
