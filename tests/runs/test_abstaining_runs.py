"""A victim that may abstain in a run: record, tables, gate; and one that cannot, which stays as it was."""

import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.own_victims import PLAIN, written

from robustbench_med.reports.columns import COLUMNS
from robustbench_med.store.store import Store

REJECTS = """
    def reject(self, *m):
        return torch.stack([0.4 - z.softmax(1).amax(1) for z in self(*m)], 1)
"""


def test_a_run_counts_wrong_and_answered_and_a_gate_bounds_coverage(tmp_path) -> None:
    model, out = written(tmp_path, PLAIN), tmp_path / "out"
    path = tmp_path / "model.py"
    text = path.read_text()
    path.write_text(text.replace("\ndef build", REJECTS + "\ndef build"))
    small = ("--size", 16, "--recipe", "steps=20", "--limit", 8, "--no-challenge", "--out", out)
    asked = ("--model", model, "--attack", "pgd", "--attack-param", "steps=4", "--eps", "8/255")
    medrobust("run", *asked, *small)
    records = [record for record in Store(out).records() if not record.control]
    (record,) = records
    assert record.spec.victim.abstains == 3
    for task in record.figures.tasks:
        assert task.abstention is not None
        assert 0 <= task.abstention.robust_coverage <= 1
    found = pd.read_csv(out / "abstention.csv")
    assert list(found.columns) == list(COLUMNS["abstention"])
    assert set(found.attack) == {"pgd", "noise"}
    board = pd.read_csv(out / "leaderboard.csv", keep_default_na=False)
    mine = board[board.victim.str.len() > 0] if "victim" in board else board
    assert mine.marks.str.contains("abstains \\(answers").any()
    assert mine.unranked.str.contains("abstains").any()
    bounds = ("--min", "coverage=0", "--min", "robust-coverage=0", "--max", "robust-answered=2")
    told = medrobust("gate", *asked, *small, *bounds, "--min-samples", 4, "--trust", "failed")
    assert "robust_coverage@" in (out / "gate.xml").read_text(), told.stderr
    unknown = medrobust("gate", *asked, *small, "--min", "coverage@lesions=0.1", check=2)
    assert "no task 'lesions'" in refused(unknown)
    planned = medrobust("plan", *asked, *small).stdout
    assert "2 done, 0 to do" in planned, planned
    path.write_text(text)  # another victim, which always answers
    medrobust("run", *asked, *small)
    plain = [r for r in Store(out).records() if r.spec.victim.abstains is None]
    assert len(plain) == 2
    assert all(task.abstention is None for r in plain for task in r.figures.tasks)
    assert "abstains" not in plain[0].spec.victim.plain()
    never = medrobust("gate", *asked, *small, "--min", "coverage=0", check=2)
    assert "no victim of this run may abstain" in refused(never)


@pytest.mark.fresh
def test_what_cannot_aim_at_an_answer_is_refused_before_a_training(tmp_path) -> None:
    model, path = written(tmp_path, PLAIN), tmp_path / "model.py"
    path.write_text(path.read_text().replace("\ndef build", REJECTS + "\ndef build"))
    asked = ("--model", model, "--attack", "pgd", "--size", 16, "--limit", 8)
    refusals = {
        "--target aims at a class": ("--target", "random"),
        "the engine torchattacks knows nothing of rejection": ("--engine", "torchattacks"),
        "cannot stand behind an input transform": ("--defense", "jpeg"),
    }
    for said, options in refusals.items():
        for command in ("run", "plan"):
            out = ("--out", tmp_path / "out")
            told = medrobust(command, *asked, *options, *out, check=2)
            assert said in refused(told)
            assert "training" not in told.stderr
    assert not list((tmp_path / "out").glob("records/*"))
