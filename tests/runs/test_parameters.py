"""Parameters for one model, attack or defence alone: `late.width=8`, from the shell, from run files
and from Python.
"""

import json
import math
import shlex

import pytest
import yaml
from support.cli import medrobust, refused

from robustbench_med import evaluate, parameters
from robustbench_med.cli.values import assignments
from robustbench_med.data import load
from robustbench_med.errors import UserError
from robustbench_med.parsing import validate
from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.commands import command_of
from robustbench_med.runs.spec import RunSpec, TrainingsSpec, cells
from robustbench_med.runs.threats import parameters_of
from robustbench_med.store.store import Store

SMALL = ["--size", 32, "--limit", 4, "--recipe", "steps=2", "--recipe", "batch_size=8"]
OWN = """
from torch import nn

class Small(nn.Module):
    def __init__(self, channels, class_counts, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels[0], width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.heads = nn.ModuleList(nn.Linear(width, n) for n in class_counts)

    def forward(self, x):
        return tuple(head(self.body(x)) for head in self.heads)

def build(channels, class_counts, *, width=4):
    return Small(channels, class_counts, width)
"""


@pytest.mark.parametrize(
    ("text", "key"),
    [("late.width=8", "late.width"), ("robust-mail.rpf-ratio=8", "robust-mail.rpf_ratio"),
     ("mail+rpf.width=8", "mail+rpf.width"), ("apgd-t.n-restarts=8", "apgd-t.n_restarts"), ("pgd-at.eps=8", "pgd-at.eps"),
     ("my_model.py:build.width=8", "my_model.py:build.width"), ("/some.where/my_model.py:build.width=8", "my_model.py:build.width")],
)  # fmt: skip
def test_the_last_dot_parts_the_owner_from_the_name(text: str, key: str) -> None:
    assert assignments([text]) == {key: 8}
    owner, name = parameters.split(key)
    assert owner
    assert (
        parameters.of({name: 1, key: 8}, owner)
        == parameters.of({key: 8, name: 1}, owner)
        == {name: 8}
    )  # one's own wins
    assert parameters.of({name: 1, key: 8}, "another") == {name: 1}
    assert parameters.only({"depth": 1, key: 8}, ["another"]) == {"depth": 1}
    assert parameters.owned({"depth": 1, key: 8}) == {key: 8}


def test_run_files_may_nest_and_values_that_are_mappings_stay() -> None:
    nested = {"width": 4, "late": {"width": 8}, "x/my.py:build": {"depth": 1}, "options": {"a": 1}}
    run = validate(
        RunSpec,
        {"model": "late", "model_params": nested, "attack_params": {"pgd": {"steps": 5}}},
        "run",
    )
    assert run.model_params == {
        "width": 4,
        "late.width": 8,
        "my.py:build.depth": 1,
        "options": {"a": 1},
    }
    assert run.attack_params == {"pgd.steps": 5}
    options = validate(
        TrainingsSpec,
        {"model": "late", "recipe": {"late": {"steps": 5}}, "model_params": {"late.width": 8}},
        "train",
    )
    assert (options.recipe, options.model_params) == ({"late.steps": 5}, {"late.width": 8})


@pytest.mark.parametrize("field", ["model_params", "attack_params", "defense_params", "recipe"])
@pytest.mark.parametrize("value", [math.nan, math.inf, [0.1, math.nan]])
def test_no_number_that_is_none_reaches_a_hash(field: str, value: object) -> None:
    with pytest.raises(UserError, match=r"late\.rate must be a finite number"):
        validate(RunSpec, {"model": "late", field: {"late": {"rate": value}}}, "run")
    zero = validate(RunSpec, {"model": "late", field: {"rate": -0.0}}, "run").model_dump()[field][
        "rate"
    ]
    assert math.copysign(1, zero) == 1


