"""Run files: every option is a key of its name, what is none is refused, editors get a schema."""

import json
from pathlib import Path

import pytest
import yaml
from support.cli import asked, medrobust, refused
from support.files import ROOT

from robustbench_med.cli import run_files
from robustbench_med.cli.run_file_schema import json_schema
from robustbench_med.errors import UserError
from robustbench_med.runs.options import COMMANDS, fields_of, flags_of

DOCS = ROOT / "docs" / "run-files"


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_long_option_is_a_key_of_its_name(command: str) -> None:
    known = run_files.keys(command)
    for field in fields_of(command):
        for flag in flags_of(command, field):
            if flag.startswith("--"):
                assert known[flag[2:].replace("-", "_")][0] == field
        assert known[field][0] == field


WHERE = {
    "out": "kept",
    "device": "cpu",
    "batch-size": 8,
    "data_root": "files",
    "accept-unverified": True,
    "strict": True,
    "force": True,
    "quiet": True,
}


def test_where_and_how_to_run_are_keys_and_what_is_typed_wins(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump({"model": "late", **WHERE}))
    _, job = asked("run", "--config", path)
    assert (job.out, job.device, job.batch_size, job.data_root) == (
        Path("kept"),
        "cpu",
        "8",
        Path("files"),
    )
    assert job.accept_unverified
    assert job.strict
    assert job.force
    assert job.display.quiet
    _, job = asked("run", "--config", path, "--out", "reports", "--batch-size", "auto")
    assert (job.out, job.batch_size, job.device) == (Path("reports"), "auto", "cpu")


def test_text_is_read_as_it_would_be_typed(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "model: late,mail\neps: 1/255,2/255\ntarget-task: 1\nno_control: true\nfolds: 3\nfold: '0,2'\n"
        "attack-param: [pgd.steps=3, rho=0.5]\nmodel_param: {late: {width: 8}}\nrecipe: {lr: 1e-3}\n",
    )
    spec, _ = asked("run", "--config", path)
    assert (spec.model, spec.eps, spec.fold) == (["late", "mail"], ["1/255", "2/255"], [0, 2])
    assert (spec.target_task, spec.control) == ("1", False)
    assert spec.attack_params == {"pgd.steps": 3, "rho": 0.5}
    assert (spec.model_params, spec.recipe) == ({"late.width": 8}, {"lr": 0.001})


@pytest.mark.parametrize("key", ["seed", "train-seed", "train_seed"])
def test_a_training_takes_its_seeds_and_defences_from_a_file(key: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"model: late\ndefense: [none, pgd-at]\n{key}: [1, 2]\nout: weights\n")
    spec, job = asked("train", "--config", path)
    assert (spec.defense, spec.train_seed) == (["none", "pgd-at"], [1, 2])
    assert job.out == Path("weights")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: late", "unknown key 'modle'; did you mean model"),
        ("model: late\nn0: 5", "`n0` is no option of run, only of certify"),
        ("model: late\nmodel: mail", "has the key 'model' 2 times"),
        ("model: late\nmodel_param: {a: 1}\nmodel_params: {b: 1}", "says again what another key"),
        ("model: late\ncontrol: no thanks", "control: it is a switch: true or false"),
        ("model: late\nrecipe: 5", "recipe: expected a mapping such as {steps: 50}, got 5"),
        ("model: late\nquiet: 5", "quiet: "),
        ("model: late\nout: [a, b]", "out: "),
        ("- late", "must hold a mapping"),
        ("attack: fgsm", "run: model is missing: name a victim, as --model late does"),
    ],
)
def test_what_makes_no_sense_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    done = medrobust("run", "--config", written(tmp_path, text), "--out", tmp_path / "o", check=2)
    assert message in refused(done)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_schemas_are_as_generated(command: str) -> None:
    assert (DOCS / f"{command}.schema.json").read_text() == json_schema(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_schema_lists_is_what_a_file_may_hold(command: str) -> None:
    schema = json.loads(json_schema(command))
    listed = {name.replace("-", "_") for name in schema["properties"]}
    assert listed == set(run_files.keys(command))
    fields = {field for field, _ in run_files.keys(command).values()}
    assert fields == {
        *fields_of(command),
        *run_files.BESIDE.get(command, {}),
        *run_files.SHARED,
    }


def test_the_example_has_every_key_and_is_in_the_docs() -> None:
    text = (DOCS / "example.yaml").read_text()
    assert set(yaml.safe_load(text)) <= set(json.loads(json_schema("run"))["properties"])
    named = {line.removeprefix("# ").split(":")[0] for line in text.splitlines() if ":" in line}
    for key, (field, turned_off) in run_files.keys("run").items():
        same = {other for other, (its, _) in run_files.keys("run").items() if its == field}
        assert turned_off or same & named, key
    assert text in (ROOT / "docs" / "run-files.md").read_text()


def test_a_schema_takes_the_example_and_refuses_what_is_none() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema")
    schema = json.loads(json_schema("run"))
    jsonschema.validate(yaml.safe_load((DOCS / "example.yaml").read_text()), schema)
    for wrong in ({"modle": "late"}, {"draws": "many"}, {"engine": "foolproof"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_the_example_is_understood(monkeypatch, tmp_path: Path) -> None:
    spec, job = asked("run", "--config", DOCS / "example.yaml")
    assert spec.eps == ["2/255", "mri=4/255,xray=0"]
    assert spec.model_params == {"late.width": 8}
    assert spec.preprocessing.fit == "pad"
    assert job.out == Path("reports")


def test_a_file_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the run file"):
        run_files.read(tmp_path / "absent.yaml", "run")
