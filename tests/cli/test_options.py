"""Options are the fields of specifications: each is there or has a reason not to be, is said once,
and is read and written as one.
"""

import json
import shlex
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
import typer
from support.cli import SMALL, asked, medrobust, refused
from support.files import ROOT

from robustbench_med.cli import run_files
from robustbench_med.cli.program import app
from robustbench_med.dataspec import Preprocessing
from robustbench_med.runs.commands import written
from robustbench_med.runs.job import Job
from robustbench_med.runs.options import (
    COMMANDS,
    EXCEPT,
    IN_COMMAND,
    OPTIONS,
    fields_of,
    flags_of,
)
from robustbench_med.runs.spec import RunSpec, TrainingsSpec


def parameters(command: str) -> dict[str, set[str]]:
    """The options of a command, by the name of its parameter."""
    found = typer.main.get_command(app).commands[command].params
    return {each.name: {*each.opts, *each.secondary_opts} for each in found}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_an_option_or_on_the_list_with_a_reason(command: str) -> None:
    known = {*COMMANDS[command].model_fields, *(field.name for field in fields(Job))}
    left_out = {name for owner, name in EXCEPT if owner in ("", command)}
    assert left_out <= known
    options = parameters(command)
    beside = {*run_files.BESIDE.get(command, {}), *run_files.SHARED}
    assert set(options) == known - left_out | beside | {"config"}
    for name in known - left_out:
        assert set(flags_of(command, name)) <= options[name]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_two_options_of_a_command_share_a_name(command: str) -> None:
    flags = [flag for own in parameters(command).values() for flag in own]
    assert len(flags) == len(set(flags))


def test_the_tables_hold_nothing_that_no_command_has() -> None:
    everywhere = {name for command in COMMANDS for name in fields_of(command)}
    assert set(OPTIONS) == everywhere
    assert all(name in fields_of(command) for command, name in IN_COMMAND)
    assert all(reason for reason in EXCEPT.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_at_most_ten_options_first(command: str) -> None:
    lines = medrobust(command, "--help").stdout.splitlines()
    titles = [number for number, line in enumerate(lines) if line.startswith("╭─ ")]
    assert "Most used" in lines[titles[0]]
    first = [line for line in lines[titles[0] : titles[1]] if line.lstrip("│* ").startswith("--")]
    assert 5 <= len(first) <= 10
    assert any("--model" in line for line in first)
    assert not any("--help" in line for line in first)


VALUES = {
    "model": ["late", "mail"],
    "defense": ["none", "jpeg+rpf"],
    "data": ["a+b", "c"],
    "attack": ["fgsm", "pgd"],
    "eps": ["1/255", "mri=4/255,xray=0"],
    "norm": ["L2", "Linf"],
    "l0_counts": "coordinates",
    "target_task": "1",
    "target": "random",
    "cross_modal": True,
    "effort": "max",
    "max_passes": 500,
    "engine": "art",
    "source": ["early", "gmu"],
    "protocol": "release",
    "draws": 3,
    "seed": [1, 2],
    "train_seed": [3, 4],
    "folds": 5,
    "fold": [0, 2],
    "preset": "release",
    "size": 32,
    "limit": 7,
    "chunk": 8,
    "batch_draws": 2,
    "accelerate": ["bf16", "channels-last"],
    "checkpoint": Path("w.safetensors"),
    "checkpoint_part": "ema.model",
    "checkpoint_map": ["model.=", "=net.", "a b.=-"],
    "train": False,
    "contract": Path("device.yaml"),
    "max_queries": 500,
    "preprocessing": Preprocessing(fit="pad", scaling="minmax"),
    "attack_params": {"steps": 3, "pgd.loss": "margin"},
    "model_params": {"late.width": 8, "warm": [0.5, None]},
    "recipe": {"clip_norm": None, "lr": 1e-05},
    "defense_params": {"jpeg.quality": 40},
    "whole_range": True,
    "allow_batch_dependent": True,
    "control": False,
    "challenge": False,
    "carry": True,
    "cascade": True,
    "baseline": "mail",
    "include": [Path("a.py"), Path("b c.py")],
    "half": True,
}
"""By field, a value that is not its default."""


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, name)
        for command, kind in (("run", RunSpec), ("train", TrainingsSpec))
        for name in kind.model_fields
    ],
)
def test_what_is_written_is_read_back(command: str, name: str) -> None:
    needed = {"fold": {"folds": 5}, "l0_counts": {"norm": ["L0"]}}
    needed |= {key: {"checkpoint": Path("w.pt")} for key in ("checkpoint_part", "checkpoint_map")}
    values = {"model": ["late"], name: VALUES[name]} | needed.get(name, {})
    words = written(command, values)
    assert any(word in flags_of(command, name) for word in words)
    spec, _ = asked(command, *words)
    assert getattr(spec, name) == VALUES[name] != COMMANDS[command].model_fields[name].default
    assert spec.model_fields_set == set(values)


