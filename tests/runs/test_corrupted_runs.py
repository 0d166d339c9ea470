"""Corruptions in runs: cells, records, tables, the baseline; and the adversary of their own size."""

import shlex

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score
from support.cli import medrobust, refused
from support.evaluations import setting, two_head_samples
from support.own_victims import written
from support.victims import TwoHeads

from robustbench_med import attack, evaluate
from robustbench_med.attacks import KINDS, Threat, complete
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method
from robustbench_med.naming import CORRUPTION
from robustbench_med.reports.columns import COLUMNS
from robustbench_med.runs.corrupting import corrupted
from robustbench_med.runs.spec import RunSpec, cells
from robustbench_med.store.store import Store

MODALITIES = {"phantoms": ("mri", "xray")}


def grid(**given):
    spec = RunSpec(model=["late"], **{"attack": ["corruptions"], **given})
    return corrupted(cells(spec), spec, MODALITIES)


def test_every_kind_that_suits_the_data_is_one_cell_a_severity_whatever_the_radii() -> None:
    found = grid(eps=["4/255", "8/255"])
    assert len(found) == 5 * len({cell.attack for cell in found})
    suited = {name for name, kind in KINDS.items() if kind.suits("mri") or kind.suits("xray")}
    assert {cell.attack for cell in found} == suited
    radii = {cell.attack: cell.eps for cell in found}
    assert radii["jpeg"] == "1"
    assert radii["ghosting"] == "mri=1"
    assert radii["low-dose"] == "xray=1"
    assert "speckle" not in radii


def test_a_trusted_modality_is_not_corrupted_and_a_kind_that_is_named_is_taken_at_its_word() -> (
    None
):
    assert {cell.eps for cell in grid(eps=["xray=1/255"])} == {"xray=1"}
    assert "ghosting" not in {cell.attack for cell in grid(eps=["xray=1/255"])}
    (cell,) = grid(attack=["speckle"], attack_params={"severity": 2})
    assert (cell.attack, cell.eps, cell.severity) == ("speckle", "1", 2)
    both = grid(attack=["pgd", "jpeg"], eps=["4/255"])
    assert [cell.attack for cell in both] == ["noise", "pgd", *["jpeg"] * 5]


def test_an_adversary_of_the_corruptions_own_size_does_at_least_as_much_harm() -> None:
    samples, victim = two_head_samples(12), TwoHeads().eval()
    clean = clean_pass(victim, samples, setting(), lambda n: None, stochastic=False)
    threat = Threat("Linf", (1.0, 1.0), (0, 1))
    lost = 0.0
    for kind in ("gaussian-noise", "contrast", "defocus-blur", "impulse-noise"):
        method = Method(kind, complete(kind, {"severity": 5}, CORRUPTION), CORRUPTION)
        outcome = attack_pass(victim, samples, clean, threat, method, setting(), lambda n: None)
        right = clean.right > 0
        for i in range(len(samples)):
            radii = outcome.arrays["l2"][i]
            left = outcome.arrays["robust_right"][i][right[i]].sum()
            lost += float(right[i].sum() - left)
            x = dict(zip("ab", samples.batch(np.array([i])), strict=True))
            eps = {name: float(r) for name, r in zip("ab", radii, strict=True)}
            how = {"norm": "L2", "eps": eps, "stochastic": False}
            moved = attack(victim_by_name(victim), x, samples.labels[[i]], "pgd", **how)
            logits = victim(moved["a"], moved["b"])
            standing = [z.argmax(1)[0] == samples.labels[i, t] for t, z in enumerate(logits)]
            assert sum(bool(s) for s, r in zip(standing, right[i], strict=True) if r) <= left
    assert lost > 0  # some corruption broke something: the bound was put to the test


def victim_by_name(victim: torch.nn.Module) -> torch.nn.Module:
    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.victim = victim

        def forward(self, a, b):
            return self.victim(a, b)

    return Named().eval()


def test_a_corruption_may_help_and_its_accuracy_is_that_of_scikit_learn() -> None:
    samples, victim = two_head_samples(40), TwoHeads().eval()
    clean = clean_pass(victim, samples, setting(), lambda n: None, stochastic=False)
    method = Method("contrast", complete("contrast", {"severity": 5}, CORRUPTION), CORRUPTION)
    threat = Threat("Linf", (1.0, 1.0), (0, 1))
    outcome = attack_pass(victim, samples, clean, threat, method, setting(), lambda n: None)
    helped = (outcome.arrays["robust_right"] > clean.right).sum()
    assert helped > 0
    for t, task in enumerate(outcome.figures["tasks"]):
        predicted = outcome.arrays[f"robust_probabilities_{t}"].argmax(1)
        assert task["robust"] == pytest.approx(accuracy_score(samples.labels[:, t], predicted))


