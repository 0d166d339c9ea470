"""`--json`: what a command shows, for programs; nothing else on standard output."""

import json
from pathlib import Path

from support.cli import medrobust
from support.records import record
from support.stores import fill

from robustbench_med.store.store import Store


def test_results_of_a_folder_as_json(tmp_path) -> None:
    fill(Store(tmp_path / "a"), record())
    board = json.loads(medrobust("leaderboard", "--out", tmp_path / "a", "--json").stdout)
    assert {"model", "worst", "trust"} <= board["rows"][0].keys()
    assert {"model", "robust", "trust"} <= board["cells"][0].keys()
    merged = json.loads(
        medrobust("merge", tmp_path / "a", "--out", tmp_path / "b", "--json").stdout
    )
    assert merged == {"copied": 1, "same": 0, "conflicts": []}
    claims = json.loads(medrobust("claims", "--out", tmp_path / "a", "--json").stdout)
    assert {"claim", "verdict", "reason", "evidence"} == claims[0].keys()
    renewed = json.loads(
        medrobust("rerun", "--stale", "--failed", "--out", tmp_path / "a", "--json").stdout
    )
    assert renewed == {"asked": 0, "made": 0, "failed": []}
    cards = json.loads(medrobust("card", "--out", tmp_path / "a", "--json").stdout)
    assert any(path.endswith("ROBUSTNESS.md") for path in cards)


def test_a_run_and_a_training_as_json(drawn_root, tmp_path) -> None:
    tiny = ["--model", "early", "--model-param", "width=4", "--size", 32, "--recipe", "steps=2"]
    tiny += ["--recipe", "batch_size=8", "--data", drawn_root / "heads.yaml"]
    tiny += ["--data-root", drawn_root, "--json"]
    (trained,) = json.loads(medrobust("train", *tiny, "--threads", 1).stdout)
    assert json.loads(Path(trained["path"]).with_suffix(".json").read_text())["threads"] == 1
    assert {"path", "training_hash", "validation", "command"} <= trained.keys()
    more = ["--attack", "fgsm", "--limit", 4, "--no-challenge", "--out", tmp_path]
    board = json.loads(medrobust("run", *tiny, *more).stdout)
    assert {row["attack"] for row in board["cells"]} >= {"fgsm", "noise"}
