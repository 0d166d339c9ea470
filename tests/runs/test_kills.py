"""Commands killed at a file-system call: nothing torn, nothing lost, nothing left over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.kills import JOBS

TESTS = Path(__file__).parents[1]


def kill(job: str, every: int, first: int) -> int:
    """Kills a job at one change in `every`; how often it was killed."""
    done = subprocess.run(
        [sys.executable, "-m", "support.kills", job, str(every), str(first)],
        cwd=TESTS, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["faults"] == []
    return int(found["kills"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_a_training_killed_as_it_ends_leaves_nothing() -> None:
    assert kill("train", 26, 5) >= 2, "as it writes the manifest, and as its weights are written"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
@pytest.mark.parametrize("job", JOBS)
def test_a_killed_command_leaves_nothing_torn_and_loses_nothing(job: str) -> None:
    assert (
        kill(job, {"train": 9, "train again": 12, "merge": 40, "run": 60, "report": 70}[job], 3)
        >= 2
    )