def test_a_run_of_corruptions_has_a_section_of_its_own(tmp_path) -> None:
    model, out = written(tmp_path), tmp_path / "out"
    small = ("--size", 16, "--recipe", "steps=20", "--limit", 4, "--no-challenge", "--out", out)
    asked = ("run", "--model", model, "--defense", "bit-depth", "--attack", "jpeg,contrast,fgsm")
    medrobust(*asked, "--eps", "4/255", "--baseline", model, *small)
    kinds = pd.read_csv(out / "corruptions.csv")
    assert sorted(set(kinds.severity)) == [1, 2, 3, 4, 5]
    assert set(kinds.kind) == {"jpeg", "contrast"}
    plain, defended = sorted(set(kinds.model))
    assert defended == f"{plain}+bit-depth"
    assert set(pd.read_csv(out / "cells.csv").attack.dropna()) == {"noise", "fgsm"}
    assert set(pd.read_csv(out / "leaderboard.csv").attacks.dropna()) == {1}
    assert list(kinds.columns) == list(COLUMNS["corruptions"])
    errors = pd.read_csv(out / "corruption_errors.csv")
    assert list(errors.columns) == list(COLUMNS["corruption_errors"])
    errors = errors.set_index("model")
    mine = kinds[kinds.model == defended].groupby("kind").accuracy.mean()
    theirs = kinds[kinds.model == plain].groupby("kind").accuracy.mean()
    assert errors.mean_error[defended] == pytest.approx(1 - mine.mean(), abs=1e-5)
    assert errors.mce[defended] == pytest.approx(((1 - mine) / (1 - theirs)).mean(), abs=1e-5)
    assert errors.mce[plain] == 1
    assert set(errors.baseline.str.split().str[0]) == {plain}
    pictures = {path.name.split("-")[0] for path in (out / "corruptions").iterdir()}
    assert pictures == {"heat", "gallery"}
    records = [record for record in Store(out).records() if record.corruption]
    assert all(record.trust.word is None and not record.challenges for record in records)
    again = shlex.split(records[0].command)[1:]
    told = medrobust(*again, "--out", out).stderr
    assert told.count("done before") == 1  # its own command names this one record
    medrobust("show", records[0].short, "--out", out)
    medrobust("report", "--out", out, "--no-figures", "--baseline", plain)
    assert "Corruptions" in (out / "leaderboard.html").read_text()


def test_corruptions_from_python_and_on_tensors() -> None:
    x, y = torch.rand(3, 1, 12, 12), torch.tensor([0, 1, 0])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 2))
    moved = attack(model, x, y, "contrast", attack_params={"severity": 1}, stochastic=False)
    mean = x.mean((2, 3), keepdim=True)
    assert torch.allclose(moved, mean + 0.8 * (x - mean), atol=1e-6)


def test_objects_without_training_data_have_no_baseline(tmp_path) -> None:
    images, labels = torch.rand(6, 1, 16, 16), torch.tensor([0, 1, 0, 1, 0, 1])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2)).eval()
    found = evaluate(
        model, "pixelate", data=(images, labels), out=tmp_path, version="1", quiet=True
    )
    assert len(found) == 5
    assert found.table.empty
    assert list(found.corruptions.severity) == [1, 2, 3, 4, 5]
    assert found.corruption_errors().mce.isna().all()
    assert "mean_error" in repr(found)


def test_what_makes_no_sense_is_refused(tmp_path) -> None:
    for arguments, said in (
        (("--attack", "pgd", "--baseline", "mail"), "--baseline is for corruptions"),
        (("--attack", "jpeg", "--baseline", "lte"), "late"),
        (("--attack", "jpeg", "--attack-param", "severity=9"), "severity must be one of 1, 2"),
        (("--attack", "jpgg"), "jpeg"),
    ):
        asked = ("run", "--model", "late", *arguments, "--out", tmp_path / "out")
        assert said in refused(medrobust(*asked, check=2)), arguments
    assert not (tmp_path / "out" / "records").exists()
