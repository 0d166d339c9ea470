"""Units in the tasks of a Slurm array: a real Slurm of one node, which the tests start."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from support import slurm as one
from support.cli import asked, medrobust, refused
from support.failing import grid
from support.own_victims import KILLED, written

from robustbench_med.errors import UserError
from robustbench_med.runs import executors
from robustbench_med.runs.executors import slurm, slurm_task
from robustbench_med.runs.executors.worker import Sessions
from robustbench_med.runs.job import Job
from robustbench_med.runs.status import status
from robustbench_med.store.claim import claims
from robustbench_med.store.failure import Failures
from robustbench_med.store.store import Store

HELD = """
import os, time, traceback
from pathlib import Path
attacked = any(frame.name == "attack_pass" for frame in traceback.extract_stack())
while attacked and list(Path(os.environ["RUN"]).glob("records/*.json")) and not Path(os.environ["GO"]).exists():
    time.sleep(0.05)
return self.logits(*m)
"""
"""The forward of a model that cannot be attacked once there is a record, until a file lets it."""
TABLES = ("leaderboard.csv", "cells.csv", "records.csv")


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[dict[str, str]]:
    """What commands of Slurm find in the environment."""
    if (reason := one.missing()) is not None:
        pytest.skip(reason)
    with one.one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def cluster(node, monkeypatch) -> None:
    """A Slurm that answers, and is asked often."""
    for name, value in node.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm, "LOOK", 0.2)
    monkeypatch.setattr(slurm, "ASK", 1.0)


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(executor="slurm", slurm={"partitoin": "gpu"}), "unknown field 'partitoin'; did you mean partition"),
        (Job(executor="slurm", slurm={"timeout_min": "4:00:00"}), "--slurm: timeout_min: .*valid integer"),
        (Job(executor="slurm", slurm={"nodes": 2}), "unknown field 'nodes'"),
        (Job(executor="slurm", jobs="2"), "--jobs is for the executor local"),
        (Job(executor="slurm", address="auto"), "--address and --gpus are for --executor ray"),
        (Job(slurm={"partition": "gpu"}), "--slurm and --detach are for --executor slurm"),
        (Job(executor="ray", detach=True), "--slurm and --detach are for --executor slurm"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(job: Job, message: str) -> None:
    with pytest.raises(UserError, match=message):
        executors.jobs_of(job)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("partition", "--slurm takes key=value,key=value, got 'partition'"),
        ("partitoin=gpu", "did you mean partition or timeout_min?"),
    ],
)
def test_a_typo_is_one_line_before_anything_is_done(typed: str, message: str, tmp_path) -> None:
    out = tmp_path / "o"
    done = medrobust(*grid("late", out, "--executor", "slurm", "--slurm", typed), check=2)
    assert message in refused(done)
    assert not out.exists()


def test_parameters_are_typed_or_stand_in_a_run_file(tmp_path) -> None:
    typed = ["--slurm", "nodelist=a,b,partition=gpu", "--slurm", "qos=x", "--detach"]
    _, job = asked("run", "--model", "late", *typed)
    assert job.slurm == {"nodelist": "a,b", "partition": "gpu", "qos": "x"}
    assert job.detach
    file = tmp_path / "run.yaml"
    file.write_text("model: late\nslurm: {partition: gpu, timeout_min: 60}\n")
    _, job = asked("run", "--config", file)
    assert job.slurm == {"partition": "gpu", "timeout_min": 60}
    _, job = asked("run", "--model", "late")
    assert (job.slurm, job.detach) == (None, False)


def test_a_missing_submitit_and_a_missing_slurm_are_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    done = medrobust(*grid("late", tmp_path / "o", "--executor", "slurm"), check=2)
    assert "pip install 'medrobust[slurm]'" in refused(done)
    monkeypatch.setitem(sys.modules, "submitit", slurm)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = medrobust(*grid("late", tmp_path / "o", "--executor", "slurm"), check=2)
    assert "sbatch, srun, squeue not found" in refused(done)


def test_a_task_has_as_many_processors_as_threads(monkeypatch) -> None:
    monkeypatch.setattr(slurm, "check_there", lambda: None)

    def found(threads: int | None, **parameters: object) -> tuple[int, int | None]:
        made = slurm.Slurm.of(Job(executor="slurm", threads=threads, slurm=parameters))
        return made.threads, made.parameters.cpus_per_task

    assert found(None) == (1, 1)
    assert found(4) == (4, 4)
    assert found(None, cpus_per_task="8") == (8, 8)
    assert found(2, cpus_per_task="8") == (2, 8)


def test_a_requeued_task_leaves_out_what_its_notes_tell(tmp_path, monkeypatch) -> None:
    """Every unit is worked on as it stands, less the cells that came to something before."""
    seen = []

    class Asked:
        def __init__(self, numbers: list[int]) -> None:
            self.numbers = numbers

        @classmethod
        def model_validate(cls, numbers: list[int]) -> "Asked":
            return cls(numbers)

        def without(self, done: set[int]) -> "Asked | None":
            left = [number for number in self.numbers if number not in done]
            return Asked(left) if left else None

        def written(self) -> str:
            return json.dumps(self.numbers)

    def work(unit: str, job: str, sessions: Sessions) -> list[str]:
        seen.append(json.loads(unit))
        for number in seen[-1]:
            sessions.send("outcome", number=number, record=None, failure=f"{number}")
            if number == 3 and len(seen) == 2:
                os.kill(os.getpid(), signal.SIGUSR2)
        return [str(number) for number in seen[-1]]

    def submitit(number: int, frame: object) -> None:
        sys.exit(-1)

    monkeypatch.setattr(slurm_task, "Unit", Asked)
    monkeypatch.setattr(slurm_task, "work", work)
    task = slurm_task.Task(("[1, 2]", "[3, 4]", "[5]"), "{}", str(tmp_path / "notes"), 1)
    usual = signal.signal(signal.SIGUSR2, submitit)
    try:
        with pytest.raises(SystemExit):
            task()
        assert seen == [[1, 2], [3, 4]]
        assert task() == ["4", "5"]
        assert signal.getsignal(signal.SIGUSR2) is submitit
    finally:
        signal.signal(signal.SIGUSR2, usual)
    assert seen[2:] == [[4], [5]]


def test_a_node_without_the_folder_says_so(tmp_path) -> None:
    with pytest.raises(UserError, match="is not to be seen on this node"):
        slurm_task.Task((), "{}", str(tmp_path / "elsewhere" / "notes"), 1)()


@pytest.mark.slow
def test_an_array_with_a_killed_task_gives_the_tables_of_one_process(
    cluster, tmp_path, monkeypatch
) -> None:
    deaths = tmp_path / "deaths"
    monkeypatch.setenv("DEATHS", str(deaths))
    monkeypatch.setattr(slurm, "TASKS", 2)
    models = f"{written(tmp_path, KILLED)},late"
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home1"))
    what = ["--train-seed", "0,1", "--no-challenge"]
    medrobust(*grid(models, tmp_path / "whole", *what, "--jobs", 1, "--threads", 1))
    deaths.write_text("1")
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home2"))
    out = tmp_path / "o"
    array = ["--executor", "slurm", "--slurm", "timeout_min=9,comment=a"]
    done = medrobust(*grid(models, out, *what, *array))
    assert "16 cells of 4 victims in 2 tasks" in done.stderr
    assert "what it left is submitted again" in done.stderr
    assert deaths.read_text() == "0"
    for name in TABLES:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(Store(out).records()) == 16
    assert Failures(out).all() == []
    assert claims(out) == []


def requeue(job: str) -> None:
    """As an administrator, or Slurm itself, takes a node away."""
    subprocess.run(["scontrol", "requeue", job], check=True)


def signalled(job: str) -> None:
    """As Slurm tells submitit that the time is up."""
    subprocess.run(["scancel", "--signal=USR2", job], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("interrupt", "left"), [(requeue, 1), (signalled, 0)])
def test_a_detached_task_that_is_requeued_does_only_what_is_missing(
    interrupt: Callable[[str], None], left: int, cluster, tmp_path, monkeypatch
) -> None:
    model, out, go = written(tmp_path, HELD), tmp_path / "o", tmp_path / "go"
    monkeypatch.setenv("RUN", str(out))
    monkeypatch.setenv("GO", str(go))
    arguments = grid(model, out, "--no-challenge", "--executor", "slurm")
    shown = json.loads(medrobust(*arguments, "--detach", "--json").stdout)
    job = shown["job"].removeprefix("Slurm job ")
    assert shown["status"] == f"medrobust status --out {out}"
    assert not (out / "leaderboard.csv").exists()
    until(lambda: status(out).done >= 1)
    interrupt(job)
    until(lambda: slurm.states_of(job) == {"PENDING"})
    (kept,) = Store(out).paths()
    measured = kept.stat().st_mtime_ns
    assert len(list(out.glob("claims/*.json"))) == left  # a killed task gives nothing back
    assert claims(out) == []
    shown = medrobust("status", "--out", out).stdout
    assert f"the run of Slurm job {job} waits, starts or was cancelled" in shown
    go.touch()
    now = ["scontrol", "update", f"JobId={job}", "StartTime=now"]  # else two minutes later

    def done() -> bool:
        if slurm.states_of(job) == {"PENDING"}:
            subprocess.run(now, check=False, capture_output=True)  # it may start meanwhile
        return status(out).done == 4

    until(done, 240)
    assert f"the run of Slurm job {job} has ended" in medrobust("status", "--out", out).stdout
    assert kept.stat().st_mtime_ns == measured
    assert Failures(out).all() == []
    done = medrobust(*arguments, "--wait")
    assert done.stderr.count("done before") == 4
    assert all((out / name).exists() for name in TABLES)


@pytest.mark.slow
def test_a_cancelled_job_ends_the_run_in_one_line(cluster, tmp_path, monkeypatch) -> None:
    def cancel(job: str) -> set[str]:
        subprocess.run(["scancel", job], check=True)
        return usual(job)

    usual = slurm.states_of
    monkeypatch.setattr(slurm, "states_of", cancel)
    done = medrobust(*grid("late", tmp_path / "o", "--executor", "slurm"), check=2)
    assert "was cancelled" in refused(done)


@pytest.mark.slow
def test_a_job_that_slurm_refuses_is_one_line(cluster, tmp_path) -> None:
    where = ["--executor", "slurm", "--slurm", "partition=none"]
    done = medrobust(*grid("late", tmp_path / "o", *where), check=2)
    assert "Slurm refuses the job (sbatch: error: invalid partition specified: none" in refused(
        done
    )