def test_a_default_is_written_only_where_it_must_stay() -> None:
    usual = dict(RunSpec(model=["late"]))
    words = written("run", usual)
    assert "--preset" in words
    assert words[words.index("--draws") + 1] == "16"
    assert not {"--chunk", "--engine", "--defense", "--size", "--no-control"} & set(words)


def test_the_job_is_read_too(tmp_path) -> None:
    words = ["--out", tmp_path, "--device", "cpu", "--batch-size", 8, "--data-root", tmp_path]
    flags = ["--accept-unverified", "--strict", "--force", "--quiet"]
    _, job = asked("run", "--model", "late", *words, *flags)
    assert (job.out, job.device, job.batch_size, job.data_root) == (tmp_path, "cpu", "8", tmp_path)
    assert job.accept_unverified
    assert job.strict
    assert job.force
    assert job.display.quiet
    _, job = asked("run", "--model", "late")
    assert (job.out, job.batch_size, job.force) == (Path("reports"), "auto", False)
    assert not job.display.quiet


def test_what_is_typed_wins_over_the_run_file_even_where_it_is_the_default(
    tmp_path,
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: [late, mail]\ndraws: 3\ncontrol: false\nattack: fgsm\n")
    spec, _ = asked("run", "--config", path, "--draws", 16, "--model", "gmu")
    assert (spec.model, spec.draws, spec.control, spec.attack) == (["gmu"], 16, False, ["fgsm"])


@pytest.mark.parametrize("flag", ["--seed", "--train-seed"])
def test_train_takes_training_seeds_under_both_names(flag: str) -> None:
    spec, _ = asked("train", "--model", "late", flag, "1,2")
    assert spec.train_seed == [1, 2]


def test_several_seeds_and_defences_are_a_training_each(drawn_root, tmp_path) -> None:
    data = ["--data", drawn_root / "heads.yaml", "--data-root", drawn_root]
    small = [*SMALL[:2], "--recipe", "steps=2", "--recipe", "batch_size=8"]
    grid = ["--defense", "none,pgd-at", "--defense-param", "steps=1", "--train-seed", "0,1"]
    medrobust("train", "--model", "early", "--model-param", "width=4", *data, *small, *grid,
              "--out", tmp_path / "w")  # fmt: skip
    sidecars = [json.loads(path.read_text()) for path in (tmp_path / "w").glob("*.json")]
    trained = {
        (sidecar["training"]["seed"], len(sidecar["training"].get("defense", [])))
        for sidecar in sidecars
    }
    assert trained == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for sidecar in sidecars:
        assert f"--train-seed {sidecar['training']['seed']}" in sidecar["command"]


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("compare", "--norm L3", "compare: norm.0: Input should be 'Linf', 'L2', 'L1' or 'L0'"),
        ("compare", "--preprocess fit=squeeze", "compare: preprocessing.fit: "),
        ("compare", "--preprocess squeeze", "expected NAME=VALUE"),
        ("compare", "--target-task brain", "unknown target task 'brain'"),
        ("compare", "--batch-draws 0", "compare: batch_draws: "),
        ("certify", "--fold 1", "certify: fold: it needs folds"),
        ("certify", "--folds 1", "certify: folds: "),
        ("certify", "--checkpoint absent.safetensors", "cannot read the checkpoint"),
        ("diagnose", "--batch-size 0", "--batch-size must be"),
        ("diagnose", "--seed a", "diagnose: seed.0: "),
        ("train", "--train-seed a", "train: train_seed.0: "),
    ],
)
def test_a_bad_value_is_one_line(
    command: str, words: str, message: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(medrobust(command, "--model", "late", *words.split(), check=2))


def test_every_field_of_a_run_file_is_in_the_docs_with_its_option() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for name in RunSpec.model_fields:
        assert f"| `{name}` | `{flags_of('run', name)[0]}" in page, name


def tiny(drawn_root: Path) -> list[object]:
    """A tiny victim on a small pairing."""
    data = f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    return ["--model", "early", "--model-param", "width=4", "--data", data, "--data-root",
            drawn_root, *SMALL]  # fmt: skip


def test_compare_takes_norms_a_task_and_preprocessing(drawn_root, tmp_path) -> None:
    medrobust("compare", *tiny(drawn_root), "--limit", 4, "--out", tmp_path, "--defense",
              "bit-depth", "--attack", "fgsm", "--norm", "Linf,L2", "--preprocess", "fit=pad",
              "--target-task", "xray-task", "--no-control", "--target", "random")  # fmt: skip
    table = pd.read_csv(tmp_path / "compare.csv").dropna(subset="defense")
    assert set(zip(table.defense, table.norm, strict=True)) == {
        (defense, norm) for defense in ("none", "bit-depth") for norm in ("Linf", "L2", "Linf + L2")
    }
    records = [json.loads(path.read_text()) for path in (tmp_path / "records").glob("*.json")]
    assert {record["spec"]["attack"]["name"] for record in records} == {"fgsm"}
    assert {tuple(record["spec"]["threat"]["tasks"]) for record in records} == {(1,)}
    for record in records:
        assert "--preprocess fit=pad" in record["command"]


def certificate(folder: Path) -> dict:
    """The specification of the only certificate in a folder."""
    (path,) = (folder / "certificates").glob("*.json")
    return json.loads(path.read_text())["spec"]


def test_certify_takes_a_fold_and_a_checkpoint(drawn_root, tmp_path) -> None:
    victim, few = tiny(drawn_root), ["--limit", 4, "--n0", 2, "--n", 4, "--joint-only"]
    medrobust("certify", *victim, *few, "--folds", 2, "--fold", 1, "--out", tmp_path / "fold")
    assert certificate(tmp_path / "fold")["data"]["fold"]["number"] == 1
    assert set(pd.read_csv(tmp_path / "fold" / "certified.csv").data) == {"heads+chests (2-fold)"}
    medrobust("train", *victim, "--out", tmp_path / "w")
    (weights,) = (tmp_path / "w").glob("*.safetensors")
    sidecar = json.loads(weights.with_suffix(".json").read_text())
    own = ["--defense", "input-noise", "--checkpoint", weights, "--out", tmp_path / "weights"]
    medrobust("certify", *victim, *few, *own)
    spec = certificate(tmp_path / "weights")
    assert spec["victim"]["weights_sha256"] == sidecar["weights_sha256"]


def test_diagnose_takes_seeds_and_its_rows_say_which(drawn_root, tmp_path) -> None:
    few = ["--limit", 4, "--steps", 2, "--queries", 4, "--batch-size", 3, "--out", tmp_path]
    medrobust("diagnose", *tiny(drawn_root), *few, "--seed", "0,1")
    rows = json.loads((tmp_path / "diagnostics.json").read_text())
    assert [row["seed"] for row in rows] == [0, 1]


def test_a_sidecars_command_trains_the_same_again(drawn_root, tmp_path) -> None:
    given = ["--train-seed", 3, "--preprocess", "fit=crop", "--half", "--folds", 2, "--fold", 0]
    medrobust("train", *tiny(drawn_root), *given, "--out", tmp_path / "first")
    (path,) = (tmp_path / "first").glob("*.json")
    sidecar = json.loads(path.read_text())
    medrobust(*shlex.split(sidecar["command"])[1:], "--out", tmp_path / "second")
    again = json.loads((tmp_path / "second" / path.name).read_text())
    assert again["training_hash"] == sidecar["training_hash"]
    assert again["weights_sha256"] == sidecar["weights_sha256"]
