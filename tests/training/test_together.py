"""Two processes that want the same victim: one trains it, the other waits for it."""

import json
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robustbench_med.owners import me
from robustbench_med.owners.lock import read
from robustbench_med.training import checkpoints
from robustbench_med.training.interrupted import alone

TRAIN = [sys.executable, "-m", "robustbench_med.cli", "train", "--model", "late", "--size", "16"]
TINY = ["--model-param", "width=4", "--recipe", "steps=6", "--recipe", "eval_every=2"]


def trained(home: Path) -> list[Path]:
    """The weights in a home."""
    return sorted((home / "checkpoints").glob("*.safetensors"))


@pytest.mark.slow
def test_two_processes_train_a_victim_once_and_colleagues_can_read_it(home) -> None:
    processes = [
        subprocess.Popen([*TRAIN, *TINY], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    (weights,) = trained(home)
    assert stat.S_IMODE(weights.stat().st_mode) & 0o044 == 0o044
    seconds = json.loads(weights.with_suffix(".json").read_text())["seconds"]
    assert seconds > 0
    assert sum("waiting for the training of late" in text for text in said) <= 1
    assert list((home / "checkpoints").glob("*.lock")) == []
    assert checkpoints.open_checkpoint(weights).sidecar


def test_the_lock_of_a_training_that_was_killed_is_taken_over(home, tmp_path) -> None:
    hold = (
        "import sys; from pathlib import Path; from robustbench_med.owners.lock import Lock;"
        "assert Lock(Path(sys.argv[1])).take(); print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "late.safetensors"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(path.with_suffix(".lock"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        holder.kill()
        holder.wait()

    began = time.monotonic()
    with alone(path, say):
        assert read(path.with_suffix(".lock")).owner == me()
    assert f"process {holder.pid}" in said[0]
    assert time.monotonic() - began < 10
