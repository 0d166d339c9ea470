"""Runs that meet what does not fit, and records of an older identity made again."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from support.cli import medrobust, refused
from support.shapes import SHAPE_1
from support.stores import cells_csv

from robustbench_med import naming
from robustbench_med.store.store import Record, Store

TINY = [
    "--model",
    "late",
    "--model-param",
    "width=4",
    "--recipe",
    "steps=2",
    "--size",
    16,
    "--limit",
    4,
    "--attack",
    "fgsm",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records, fgsm and its noise control."""
    out = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(out / "home"))
        medrobust("run", *TINY, "--out", out)
    return out


@pytest.fixture
def out(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDROBUST_HOME", str(ran / "home"))
    shutil.copytree(ran / "records", tmp_path / "out" / "records")
    return tmp_path / "out"


def test_a_run_computes_a_spoilt_cell_again_and_keeps_its_work_beside_a_spoilt_stranger(
    out,
) -> None:
    paths = Store(out).paths()
    before = [json.loads(path.read_text())["figures"] for path in paths]
    paths[0].write_text("{")
    paths[1].with_suffix(".npz").write_bytes(b"")
    stranger = out / "records" / "0123456789abcdef.json"
    stranger.write_text("[]")
    done = medrobust("run", *TINY, "--out", out, check=1)
    lines, said = done.stderr.splitlines(), " ".join(done.stderr.split())
    for path in paths:
        assert said.count(f"warning: {path}: it") == 1
    assert said.count("its cell is computed again") == 2
    assert "done before" not in said
    assert lines[-2:] == [
        (
            f"medrobust: warning: 1 of 3 files in {out / 'records'} left out (`medrobust verify"
            f" --out {out}` lists all):"
        ),
        f"  {stranger}: it is not a readable record (it is no JSON object)",
    ]
    assert [json.loads(path.read_text())["figures"] for path in paths] == before
    assert len(cells_csv(out)) == 2
    stranger.unlink()
    assert medrobust("run", *TINY, "--out", out).stderr.count("done before") == 2


def test_stale_records_are_made_again_by_their_own_commands(out, monkeypatch) -> None:
    old = [path.name for path in Store(out).paths()]
    medrobust("leaderboard", "--out", out)
    board = cells_csv(out)
    monkeypatch.setattr(naming, "SCHEMA", naming.SCHEMA + 1)
    assert (
        medrobust("leaderboard", "--out", out, check=1).stderr.count("`medrobust rerun --stale")
        == 2
    )
    done = medrobust("rerun", "--stale", "--out", out)
    assert "2 of 2 records of an older identity made again" in done.stderr
    assert "[1/2]" in done.stderr
    assert done.stdout.count("fgsm") == 1  # the tables, once
    assert not set(old) & {path.name for path in (out / "records").iterdir()}
    assert cells_csv(out).equals(board)
    assert medrobust("verify", "--out", out)
    assert "0 of 0 records" in medrobust("rerun", "--stale", "--out", out).stderr


def test_a_record_of_the_first_shape_is_made_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(naming, "SCHEMA", max(2, naming.SCHEMA))
    shutil.copytree(SHAPE_1, tmp_path / "records")
    (old,) = (json.loads(path.read_text()) for path in (tmp_path / "records").glob("*.json"))
    assert "1 of 1 records" in medrobust("rerun", "--stale", "--out", tmp_path).stderr
    (new,) = Store(tmp_path).records()
    assert new.hash != old["hash"]
    assert new.schema_ > 1
    assert new.spec.threat.plain() == old["spec"]["threat"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("rm -rf /", "it holds no `medrobust run` command"),
        ("medrobust train --model late", "it holds no `medrobust run` command"),
        ("medrobust run --model 'late", "its command cannot be read"),
        ("medrobust run --no-such-option", "No such option"),
        ("medrobust run --model lat", "did you mean late"),
        (shlex.join(map(str, ["medrobust", "run", *TINY])), "its command makes 2 records, not one"),
        (
            shlex.join(map(str, ["medrobust", "run", *TINY, "--limit", 3, "--no-control"])),
            "its command now makes data n 3, was 4",
        ),
    ],
)
def test_what_cannot_be_made_again_is_named_and_kept(command, reason, out, monkeypatch) -> None:
    path = next(
        path
        for path in Store(out).paths()
        if json.loads(path.read_text())["spec"]["attack"]["name"] == "fgsm"
    )
    record = json.loads(path.read_text())
    for other in Store(out).paths():
        if other != path:
            other.unlink()
    kept = Record.of({**record, "command": command})
    Store(out).write(kept, Store(out).arrays(kept))
    monkeypatch.setattr(naming, "SCHEMA", naming.SCHEMA + 1)
    done = medrobust("rerun", "--stale", "--out", out, check=1)
    assert reason in next(
        line
        for line in done.stderr.splitlines()
        if line.startswith(f"medrobust: warning: {path} was not made again")
    )
    assert "0 of 1 records of an older identity made again" in done.stderr
    assert path.exists()
    assert path.with_suffix(".npz").exists()


def test_a_command_that_is_no_text_is_named_and_kept(tmp_path) -> None:
    shutil.copytree(SHAPE_1, tmp_path / "records")
    (path,) = (tmp_path / "records").glob("*.json")
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"command": 7})
    )  # the first shape had no digests
    assert (
        "it holds no `medrobust run` command"
        in medrobust("rerun", "--stale", "--out", tmp_path, check=1).stderr
    )
    assert path.exists()


def test_rerun_wants_to_know_what_and_where(tmp_path) -> None:
    assert "say which records" in refused(medrobust("rerun", "--out", tmp_path, check=2))
    assert "holds no records" in refused(medrobust("rerun", "--stale", "--out", tmp_path, check=2))
