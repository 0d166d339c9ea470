"""`medrobust plan` and `run --dry-run`: what a run would do, found without doing any of it."""

import json
from pathlib import Path

import pytest
from support.cli import medrobust

from robustbench_med.runs.past import Past


@pytest.fixture
def tiny(drawn_root, tmp_path, monkeypatch) -> list[object]:
    """A tiny grid of two attacks on one victim, with a home of its own."""
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home"))
    victim = ["--model", "early", "--model-param", "width=4", "--size", 32, "--limit", 4]
    recipe = [
        "--recipe",
        "steps=2",
        "--recipe",
        "batch_size=8",
        "--data",
        drawn_root / "heads.yaml",
    ]
    attack = ["--attack", "fgsm,pgd", "--attack-param", "pgd.steps=2", "--no-challenge"]
    return [*victim, *recipe, "--data-root", drawn_root, *attack, "--out", tmp_path / "out"]


def planned(*arguments: object) -> dict:
    return json.loads(medrobust(*arguments, "--json").stdout)


def test_a_plan_does_nothing_and_knows_what_is_done(tiny, tmp_path: Path) -> None:
    before = planned("plan", *tiny)
    assert (before["cells_done"], before["cells_to_do"]) == (0, 3)
    assert len(before["trainings"]) == 1
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    assert not (tmp_path / "out").exists()
    assert before["cells_by_passes"] == 3
    assert before["seconds"] > 0
    medrobust("run", *tiny)
    after = planned("run", *tiny, "--dry-run")
    assert (after["cells_done"], after["cells_to_do"], after["trainings"]) == (3, 0, [])
    assert {cell["state"] for cell in after["cells"]} == {"done"}
    assert after["seconds"] == 0
    shown = medrobust("plan", *tiny).stdout
    assert "3 done, 0 to do, 0 failed before; trainings to do: 0" in shown

    more = planned("plan", *tiny, "--seed", "0,1", "--jobs", "4")
    assert (more["cells_done"], more["cells_to_do"]) == (3, 3)
    assert (more["cells_by_records"], more["jobs"]) == (3, 1)  # of one victim, one worker
    medrobust("run", *tiny, "--seed", "1", "--no-control")
    spent = [json.loads(p.read_text())["cost"] for p in (tmp_path / "out/records").glob("*.json")]
    bases = {cost.get("estimate_basis") for cost in spent}
    assert bases == {"passes", "record"}
    assert all(cost["estimated_seconds"] > 0 for cost in spent)


def test_the_baseline_of_corruptions_is_in_the_plan(tiny) -> None:
    corrupted = ["--attack", "jpeg", "--attack-param", "jpeg.severity=3"]
    own = [each for each in tiny if not str(each).startswith("pgd.steps")]
    at = own.index("--attack")
    own[at : at + 3] = corrupted
    found = planned("plan", *own)
    assert [cell["model"] for cell in found["cells"]] == ["early", "late"]
    assert (found["cells_to_do"], len(found["trainings"]), found["jobs"]) == (2, 2, 1)
    parted = planned("plan", *own, "--jobs", 2)
    assert parted["seconds_with_jobs"] == parted["seconds"]  # the baseline waits for the grid
    assert "late (baseline)" in medrobust("plan", *own).stdout
    assert len(planned("plan", *own, "--baseline", "none")["cells"]) == 1


def test_passes_are_an_upper_bound_of_what_a_run_takes(tiny, tmp_path: Path) -> None:
    bounds = {
        cell["attack"]: cell["forward_passes"] + cell["backward_passes"]
        for cell in planned("plan", *tiny)["cells"]
    }
    medrobust("run", *tiny)
    for path in (tmp_path / "out/records").glob("*.json"):
        record = json.loads(path.read_text())
        spent = record["cost"]["attack_forward"] + record["cost"]["attack_backward"]
        assert spent <= bounds[record["spec"]["attack"]["name"]]


def test_workers_share_victims(tiny) -> None:
    one = planned("plan", *tiny, "--train-seed", "0,1,2,3")
    four = planned("plan", *tiny, "--train-seed", "0,1,2,3", "--jobs", "4")
    assert one["seconds_with_jobs"] == pytest.approx(one["seconds"])
    assert four["seconds_with_jobs"] == pytest.approx(four["seconds"] / 4, rel=0.2)
    assert len(four["trainings"]) == 4


def spec(radius: float, data: str = "a", n: int = 10) -> dict:
    return {
        "victim": {"model": "m", "params": {}},
        "data": {"name": data, "size": 32, "channels": [1], "n": n},
        "threat": {"norm": "Linf", "radii": [radius], "tasks": [0]},
        "attack": {"name": "pgd", "params": {"steps": 3}},
        "protocol": {"name": "sound", "draws": 16},
    }


def test_the_past_tells_of_the_same_data_first_and_of_near_radii_alone(tmp_path: Path) -> None:
    past = Past(tmp_path)
    for radius, data, seconds in ((0.1, "a", 5.0), (0.1, "b", 7.0), (0.4, "a", 1.0)):
        cost = {"seconds": seconds - 0.5, "challenge_seconds": 0.5}
        past.add({"spec": spec(radius, data), "cost": cost, "environment": {"device": "cpu"}})
    assert past.like(spec(0.1, n=20), "cpu") == pytest.approx(10.0)
    assert past.like(spec(0.12, "b"), "cpu") == pytest.approx(7.0)
    assert past.like(spec(0.35, "c"), "cpu") == pytest.approx(1.0)
    assert past.like(spec(0.2), "cpu") is None
    assert past.like(spec(0.1), "a GPU") is None
    assert (
        past.like({**spec(0.1), "attack": {"name": "pgd", "params": {"steps": 4}}}, "cpu") is None
    )
