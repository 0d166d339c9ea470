"""The same grid under every executor: the same tables, with workers killed, several processes on one
folder, and a driver that is no more.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.failing import TINY, grid
from support.own_victims import KILLED, written

from robustbench_med import UserError, evaluate, owners, register_attack
from robustbench_med.runs import executors
from robustbench_med.runs.executors import here, processes
from robustbench_med.runs.job import Job
from robustbench_med.store.claim import claim, claims
from robustbench_med.store.failure import Failures
from robustbench_med.store.store import Store

SLOW = """
import time, traceback
if any(frame.name == "attack_pass" for frame in traceback.extract_stack()):
    time.sleep(0.1)
return self.logits(*m)
"""
WAITING = """
import os, time, traceback
attacked = any(frame.name == "attack_pass" for frame in traceback.extract_stack())
while attacked and any(x.requires_grad for x in m) and os.path.exists(os.environ["WAITING"]):
    time.sleep(0.05)
return self.logits(*m)
"""
"""The forward of a model whose attacks do not go on while a file is there."""
TABLES = ("leaderboard.csv", "cells.csv", "records.csv")


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    """Waits for something to become true."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.fixture
def driver() -> Iterator[Callable[[list[object]], subprocess.Popen[str]]]:
    """`medrobust` in processes of its own, none of which outlives the test."""
    begun = []

    def begin(arguments: list[object]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "robustbench_med.cli", *map(str, arguments)]
        begun.append(
            subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        )
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts this process, as it does not where tests run in several."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file for which models of the forward `WAITING` wait."""
    monkeypatch.setenv("WAITING", str(file := tmp_path / "waiting"))
    file.touch()
    return file


@pytest.mark.parametrize(
    ("job", "n"),
    [
        (Job(), 1),
        (Job(jobs="3"), 3),
        (Job(jobs="9"), 4),
        (Job(jobs="auto", threads=1000), 1),
    ],
)
def test_as_many_processes_as_asked_for_but_no_more_than_units(job: Job, n: int) -> None:
    found = executors.executor_of(job, 4)
    assert found is here.compute if n == 1 else found.n == n


def test_processors_are_divided_by_the_processes_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(executors.torch, "get_num_threads", lambda: 8)
    assert executors.executor_of(Job(jobs="3"), 2) == processes.Processes(2, 2)
    assert executors.executor_of(Job(jobs="16"), 99) == processes.Processes(16, 1)
    assert executors.executor_of(Job(jobs="2", threads=3), 2) == processes.Processes(2, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--jobs 0", "--jobs must be 'auto' or a whole number"),
        ("--jobs many", "--jobs must be 'auto' or a whole number"),
        ("--threads 0", "--threads must be a whole number from 1 to"),
        ("--shard 3/2", "--shard takes i/n"),
    ],
)
def test_bad_numbers_are_one_line(words: str, message: str, tmp_path) -> None:
    done = medrobust("run", "--model", "late", *words.split(), "--out", tmp_path / "o", check=2)
    assert message in refused(done)
    assert not (tmp_path / "o").exists()


