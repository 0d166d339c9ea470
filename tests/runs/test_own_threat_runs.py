"""Patches and universal perturbations in runs: records, sections of their own, refusals."""

import pandas as pd
import pytest
import torch
from support.cli import medrobust, refused
from support.own_victims import written

from robustbench_med import attack, evaluate, register_attack
from robustbench_med.errors import UserError
from robustbench_med.reports import floors
from robustbench_med.reports.columns import COLUMNS
from robustbench_med.store.store import Store


def test_a_run_has_them_in_a_section_of_their_own(tmp_path) -> None:
    model, out = written(tmp_path), tmp_path / "out"
    small = ("--size", 16, "--recipe", "steps=20", "--limit", 6, "--no-challenge", "--out", out)
    attacks = ("--attack", "patch,universal,fgsm", "--attack-param", "patch.size=0.1")
    short = ("--attack-param", "patch.steps=4", "--attack-param", "universal.steps=4")
    told = medrobust("run", "--model", model, *attacks, *short, "--eps", "4/255", *small)
    assert "patch 0.1 optimised of mri+xray" in told.stderr
    assert "threats of their own" in told.stdout
    found = pd.read_csv(out / "own_threats.csv", keep_default_na=False)
    assert list(found.columns) == list(COLUMNS["own_threats"])
    assert set(found.threat) == {"patch 0.1 optimised", "universal"}
    assert set(found.eps) == {"", "4/255"}
    assert set(found.trust) <= {"unchallenged", "doubtful", "failed", "challenged"}
    assert set(pd.read_csv(out / "cells.csv").attack.dropna()) == {"noise", "fgsm"}
    board = pd.read_csv(out / "leaderboard.csv")
    assert board.each_attack.dropna().str.startswith("fgsm").all()
    records = {record.spec.attack.name: record for record in floors.read_all(Store(out))}
    fgsm, shared = records["fgsm"], records["universal"]
    assert fgsm.trust.worst_case == pytest.approx(fgsm.figures.robust)  # whatever the others broke
    assert shared.attack_ran is not None
    assert shared.attack_ran.parts == [3, 3]
    assert shared.spec.attack.revision is not None
    assert {"universal", "parted"} <= set(shared.spec.attack.revision)
    for record in (records["patch"], shared):
        assert not record.challenges
        assert record.trust.word != "challenged" or record.figures.robust == 0
    again = medrobust("run", "--model", model, *attacks, *short, "--eps", "4/255", *small)
    assert again.stderr.count("done before") == 4
    medrobust("report", "--out", out, "--no-figures")
    assert "Threats of their own" in (out / "leaderboard.html").read_text()
    conditions = pd.read_csv(out / "clinical.csv", keep_default_na=False).condition
    assert {"patch 0.1 optimised", "universal"} <= set(conditions)
    medrobust("card", "--robustness", "--out", out)
    (card,) = out.glob("cards/*/robustness-card.html")
    text = card.read_text()
    adversaries, apart = text.index("Threats tried: adversaries"), text.index("patch 0.1 optimised")
    assert adversaries < text.index("Threats tried: patches, universal") < apart
    assert "universal" not in text[adversaries : text.index("Threats tried: patches")]


def test_from_python_and_on_tensors(tmp_path) -> None:
    images, labels = torch.rand(8, 1, 16, 16), torch.tensor([0, 1] * 4)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2)).eval()
    labels = model(images).argmax(1)
    given = {"attack_params": {"steps": 3}, "quiet": True, "out": tmp_path, "version": "1"}
    found = evaluate(model, "universal", data=(images, labels), eps=0.05, control=False, **given)
    assert found.table.empty
    assert list(found.own_threats.threat) == ["universal"]
    medrobust("report", "--out", tmp_path, "--no-figures")
    assert "Threats of their own" in (tmp_path / "leaderboard.html").read_text()
    how = {"attack_params": {"size": 0.25}, "stochastic": False}
    moved = attack(model, images, labels, "patch", **how)
    assert ((moved != images).flatten(1).sum(1) <= 64).all()
    assert (moved - images).abs().max() > 0.1


def test_what_makes_no_sense_is_refused(tmp_path) -> None:
    for arguments, said in (
        (("run", "--attack", "patch", "--attack-param", "size=0"), "size must be positive"),
        (("run", "--attack", "patch", "--attack-param", "size=1.5"), "size must lie in [0, 1]"),
        (("run", "--attack", "universal", "--norm", "L0", "--eps", "3"), "it does: Linf, L2"),
        (("run", "--attack", "universal", "--target", "random"), "cannot aim at a class"),
        (("compare", "--attack", "patch"), "attacks within a ball"),
        (("gate", "--attack", "patch", "--min", "robust=0.1"), "no attack is run"),
    ):
        given = (arguments[0], "--model", "late", *arguments[1:], "--out", tmp_path / "out")
        assert said in refused(medrobust(*given, check=2)), arguments
    assert not (tmp_path / "out" / "records").exists()
    with pytest.raises(UserError, match="there is an attack 'universal'"):
        register_attack("universal", lambda view, x, y, threat, streams: x)
