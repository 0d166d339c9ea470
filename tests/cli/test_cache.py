"""`medrobust cache`: what no record needs goes first, what somebody works on stays."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from support.cli import medrobust, refused

from robustbench_med.models.answers import Answers, path_of
from robustbench_med.models.black_box import kept_under
from robustbench_med.owners.lock import Lock
from robustbench_med.runs.cached import size_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """Three weights of 100 bytes, the oldest first, decoded images of 50, and a store whose only
    record is of the oldest weights.
    """
    home = tmp_path / "home"
    monkeypatch.setenv("MEDROBUST_HOME", str(home))
    (home / "checkpoints").mkdir(parents=True)
    for age, name in enumerate(("old", "middle", "new")):
        path = home / "checkpoints" / f"{name}.safetensors"
        path.write_bytes(b"x" * 80)
        sidecar = json.dumps({"weights_sha256": name * 4})
        path.with_suffix(".json").write_text(sidecar.ljust(20)[:40].ljust(40))
        for each in (path, path.with_suffix(".json")):
            os.utime(each, (1000.0 + age, 1000.0 + age))
    (home / "cache" / "d-32px" / "abc").mkdir(parents=True)
    (home / "cache" / "d-32px" / "abc" / "0.npy").write_bytes(b"x" * 50)
    os.utime(home / "cache" / "d-32px" / "abc" / "0.npy", (5000.0, 5000.0))
    (home / "data").mkdir()
    (home / "data" / "downloaded.npz").write_bytes(b"x" * 500)
    (tmp_path / "out" / "records").mkdir(parents=True)
    record = {"spec": {"victim": {"weights_sha256": "old" * 4}, "attack": {"sources": []}}}
    (tmp_path / "out" / "records" / "0123456789abcdef.json").write_text(json.dumps(record))
    return home


def names(*arguments: object) -> list[str]:
    listed = json.loads(medrobust("cache", *arguments, "--json").stdout)
    return [Path(entry["name"]).stem for entry in listed]


def left(home: Path) -> set[str]:
    return {path.stem for path in home.rglob("*") if path.suffix in (".safetensors", ".npy")}


def test_what_goes_first_is_on_top(home: Path, tmp_path: Path) -> None:
    assert names("list") == ["old", "middle", "new", "abc"]
    assert names("list", "--store", tmp_path / "out") == ["middle", "new", "abc", "old"]
    assert "checkpoints/old.safetensors" in medrobust("cache", "list").stdout


def test_as_much_goes_as_must_and_what_is_needed_last(home: Path, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "out"]
    assert names("prune", "--max-size", "300", *store, "--dry-run") == ["middle"]
    assert left(home) == {"old", "middle", "new", "0"}
    assert names("prune", "--max-size", "300", *store) == ["middle"]
    assert left(home) == {"old", "new", "0"}
    assert not (home / "checkpoints" / "middle.json").exists()
    assert names("prune", *store) == ["new", "abc"]
    assert left(home) == {"old"}
    assert names("prune", "--max-size", "0", *store) == ["old"]
    assert (home / "data" / "downloaded.npz").exists()


def test_what_somebody_works_on_stays(home: Path) -> None:
    partial = home / "checkpoints" / "late.partial.safetensors"
    partial.write_bytes(b"x" * 10)
    lock = Lock(home / "checkpoints" / "late.lock")
    assert lock.take()
    gone = names("prune", "--max-size", "0")
    lock.release()
    assert "late.partial" not in gone
    assert partial.exists()
    assert names("prune", "--max-size", "0") == ["late.partial"]


def test_answers_of_black_boxes_are_listed_and_go_as_weights_do(home: Path, tmp_path: Path) -> None:
    mine, other = (
        {"weights_sha256": name * 8, "source_sha256": ""} for name in ("needed", "unneeded")
    )
    for age, identity in enumerate((mine, other)):
        path = path_of(kept_under(identity))
        Answers(path).keep({b"key": np.ones(2, np.float32)})
        os.utime(path, (100.0 + age, 100.0 + age))
    box = {"weights_sha256": mine["weights_sha256"], "access": "scores"}
    record = json.dumps({"spec": {"victim": box, "attack": {}}})
    (tmp_path / "out" / "records" / "1123456789abcdef.json").write_text(record)
    stems = [path_of(kept_under(identity)).stem for identity in (mine, other)]
    assert names("list")[:2] == stems
    assert names("prune", "--store", tmp_path / "out", "--max-size", "100K") == []
    gone = names("prune", "--store", tmp_path / "out")
    assert stems[1] in gone
    assert stems[0] not in gone
    assert [path.stem for path in (home / "answers").iterdir()] == stems[:1]
    Answers(path_of(kept_under(other))).keep({b"key": np.ones(2, np.float32)})
    assert stems[1] not in names("prune", "--max-size", "0"), "somebody may be asking"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "--max-size 20G, or whose weights stay"),
        (["prune", "--max-size", "much"], "takes a size such as 20G"),
        (["list", "--store", "absent"], "absent holds no records"),
    ],
)
def test_what_makes_no_sense_is_one_line(home: Path, arguments, message: str) -> None:
    assert message in refused(medrobust("cache", *arguments, check=2))


def test_sizes() -> None:
    assert [size_of(text) for text in ("5", "2K", "1.5M", "20G", "1 GiB")] == [
        5, 2048, 3 * 2**19, 20 * 2**30, 2**30
    ]  # fmt: skip