def test_a_gpu_each_where_there_are_several(monkeypatch) -> None:
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    seen = [processes._gpu(number)["CUDA_VISIBLE_DEVICES"] for number in range(4)]
    assert seen == ["4", "5", "7", "4"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert processes._gpu(1) == {"CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 1)
    assert processes._gpu(1) == {}


def test_what_this_process_alone_knows_is_not_given_to_others(tmp_path) -> None:
    register_attack("mine", lambda view, x, y, threat, streams: x)
    with pytest.raises(UserError, match="mine: registered in this process alone"):
        evaluate("late", "mine", size=16, limit=4, jobs=2, quiet=True, out=tmp_path / "o")
    assert not [path for path in (tmp_path / "o").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_shards_merged_are_the_whole_grid(tmp_path) -> None:
    models = ["--train-seed", "0,1", "--no-challenge"]
    medrobust(*grid("late", tmp_path / "whole", *models))
    for i in (1, 2):
        medrobust(*grid("late", tmp_path / f"{i}", *models, "--shard", f"{i}/2"))
    parts = [len(Store(tmp_path / str(i)).paths()) for i in (1, 2)]
    assert sum(parts) == len(Store(tmp_path / "whole").paths()) == 8
    folders = [tmp_path / str(i) for i in (1, 2) if parts[i - 1]]
    medrobust("merge", *folders, "--out", tmp_path / "all")
    medrobust("leaderboard", "--out", tmp_path / "all")
    assert tables(tmp_path / "all") == tables(tmp_path / "whole")


def test_an_empty_shard_says_so_and_is_no_error(tmp_path) -> None:
    done = [
        medrobust(*grid("late", tmp_path / f"{i}", "--shard", f"{i}/3")).stderr for i in (1, 2, 3)
    ]
    assert sum("no victim of this grid falls to shard" in said for said in done) == 2


def test_a_claimed_unit_comes_last(tmp_path, monkeypatch) -> None:
    out, real, begun = tmp_path / "o", here.work_on, []

    def work_on(unit, session, tell):
        if not begun:
            begun.append(claim(out, unit.key, {}))
            assert begun[0].take()
        elif len(begun) == 1 and unit.cells[0].train_seed == 1:
            begun.append(unit)
            worked = real(unit, session, tell)
            begun[0].release()
            return worked
        return real(unit, session, tell)

    monkeypatch.setattr(here, "work_on", work_on)
    done = medrobust(*grid("late", out, "--train-seed", "0,1"))
    assert f"late on phantoms: {owners.me()} is at it, it comes last" in done.stderr
    assert len(Store(out).paths()) == 8


def test_a_claim_tells_how_far_its_unit_is(tmp_path, monkeypatch) -> None:
    out, seen, real = tmp_path / "o", [], here.work_on

    def work_on(unit, session, tell):
        def look(outcome):
            monkeypatch.setattr("robustbench_med.owners.lock.BEAT", 0.01)
            (found,) = claims(out)
            seen.append(found)
            tell(outcome)

        return real(unit, session, look)

    monkeypatch.setattr(here, "work_on", work_on)
    medrobust(*grid("late", out))
    assert len(seen) == 4
    assert seen[0].owner == owners.me()
    assert seen[0].about["victim"]["model"] == "late"
    assert seen[0].about["cells"] == 4
    assert claims(out) == []


@pytest.mark.slow
def test_two_processes_give_the_same_tables_as_one(tmp_path, monkeypatch) -> None:
    models = ["--defense", "pgd-at,none", "--defense-param", "steps=1", "--no-challenge"]
    for jobs in (1, 2):
        monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / f"home{jobs}"))
        more = ["--jobs", jobs, "--threads", 1]
        done = medrobust(*grid("late", tmp_path / str(jobs), *models, *more))
        assert done.stderr.count("training of late") == 0
    assert tables(tmp_path / "1") == tables(tmp_path / "2")
    records = Store(tmp_path / "2").records()
    assert {record.environment.threads for record in records} == {1}
    weights = [
        sorted(p.name for p in (tmp_path / f"home{j}").rglob("*.safetensors")) for j in (1, 2)
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 2


@pytest.mark.slow
@pytest.mark.challenged  # other processes shorten nothing
def test_two_processes_give_the_same_comparison_as_one(tmp_path, monkeypatch) -> None:
    arguments = ["compare", "--model", "late", "--model-param", "width=4", *TINY, "--attack", "fgsm",
                 "--eps", "4/255", "--defense", "jpeg,pni", "--no-challenge"]  # fmt: skip
    seen = []
    for jobs in (1, 2):
        monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / f"home{jobs}"))
        out = tmp_path / str(jobs)
        medrobust(*arguments, "--jobs", jobs, "--threads", 1, "--out", out)
        compared = pd.read_csv(out / "compare.csv")
        timed = [name for name in compared if "latency" in name or "seconds" in name]
        seen.append((compared.drop(columns=timed), (out / "compare_pairs.csv").read_bytes()))
    (table, pairs), (by_two, pairs_by_two) = seen
    assert set(table.naive_how.dropna()) == {"unaware", "release"}
    pd.testing.assert_frame_equal(table, by_two)
    assert pairs == pairs_by_two


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_a_cell_that_kills_all_of_them_fails(
    tmp_path, monkeypatch
) -> None:
    counter = tmp_path / "deaths"
    monkeypatch.setenv("DEATHS", str(counter))
    monkeypatch.setattr(processes, "DEATHS", 2)
    models = f"{written(tmp_path, KILLED)},late"
    whole, out = tmp_path / "whole", tmp_path / "o"
    medrobust(*grid(models, whole, "--no-challenge"))
    counter.write_text("3")  # two of one cell, one of another
    two = ["--no-challenge", "--jobs", 2, "--threads", 1]
    done = medrobust(*grid(models, out, *two), check=1)
    assert "another one goes on" in done.stderr
    assert counter.read_text() == "0"
    (failure,) = Failures(out).all()
    assert "2 processes died at it" in failure.error
    assert len(Store(out).records()) == 7
    assert claims(out) == []
    medrobust("rerun", "--failed", "--out", out)
    assert tables(out) == tables(whole)


