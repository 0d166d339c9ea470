"""The leaderboard page of large stores, without a browser."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.records import fill, record

from robustbench_med.reports import page
from robustbench_med.store.store import Store


def test_the_same_store_gives_the_same_page(tmp_path) -> None:
    store = fill(Store(tmp_path), record("mail", 0.5), record("late", 0.5), images=True)
    assert page.render(store, store.records()) == page.render(store, store.records()[::-1])


def test_five_hundred_rows_with_examples_stay_below_eight_megabytes(tmp_path) -> None:
    made = [
        record(f"model-{i}", (i % 100) / 100, attack=a, eps=(1 + i % 8) / 255, trust="doubtful")
        for i in range(250)
        for a in ("pgd", "fgsm")
    ]
    store = fill(Store(tmp_path), *made, images=True)
    text = page.render(store, store.records())
    assert len(text.encode()) < 8e6
    assert text.count('<tr data-row="') == 500 + 250


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="the peak memory of a process is read from Linux's /proc",
)
def test_two_thousand_records_are_reported_in_a_gigabyte(tmp_path) -> None:
    """In a process of its own: the peak of this one is that of all tests before."""
    made = [
        record(f"model-{i}", (i % 100) / 100, attack=a, eps=e / 255, seed=s)
        for i in range(50)
        for a in ("pgd", "fgsm", "bim", "noise")
        for e in (1, 2, 4, 8, 16)
        for s in (0, 1)
    ]
    fill(Store(tmp_path), *made, images=True)
    code = (
        "import sys; from pathlib import Path; from robustbench_med.reports import write"
        "; write.everything(Path(sys.argv[1]));"
        " print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 1024**2  # KiB
    assert (tmp_path / "cells.csv").stat().st_size > 1e5
    assert json.loads(next((tmp_path / "records").glob("*.json")).read_text())
