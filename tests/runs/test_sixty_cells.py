"""A grid of sixty cells of six models, one of them broken, with a worker that is killed in the
middle: what is good stays, what failed is told, and a rerun computes exactly what is missing.
"""

from pathlib import Path

import pytest
from support.cli import medrobust
from support.failing import TINY
from support.own_victims import written

from robustbench_med.store.claim import claims
from robustbench_med.store.failure import Failures
from robustbench_med.store.store import Store

EVALUATED = "any(frame.name == 'evaluate_cell' for frame in traceback.extract_stack())"
BROKEN = f"""
import os, traceback
if os.path.exists(os.environ["BROKEN"]) and {EVALUATED}:
    raise RuntimeError("out of order")
return self.logits(*m)
"""
KILLING = f"""
import os, traceback
if os.path.exists(os.environ["KILLING"]) and {EVALUATED}:
    os.unlink(os.environ["KILLING"])
    os.kill(os.getpid(), 9)
return self.logits(*m)
"""
SOUND = "return self.logits(*m)"


@pytest.mark.slow
def test_fifty_good_cells_stay_and_a_rerun_computes_the_ten_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flag in ("BROKEN", "KILLING"):
        (tmp_path / flag).touch()
        monkeypatch.setenv(flag, str(tmp_path / flag))
    bodies = [SOUND, KILLING, SOUND, BROKEN, SOUND, SOUND]
    models = [written(tmp_path, body, name=f"m{i}.py") for i, body in enumerate(bodies)]
    out = tmp_path / "o"
    grid = ["run", "--model", ",".join(models), "--attack", "fgsm", *TINY, "--no-challenge",
            "--eps", "1/255,2/255,4/255,8/255,16/255", "--out", out, "--jobs", 2]  # fmt: skip

    first = medrobust(*grid, check=1)
    assert not (tmp_path / "KILLING").exists()
    assert "another one goes on" in first.stderr
    records, failures = Store(out).records(), Failures(out).all()
    assert len(records) == 50
    assert len(failures) == 10
    assert {each.cell.model for each in failures} == {models[3]}
    assert all("out of order" in each.error for each in failures)
    assert claims(out) == []
    assert (out / "leaderboard.csv").exists()

    (tmp_path / "BROKEN").unlink()
    kept = {path: path.read_bytes() for path in Store(out).paths()}
    medrobust("rerun", "--failed", "--out", out)
    assert Failures(out).all() == []
    assert len(Store(out).records()) == 60
    assert all(path.read_bytes() == text for path, text in kept.items())
    assert medrobust(*grid).stderr.count("done before") == 60