@pytest.mark.parametrize(
    "text", ["rate=1e400", "rate=1e-400", "rate=.nan", "rate=-.inf", "pgd.rate=1e400"]
)
def test_a_number_that_no_float_holds_is_refused_where_it_is_typed(text: str) -> None:
    with pytest.raises(UserError, match="rate"):
        assignments([text])
    assert assignments(["a=nan", "b=1_0.5", "c=٤", "d=1e-3"]) == {
        "a": "nan",
        "b": 10.5,
        "c": "٤",
        "d": 1e-3,
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model-param", "lat.width=8"], "unknown model in the parameter 'lat.width': 'lat'; did you mean late?"),
        # it is no model of this run
        (["--model-param", "mail.width=8"], "unknown model in the parameter 'mail.width'"),
        (["--model-param", "late.widht=8"], "model 'late' has no parameter 'widht'; did you mean width?"),
        # robust-mail has it, late has not
        (["--model-param", "rpf_ratio=0.5"], "as --model-param MODEL.rpf_ratio=..."),
        (["--attack-param", "pdg.steps=5"], "unknown attack in the parameter 'pdg.steps': 'pdg'; did you mean pgd?"),
        (["--attack-param", "pgd.stepz=5"], "no attack of this run (pgd) has a parameter 'stepz'; did you mean steps"),
        (["--attack-param", "fgsm.steps=5"], "no attack of this run (fgsm) has a parameter 'steps'"),
        (["--attack-param", "pgd.steps=many"], "must be of type int"),
        (["--recipe", "lat.steps=5"], "unknown model in the parameter 'lat.steps': 'lat'; did you mean late?"),
        (["--recipe", "late.stepz=5"], "recipe of late: unknown field 'stepz'"),
        (["--recipe", "late.steps=0"], "recipe of late: steps"),
        (["--defense", "jpeg,pgd-at", "--defense-param", "jpg.quality=5"], "unknown defence in the parameter 'jpg.quality': 'jpg'; d"),
        (["--defense", "jpeg,pgd-at", "--defense-param", "jpeg.eps=0.1"], "defence 'jpeg' has no parameter 'eps'; it has: jpeg: quality"),
        (["--defense", "jpeg,pgd-at", "--defense-param", "eps=0.1"], "such as pgd-at.eps"),
    ],
)  # fmt: skip
def test_an_owner_or_a_parameter_that_is_none_is_one_line_before_any_work(
    more: list[str], message: str, tmp_path, home
) -> None:
    done = medrobust(
        "run",
        "--model",
        "robust-mail,late",
        "--attack",
        "fgsm,pgd",
        *more,
        "--out",
        tmp_path / "o",
        check=2,
    )
    assert message in refused(done)
    assert not home.exists()  # nothing was trained


def test_each_model_attack_and_defence_gets_its_own_and_its_command_makes_it_again(
    drawn_root, tmp_path
) -> None:
    (tmp_path / "my_model.py").write_text(OWN)
    out, there = tmp_path / "out", ["--data-root", drawn_root, "--out", tmp_path / "out"]
    mine = f"{tmp_path / 'my_model.py'}:build"
    medrobust("run", "--model", f"early,{mine}", "--attack", "fgsm,pgd,mim", "--no-control", "--data", drawn_root / "heads.yaml", *SMALL,
              "--model-param", "width=8", "--model-param", "my_model.py:build.width=6", "--recipe", "early.steps=3",
              "--attack-param", "steps=2", "--attack-param", "pgd.steps=3", "--defense", "none,jpeg",
              "--defense-param", "jpeg.quality=50", *there)  # fmt: skip
    records = Store(out).records()
    found = {(r.spec.victim.model, r.spec.attack.name): r for r in records}
    assert len(found) == 2 * 2 * 3
    assert {victim: r.spec.victim.params["width"] for (victim, _), r in found.items()} == {
        "early": 8, "early+jpeg": 8, "my_model.py:build": 6, "my_model.py:build+jpeg": 6
    }  # fmt: skip
    assert {a: r.spec.attack.params.get("steps") for (_, a), r in found.items()} == {
        "fgsm": None,
        "pgd": 3,
        "mim": 2,
    }
    assert {v: r.victim.training.steps for (v, _), r in found.items() if "+" not in v} == {
        "early": 3,
        "my_model.py:build": 2,
    }
    assert {
        r.spec.victim.defense[0].params["quality"] for (v, _), r in found.items() if "+" in v
    } == {50}
    for record in (
        found["early", "pgd"],
        found["early+jpeg", "mim"],
        found["my_model.py:build+jpeg", "pgd"],
    ):
        again = medrobust(*shlex.split(record.command)[1:], *there)
        assert f"done before, record {record['hash'][:12]}" in " ".join(again.stderr.split())


def test_a_source_of_a_transfer_attack_takes_what_is_its_own(drawn_root, tmp_path) -> None:
    there = ["--data-root", drawn_root, "--out", tmp_path]
    medrobust("run", "--model", "early", "--source", "unimodal", "--attack", "transfer", "--no-control", *SMALL,
              "--data", drawn_root / "heads.yaml", "--model-param", "width=8", "--model-param", "unimodal.width=4",
              "--recipe", "unimodal.steps=3", *there)  # fmt: skip
    (record,) = Store(tmp_path).records()
    again = medrobust(*shlex.split(record.command)[1:], *there)
    assert f"done before, record {record['hash'][:12]}" in again.stderr
    trained = [
        json.loads(path.read_text())["training"]
        for path in (tmp_path / "home" / "checkpoints").glob("*.json")
    ]
    assert {t["model"]: (t["params"]["width"], t["recipe"]["steps"]) for t in trained} == {
        "early": (8, 2),
        "unimodal": (4, 3),
    }