@pytest.mark.slow
def test_no_worker_outlives_its_driver_and_finished_cells_stay(driver, waiting, tmp_path) -> None:
    out = tmp_path / "o"
    models = ",".join(written(tmp_path, WAITING, name=f"waits{i}.py") for i in range(2))
    running = driver(grid(models, out, "--jobs", 2))
    until(lambda: len(claims(out)) == 2 and len(Store(out).paths()) >= 1)
    workers = [found.owner for found in claims(out)]
    running.send_signal(signal.SIGKILL)
    running.wait()
    until(lambda: all(worker.is_gone for worker in workers), 60)
    kept = Store(out).paths()
    assert kept
    assert claims(out) == []
    waiting.unlink()
    done = medrobust(*grid(models, out))
    assert done.stderr.count("done before") == len(kept)
    assert len(Store(out).records()) == 8
    assert not list(out.rglob(".*.tmp"))


@pytest.mark.slow
def test_two_runs_on_one_folder_share_the_work(driver, tmp_path) -> None:
    out = tmp_path / "o"
    models = ",".join(written(tmp_path, SLOW, name=f"slow{i}.py") for i in range(2))
    other = driver(grid(models, out))
    until(lambda: len(claims(out)) == 1)
    said = [medrobust(*grid(models, out)).stderr, other.communicate()[1]]
    assert other.returncode == 0, said
    assert len(Store(out).records()) == 8
    assert sum(text.count("done before") for text in said) == 8  # of 16 cells asked for


@pytest.mark.slow
def test_ctrl_c_ends_workers_too(waiting, interruptible, tmp_path) -> None:
    out, workers = tmp_path / "o", []

    def interrupt() -> None:
        until(lambda: len(claims(out)) == 2)
        workers.extend(found.owner for found in claims(out))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    arguments = grid(written(tmp_path, WAITING), out, "--train-seed", "0,1", "--jobs", 2)
    assert "interrupted; finished cells" in medrobust(*arguments, check=130).stderr
    assert len(workers) == 2
    until(lambda: all(worker.is_gone for worker in workers), 5)


@pytest.mark.slow
def test_fail_fast_ends_all_workers(tmp_path) -> None:
    broken = written(
        tmp_path, "if len(m[0]) == 4: raise ValueError('four')\nreturn self.logits(*m)"
    )
    out = tmp_path / "o"
    done = medrobust(*grid(f"{broken},late", out, "--jobs", 2, "--fail-fast"), check=2)
    assert "ValueError: four" in refused(done)
    assert claims(out) == []
    assert Failures(out).all() == []
