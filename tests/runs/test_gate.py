"""The gate: exit codes, what is asked of intervals, and what pipelines read."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from support.cli import medrobust, refused
from support.records import fill, record

from robustbench_med import UserError, gate, make_data
from robustbench_med.reports import clinical, floors, gate_files, write
from robustbench_med.reports.gate import Bound, Row, Terms, Verdict, judge
from robustbench_med.runs import run as running
from robustbench_med.runs.gate import bounds_of
from robustbench_med.store.store import Store


def answered(folder: Path, bound: str, *, least: bool = True, **terms: Any) -> Verdict:
    """The answer to one bound on the records of a folder."""
    store = Store(folder)
    shown = write.leaderboard(folder)
    name, _, value = bound.rpartition("=")
    asked = [Bound.read(name, float(value), least=least)]
    tables = shown.board, shown.corruptions
    return judge(asked, Terms(**terms), store, floors.read_all(store), tables)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A record whose robust accuracy is 0.5 of 50 samples, 40 of them distinct."""
    fill(Store(tmp_path), record(robust=0.5, clean=0.9), images=True)
    return tmp_path


def test_a_minimum_is_asked_of_the_low_end_and_a_maximum_of_the_high_one(folder) -> None:
    (row,) = answered(folder, "robust=0.45").rows
    assert (row.answer, row.value, row.asked) == ("fails", 0.5, row.low)
    assert "its interval reaches beyond" in row.why
    (row,) = answered(folder, "robust=0.45", on="point", trust="failed").rows
    assert (row.answer, row.asked) == ("holds", 0.5)
    (row,) = answered(folder, "ece@lesion=0.99", least=False).rows
    assert row.low <= row.value <= row.high == row.asked
    calibration = clinical.frames(Store(folder), Store(folder).records())["calibration"]
    told = calibration[(calibration.condition == "clean") & (calibration.task == "lesion")]
    assert row.value == told.ece.iloc[0]


def test_the_four_codes(folder) -> None:
    trusted = {"trust": "failed"}
    assert answered(folder, "robust=0.2", **trusted).code == 0
    assert answered(folder, "robust=0.6", **trusted).code == 1
    assert answered(folder, "robust=0.2", trust="challenged").code == 3
    assert answered(folder, "robust=0.6", trust="challenged").code == 1  # whatever the trust
    assert answered(folder, "robust=0.2", min_samples=51, **trusted).code == 3
    assert answered(folder, "clean=0.2", trust="challenged").code == 0  # trust is of attacks
    assert answered(folder, "sensitivity@a=0.1").code == 3  # there is no validation pass
    with pytest.raises(UserError, match="no class or task 'malignnt'"):
        answered(folder, "sensitivity@malignnt=0.1")
    store, shown = Store(folder), write.leaderboard(folder)
    bound, records = [Bound.read("clean", 0.1, least=True)], floors.read_all(store)
    failed = judge(bound, Terms(), store, records, (shown.board, shown.corruptions), ["a cell"])
    assert (failed.code, bool(failed)) == (3, False)


@pytest.mark.parametrize(
    ("least", "most", "said"),
    [
        ([], [], "needs a bound"),
        (["robst=0.5"], [], "did you mean robust"),
        (["robust"], [], "NAME=NUMBER"),
        (["robust=high"], [], "NAME=NUMBER"),
        (["robust=nan"], [], "expected a number"),
        ({"robust": "0.5"}, {}, "expected a number"),
        (["robust@malignant=0.5"], [], "is of all tasks"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(least, most, said) -> None:
    with pytest.raises(UserError, match=said):
        bounds_of(least, most)


def test_files_for_pipelines_say_what_fails_whatever_names_hold(tmp_path) -> None:
    made = record("<mail> & \x1b[31m", robust=0.1)
    number = (0.1, 0.0, 0.2, 0.0)
    row = Row(
        made.spec.victim.model, "d", "Linf", "robust >= 0.5", *number, "fails", "", made.short
    )
    verdict = Verdict((row,), 1)
    paths = gate_files.write(verdict, tmp_path, None, tmp_path / "deep" / "g.sarif")
    suite = ElementTree.parse(paths[0]).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    assert "<mail> &" in str(suite.find(".//testcase").get("classname"))
    run = json.loads(paths[1].read_text())["runs"][0]
    (found,) = run["results"]
    assert (found["ruleId"], found["level"]) == ("robust", "error")
    assert found["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}


def test_a_gate_runs_what_is_missing_and_ends_with_its_code(tmp_path, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    images = (0.3 + 0.4 * labels)[:, None, None, None] + rng.uniform(-0.1, 0.1, (40, 1, 8, 8))
    images = images.astype(np.float32)
    data = make_data((images[20:], labels[20:]), val=(images[:20], labels[:20]), name="bars")
    network = torch.nn.Linear(64, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 64))
        network.bias.copy_(torch.tensor([32.0, -32.0]))
    model = torch.nn.Sequential(torch.nn.Flatten(), network).eval()
    how = {"data": data, "eps": "4/255", "out": tmp_path, "quiet": True, "version": "1"}
    how |= {"challenge": False, "trust": "failed"}
    asked = {"robust": 0.7, "sensitivity@1": 0.7, "robust_auroc@1": 0.9}
    verdict = gate(model, "fgsm", min=asked, max={"brier": 0.1}, **how)
    assert verdict.passed, verdict
    assert (tmp_path / "gate.xml").exists()
    assert set(verdict.table.answer) == {"holds"}
    assert not gate(model, "fgsm", min={"robust": 1.0}, **how)
    monkeypatch.setattr(running, "run", lambda spec, job: [])
    assert gate(model, "fgsm", min={"robust": 0.1}, **how).code == 3


def test_the_command_line_reads_bounds_from_a_file_and_ends_with_the_code(
    tmp_path, monkeypatch
) -> None:
    made = record("late", robust=0.5)
    fill(Store(tmp_path), made, images=True)
    monkeypatch.setattr(running, "run", lambda spec, job: [made])
    config = tmp_path / "gate.yaml"
    asked = {"model": "late", "out": str(tmp_path), "min": {"robust": 0.2}, "trust": "failed"}
    config.write_text(yaml.safe_dump(asked))
    assert "all bounds hold" in medrobust("gate", "--config", config).stdout
    shown = medrobust("gate", "--config", config, "--min", "robust=0.9", check=1).stdout
    assert "a bound fails (exit code 1)" in shown
    told = medrobust("gate", "--config", config, "--trust", "challenged", "--json", check=3)
    assert json.loads(told.stdout)["rows"][0]["answer"] == "no answer"
    for words, said in (
        (("--on", "points"), "point"),
        (("--trust", "certain"), "challenged"),
        (("--min-samples", "0"), "from 1"),
        (("--max", "mce=1"), "--attack corruptions"),
        (("--min", "robust=0.2", "--attack", "jpeg"), "no attack is run"),
    ):
        assert said in refused(medrobust("gate", "--config", config, *words, check=2)), words
    assert pd.notna(made.figures.robust)