def test_a_run_file_python_and_the_shell_mean_the_same(drawn_root, tmp_path) -> None:
    data = str(drawn_root / "heads.yaml")
    base = {
        "data": data,
        "size": 32,
        "limit": 4,
        "control": False,
        "recipe": {"steps": 2, "batch_size": 8, "gmu": {"steps": 3}},
    }
    params = {
        "model_params": {"early": {"width": 4}, "gmu.width": 8},
        "attack_params": {"pgd": {"steps": 3}},
    }
    (tmp_path / "run.yaml").write_text(
        yaml.safe_dump({"model": ["early", "gmu"], "attack": ["fgsm", "pgd"], **base, **params})
    )
    results = evaluate(
        ["early", "gmu"],
        ["fgsm", "pgd"],
        data_root=drawn_root,
        out=tmp_path / "o",
        quiet=True,
        **base,
        **params,
    )
    done = medrobust(
        "run", "--config", tmp_path / "run.yaml", "--data-root", drawn_root, "--out", tmp_path / "o"
    )
    assert done.stderr.count("done before") == len(results) == 4
    medrobust("run", "--model", "early,gmu", "--attack", "fgsm,pgd", "--no-control", "--data", data, *SMALL, "--recipe", "gmu.steps=3",
              "--model-param", "early.width=4", "--model-param", "gmu.width=8", "--attack-param", "pgd.steps=3", "--data-root", drawn_root,
              "--out", tmp_path / "o")  # fmt: skip
    assert {r.hash for r in Store(tmp_path / "o").records()} == {r.hash for r in results.records}


def test_training_and_cost_know_owners_too(drawn_root, tmp_path) -> None:
    medrobust("train", "--model", "early,gmu", "--model-param", "width=4", "--model-param", "gmu.width=8", "--recipe", "gmu.steps=3",
              *SMALL[:2], *SMALL[4:], "--data", drawn_root / "heads.yaml", "--data-root", drawn_root, "--out", tmp_path / "t")  # fmt: skip
    trained = [json.loads(path.read_text())["training"] for path in (tmp_path / "t").glob("*.json")]
    assert {t["model"]: (t["params"]["width"], t["recipe"]["steps"]) for t in trained} == {
        "early": (4, 2),
        "gmu": (8, 3),
    }
    counted = medrobust(
        "cost",
        "--model",
        "early,late",
        "--size",
        32,
        "--model-param",
        "early.width=4",
        "--model-param",
        "late.width=4",
    )
    assert "early" in counted.stdout
    for command in (["train"], ["cost"]):
        done = medrobust(
            *command, "--model", "early,late", "--model-param", "erly.width=4", check=2
        )
        assert "did you mean early?" in refused(done)


def test_the_command_of_a_cell_holds_what_is_the_cells_own() -> None:
    run = RunSpec(
        model=["late", "gmu"],
        attack=["pgd", "fgsm"],
        defense=["none", "jpeg", "pgd-at"],
        model_params={"width": 8, "gmu": {"width": 4}},
        attack_params={"pgd": {"steps": 5}},
        recipe={"late.steps": 20},
        defense_params={"jpeg": {"quality": 40}, "pgd-at.eps": "2/255"},
    )
    check_attacks(run)
    phantoms = load("phantoms", size=16)
    texts = {(c.model, c.defense, c.attack): command_of([c], run, 8, phantoms) for c in cells(run)}
    assert "--attack-param pgd.steps=5 --model-param width=8 --model-param gmu.width=4 --defense-param jpeg.quality=40" in texts[
        "gmu", "jpeg", "pgd"
    ]  # fmt: skip
    assert "gmu" not in texts["late", "none", "pgd"]
    assert "late" not in texts["gmu", "none", "pgd"]
    assert "steps=5" not in texts["late", "none", "fgsm"]
    assert "quality" not in texts["late", "pgd-at", "fgsm"]
    assert (
        parameters_of("pgd", run, stochastic=False)["steps"],
        parameters_of("bim", run, stochastic=False)["steps"],
    ) == (5, 20)
