"""`medrobust status`: how far a run is, from its folder alone."""

import json
import os
from pathlib import Path

import pytest
from support.cli import medrobust, refused

from robustbench_med.cli.terminal_status import sentences
from robustbench_med.owners import Owner
from robustbench_med.runs.status import status
from robustbench_med.store.claim import claim
from robustbench_med.store.ledger import LedgerUnit, Writer


def unit(key: str, numbers: range, weight: int = 10, *, trained: bool = False) -> LedgerUnit:
    victim = {"model": key, "defense": "none", "data": "d", "fold": None, "train_seed": 0}
    cells = dict.fromkeys(numbers, weight)
    return LedgerUnit(key=key * 64, victim=victim, trained=trained, cells=cells)


def test_done_running_failed_and_waiting(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no run began"):
        status(tmp_path)
    units = [
        unit("a", range(1, 4)),
        unit("b", range(4, 7), 20),
        unit("c", range(7, 9), trained=True),
    ]
    ledger = Writer(tmp_path, units)
    found = status(tmp_path)
    assert (found.cells, found.waiting, found.done) == (8, 8, 0)
    assert (found.trainings, found.trained, found.per_minute) == (2, 0, None)
    (tmp_path / "records").mkdir()
    for number in (1, 2):
        (tmp_path / "records" / f"{number:016d}.json").write_text("{}")
        ledger.note(number, record=f"{number:016d}" + "0" * 48)
    ledger.note(3, failure="f" * 64)
    os.utime(tmp_path / "records" / f"{1:016d}.json", (1.0, 1.0))  # it was there before
    working = claim(tmp_path, "b" * 64, {"victim": units[1].victim, "since": 1.0, "cells": 3,
                                         "finished": 0, "doing": "training b on d", "done": 5,
                                         "total": 10})  # fmt: skip
    assert working.take()
    found = status(tmp_path)
    working.release()
    assert (found.done, found.before, found.failed, found.waiting) == (2, 1, 1, 4)
    assert (found.trainings, found.trained, found.training) == (2, 1, 1)
    assert found.running
    (worker,) = found.workers
    assert (worker.doing, worker.done, worker.total, worker.cells) == ("training b on d", 5, 10, 3)
    assert str(os.getpid()) in worker.who
    # two of three are of this run: 20 passes are done, 80 to go
    assert found.left == pytest.approx(4 * found.seconds, rel=0.3)
    assert any(
        "2 of 8 done (1 before), 1 failed, 1 running, 4 waiting" in s for s in sentences(found)
    )


def test_other_runs_before_the_last_are_shown_and_not_those_that_were_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def began(pid: int, *units: LedgerUnit) -> Writer:
        owner = Owner("host", "elsewhere", pid, 1)
        monkeypatch.setattr("robustbench_med.store.ledger.me", lambda: owner)
        return Writer(tmp_path, units)

    first = began(1, unit("a", range(1, 4)))
    first.note(1, record="1" * 64), first.note(2, failure="f" * 64)
    began(2, unit("b", range(1, 3)))
    began(3, unit("b", range(1, 3)), unit("c", range(3, 5)))
    found = status(tmp_path)
    assert (found.cells, found.owner) == (4, "process 3 on host")
    (earlier,) = found.earlier
    assert (earlier.owner, earlier.cells, earlier.done, earlier.failed) == (
        "process 1 on host", 3, 1, 1,
    )  # fmt: skip
    assert "1 of 3 cells done, 1 failed, 1 not begun" in sentences(found)[-1]


def test_a_line_that_is_being_written_does_not_count_yet(tmp_path: Path) -> None:
    ledger = Writer(tmp_path, [unit("a", range(1, 3))])
    ledger.note(1, record="0" * 64)
    with ledger.path.open("a") as file:
        file.write('{"number": 2, "rec')
    assert status(tmp_path).done == 1


def test_after_a_run_everything_is_done(drawn_root, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home"))
    out = tmp_path / "out"
    medrobust("run", "--model", "early", "--model-param", "width=4", "--size", 32, "--limit", 4,
              "--recipe", "steps=2", "--recipe", "batch_size=8", "--data", drawn_root / "heads.yaml",
              "--data-root", drawn_root, "--attack", "fgsm", "--no-challenge", "--out", out)  # fmt: skip
    found = json.loads(medrobust("status", "--out", out, "--json").stdout)
    assert (found["cells"], found["done"], found["before"]) == (2, 2, 0)
    assert (found["trainings"], found["trained"], found["workers"]) == (1, 1, [])
    assert not found["running"]
    shown = medrobust("status", "--out", out, "--watch").stdout
    assert "cells: 2 of 2 done (0 before), 0 failed, 0 running, 0 waiting" in shown


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    assert "no run began" in refused(medrobust("status", "--out", tmp_path, check=2))
