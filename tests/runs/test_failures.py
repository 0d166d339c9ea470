"""Cells that fail: kept, named at the end, tried again; the run goes on."""

import json
import shutil
from pathlib import Path

import pytest
from support.cli import medrobust, refused
from support.failing import TINY, breakable, grid
from support.stores import cells_csv

from robustbench_med import evaluate
from robustbench_med.errors import IncompleteError, LeftOutWarning, UserError
from robustbench_med.runs import victims
from robustbench_med.store.failure import Failures
from robustbench_med.store.store import Store


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, a home, and a run of it."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(folder / "home"))
        patch.setenv("BROKEN", "1")
        done = medrobust(*grid(f"{breakable(folder)},late", folder / "out"), check=1)
    assert "Traceback" not in done.stderr
    (folder / "out" / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture
def model(once: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that cannot be attacked."""
    monkeypatch.setenv("MEDROBUST_HOME", str(once / "home"))
    monkeypatch.setenv("BROKEN", "1")
    return f"{once / 'breakable.py'}:build"


@pytest.fixture
def ran(once: Path, model: str, tmp_path: Path) -> Path:
    """Two cells of it that failed, two noise controls and four cells of another model."""
    return Path(shutil.copytree(once / "out", tmp_path / "out"))


def test_a_run_goes_on_keeps_what_failed_and_names_it_last(ran, once) -> None:
    assert len(cells_csv(ran)) == 6
    failures = Failures(ran).all()
    assert {(each.cell.attack, each.cell.eps, each.where) for each in failures} == {
        ("fgsm", "1/255", "cell"),
        ("fgsm", "4/255", "cell"),
    }
    for failure in failures:
        assert "RuntimeError: no gradient today" in failure.error
        assert "line" in failure.error
        assert "RuntimeError: no gradient today" in failure.traceback
        assert failure.mendable
        assert Failures(ran).path(failure.hash).stem == failure.hash[:16]
        assert failure.spec["victim"]["training"]
        assert "weights_sha256" not in failure.spec["victim"]
    last = (ran / "stderr").read_text().splitlines()[-4:]
    assert last[0] == (
        f"medrobust: warning: 2 of 8 cells failed; {once / 'out' / 'failures'} holds each"
        " traceback:"
    )
    assert "breakable.py:build fgsm 1/255 Linf on phantoms: " in last[1]
    assert failures[0].short in last[1] + last[2]
    assert f"`medrobust rerun --failed --out {once / 'out'}`" in last[3]


def test_a_cell_of_any_norm_may_fail(model, tmp_path) -> None:
    out = tmp_path / "o"
    attacked = ["--attack", "pgd", "--norm", "L1,L0", "--eps", "L1:2", "--eps", "L0:3"]
    medrobust("run", "--model", model, *attacked, *TINY, "--out", out, check=1)
    assert {each.cell.norm for each in Failures(out).all()} == {"L1", "L0"}


def test_what_failed_is_tried_again_and_goes_once_its_record_is_there(
    ran, model, monkeypatch
) -> None:
    before = sorted(path.name for path in Failures(ran).folder.iterdir())
    again = medrobust("rerun", "--failed", "--out", ran, check=1)
    assert "0 of 2 cells that failed made again" in again.stderr
    assert again.stderr.count("failed again: ") == 2
    assert sorted(path.name for path in Failures(ran).folder.iterdir()) == before
    monkeypatch.delenv("BROKEN")
    one = Failures(ran).all()[0]
    medrobust("rerun", "--hash", one.short, "--out", ran)
    assert len(Store(ran).records()) == 7
    assert one.hash not in {each.hash for each in Failures(ran).all()}
    assert (
        "1 of 1 cells that failed made again" in medrobust("rerun", "--failed", "--out", ran).stderr
    )
    assert Failures(ran).all() == []
    assert len(cells_csv(ran)) == 8
    assert medrobust(*grid(f"{model},late", ran)).stderr.count("done before") == 8


def test_the_same_run_tries_again_what_failed_unless_it_is_told_not_to(
    ran, model, monkeypatch
) -> None:
    monkeypatch.delenv("BROKEN")
    skipped = medrobust(*grid(f"{model},late", ran, "--skip-failed"), check=1)
    assert skipped.stderr.count("failed before, left out") == 2
    assert "2 of 8 cells failed" in skipped.stderr
    done = medrobust(*grid(f"{model},late", ran))
    assert done.stderr.count("done before") == 6
    assert Failures(ran).all() == []


def test_fail_fast_ends_with_the_first(model, tmp_path) -> None:
    done = medrobust(*grid(f"{model},late", tmp_path / "o", "--fail-fast"), check=2)
    assert "no gradient today" in refused(done)
    assert len(Store(tmp_path / "o").paths()) == 1  # the noise control before it
    assert Failures(tmp_path / "o").all() == []


def test_a_victim_that_cannot_be_trained_is_tried_once_for_all_its_cells(
    tmp_path, monkeypatch
) -> None:
    tried = []

    def fails(spec, *arguments, **options):
        tried.append(spec.model)
        raise ValueError("ours")

    monkeypatch.setattr(victims.loop, "obtain", fails)
    arguments = grid("late", tmp_path / "o", "--train-seed", "0,1")
    medrobust(*arguments, check=1)
    assert tried == ["late", "late"]
    failures = Failures(tmp_path / "o").all()
    assert len(failures) == 8
    assert {(each.where, each.error, each.mendable) for each in failures} == {
        ("victim", "ValueError: ours", False)
    }
    assert all(each.traceback.count("in fails") == 1 for each in failures)


def test_nothing_left_is_an_error_of_its_own(model, tmp_path, monkeypatch) -> None:
    options = {
        "size": 16,
        "limit": 4,
        "recipe": {"steps": 2},
        "control": False,
        "quiet": True,
        "out": tmp_path / "o",
    }
    with pytest.raises(UserError, match="no gradient today") as caught:
        evaluate(model, "fgsm", **options)
    assert not isinstance(caught.value, IncompleteError)
    monkeypatch.setattr("robustbench_med.runs.working.evaluate_cell", lambda *_: {}["ours"])
    with pytest.raises(IncompleteError, match="1 of 1 cells failed"):
        evaluate("late", "fgsm", **options, model_params={"width": 4})


def test_python_is_warned_of_what_failed_and_gets_the_rest(model, tmp_path) -> None:
    with pytest.warns(LeftOutWarning, match="1 of 2 cells failed"):
        results = evaluate(
            model, "fgsm", eps="1/255", size=16, limit=4, recipe={"steps": 2}, quiet=True,
            out=tmp_path / "o",
        )  # fmt: skip
    assert [record.spec.attack.name for record in results.records] == ["noise"]


def test_a_comparison_leaves_a_pair_out_whose_cell_failed(model, tmp_path) -> None:
    out, more = tmp_path / "o", ["--defense", "bit-depth", "--attack", "fgsm", "--eps", "4/255"]
    done = medrobust(
        "compare",
        "--model",
        f"{model},late",
        *TINY,
        *more,
        "--model-param",
        "late.width=4",
        "--out",
        out,
        check=1,
    )
    assert "left out of the comparison: none on breakable.py:build" in done.stderr
    noted = json.loads((out / "compare.json").read_text())
    assert {(entry["model"], entry["defense"]) for entry in noted["entries"]} == {
        ("late", "none"),
        ("late", "bit-depth"),
    }


def test_a_record_is_made_again_by_its_hash(ran) -> None:
    record = Store(ran).records()[0]
    before = Store(ran).path(record.hash).stat().st_mtime_ns
    medrobust("rerun", "--hash", record.short, "--out", ran)
    assert Store(ran).path(record.hash).stat().st_mtime_ns > before
    assert Store(ran).find(record.hash).figures == record.figures
    line = refused(medrobust("rerun", "--hash", "ffff0000", "--out", ran, check=2))
    assert "no record or failure" in line


def test_a_damaged_failure_is_named_and_failures_are_merged(ran, tmp_path) -> None:
    medrobust("merge", ran, "--out", tmp_path / "all")
    assert Failures(tmp_path / "all").all() == Failures(ran).all()
    (Failures(ran).folder / "0123456789abcdef.json").write_text("{}")
    with pytest.warns(LeftOutWarning, match=r"0123456789abcdef.json cannot be read as a failure"):
        assert len(Failures(ran).all()) == 2
