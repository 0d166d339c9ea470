"""Commands with files of the user's run again as they stand, and what --include refuses."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from support import own_code
from support.cli import medrobust, refused
from support.own_code import (
    HELPER,
    IDENTITY,
    REGISTER,
    SHORT,
    SMALL,
    again,
    measured,
    of,
    records,
    tiny,
    write_own,
)

from robustbench_med import UserError, register_defense, register_loss
from robustbench_med.attacks import ATTACKS
from robustbench_med.runs import registration
from robustbench_med.training import presets
from robustbench_med.training.objectives import PGDAT

OWN = ["--model", "model.py:build"]


GIVEN = {
    "own attack": [*OWN, "--attack", "mine", "--include", "attack.py", "--include", "objective.py"],
    "own defences": [*OWN, "--attack", "fgsm", "--defense", "halved+contrast", "--defense-param", "strength=0.3",
                     "--include", "objective.py", "--include", "defense.py", "--include", "attack.py"],
    "pairing by path": [*OWN, "--attack", "fgsm", "--data", "heads.yaml+chests.yaml", "--data-root", ".", "--preprocess", "fit=pad",
                        "--recipe", "clip_norm=null"],
    "own source, fold of a card by path": ["--model", "late", "--model-param", "width=4", "--attack", "transfer", "--attack-param",
                                           "steps=2", "--source", "model.py:build", "--data", "heads.yaml", "--data-root", ".", "--folds",
                                           "2", "--fold", "1"],
    "draws, seeds, radii": [*OWN, "--attack", "pgd", "--attack-param", "steps=2", "--batch-draws", "2", "--eps", "mri=8/255,xray=0",
                            "--norm", "L2", "--train-seed", "1", "--seed", "2", "--draws", "3", "--target-task", "1"],
    "own weights": [*OWN, "--attack", "fgsm", "--checkpoint", "weights.safetensors"],
}  # fmt: skip


NEEDED = {"own attack": {"attack.py"}, "own defences": {"objective.py", "defense.py"}}


@pytest.mark.slow
def test_a_records_command_makes_the_same_record_in_another_folder_and_process(
    drawn_root, tmp_path, home, monkeypatch
) -> None:
    work = tmp_path / "my work"
    shutil.copytree(drawn_root, work)
    write_own(work)
    monkeypatch.chdir(work)
    medrobust("train", *OWN, *SHORT[:-2], "--out", "trained")
    shutil.copy(next(Path("trained").glob("*.safetensors")), "weights.safetensors")
    found = {}
    for number, (what, given) in enumerate(GIVEN.items()):
        medrobust("run", *SHORT, *given, "--no-control", "--out", f"o{number}")
        (found[what],) = records(work / f"o{number}").values()
    merged = tmp_path / "all"
    for number in range(len(GIVEN)):
        shutil.copytree(work / f"o{number}" / "records", merged / "records", dirs_exist_ok=True)
    for what, said in zip(
        found,
        again([record["command"] for record in found.values()], tmp_path, home, "--out", merged),
        strict=True,
    ):
        assert f"done before, record {found[what]['hash'][:12]}" in " ".join(said.split()), what
        assert set(
            re.findall(
                r"(\w+\.py)'? ",
                " ".join(re.findall(r"--include .*?\.py'? ", found[what]["command"] + " ")),
            )
        ) == NEEDED.get(what, set())
    assert len(records(merged)) == len(GIVEN)


@pytest.mark.slow
def test_a_sidecars_command_makes_the_same_training_in_another_folder_and_process(
    drawn_root, tmp_path, monkeypatch
) -> None:
    work = tmp_path / "my work"
    shutil.copytree(drawn_root, work)
    write_own(work)
    monkeypatch.chdir(work)
    short = SHORT[:-2]
    medrobust(
        "train",
        *OWN,
        *short,
        "--defense",
        "halved",
        "--include",
        "objective.py",
        "--recipe",
        "clip_norm=null",
        "--out",
        "t",
    )
    medrobust(
        "train", *OWN, *short, "--data", "heads.yaml+chests.yaml", "--data-root", ".", "--out", "t"
    )
    sidecars = {path.name: json.loads(path.read_text()) for path in (work / "t").glob("*.json")}
    again(
        [sidecar["command"] for sidecar in sidecars.values()],
        tmp_path,
        tmp_path / "another home",
        "--out",
        work / "again",
    )
    assert len(sidecars) == 2
    for name, sidecar in sidecars.items():
        made = json.loads((work / "again" / name).read_text())
        assert (made["training_hash"], made["weights_sha256"]) == (
            sidecar["training_hash"],
            sidecar["weights_sha256"],
        )


def test_a_helper_beside_an_own_model_is_part_of_the_victim(tmp_path: Path) -> None:
    first = measured(tmp_path, "fgsm")
    assert measured(tmp_path, "fgsm") == first
    with mock.patch.object(own_code, "HELPER", HELPER.replace("avg_pool", "max_pool")):
        other = measured(tmp_path, "fgsm")
    assert len({record["spec"]["victim"]["source_sha256"] for record in (first, other)}) == 2
    assert len({record["spec"]["victim"]["weights_sha256"] for record in (first, other)}) == 2


def test_every_command_takes_include_and_a_run_file_does(tmp_path: Path) -> None:
    victim, include = tiny(tmp_path), ["--include", tmp_path / "defense.py"]
    said = medrobust(
        "compare",
        *victim,
        "--attack",
        "fgsm",
        "--defense",
        "contrast",
        *include,
        "--out",
        tmp_path / "c",
    ).stderr
    assert f"running {tmp_path / 'defense.py'}: it is code" in " ".join(said.split())
    assert "contrast" in (tmp_path / "c" / "compare.md").read_text()
    medrobust(
        "diagnose",
        *victim,
        "--steps",
        2,
        "--queries",
        2,
        "--defense",
        "contrast",
        *include,
        "--out",
        tmp_path / "d",
    )
    assert (
        json.loads((tmp_path / "d" / "diagnostics.json").read_text())[0]["model"]
        == "model.py:build+contrast"
    )
    medrobust(
        "certify",
        *victim,
        "--n0",
        2,
        "--n",
        4,
        "--defense",
        "input-noise+contrast",
        *include,
        "--out",
        tmp_path / "f",
    )
    certificate = json.loads(next((tmp_path / "f" / "certificates").glob("*.json")).read_text())
    assert certificate["spec"]["victim"]["code"].keys() == {"contrast"}
    run = {
        "model": victim[1],
        "attack": "mine",
        **SMALL,
        "include": str(tmp_path / "attack.py"),
        "control": False,
    }
    del run["quiet"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    medrobust("run", "--config", tmp_path / "run.yaml", "--out", tmp_path / "r")
    assert len(of("mine", tmp_path / "r")) == 1


def test_an_unknown_name_tells_of_include(tmp_path: Path) -> None:
    run = ["run", "--model", "late", "--out", tmp_path / "o"]
    assert "unknown attack 'mine'" in (
        line := refused(medrobust(*run, "--attack", "mine", check=2))
    )
    assert "--include FILE.py" in line
    assert "--include FILE.py" in refused(medrobust(*run, "--defense", "contrast", check=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("def mine(:", "SyntaxError: invalid syntax (line 1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("import sys\nsys.exit(0)", "SystemExit: 0 (line 2)"),
        ("class Stop(BaseException): ...\nraise Stop('two\\nlines')", "Stop: two lines (line 2)"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("import no_such_module", "No module named 'no_such_module' (line 1)"),
        ("x = 1", "registers no attack, loss, defence, model, data set or report"),
        (
            "from robustbench_med import register_attack\nregister_attack('pgd', print)",
            "there is an attack 'pgd' in medrobust",
        ),
        (
            "from robustbench_med.attacks import LOSSES\nLOSSES['ce'] = print",
            "the loss 'ce' comes with medrobust and was replaced",
        ),
        (
            "from robustbench_med import register_attack\nregister_attack('my attack', print)",
            "'my attack' is no name",
        ),
        (
            "from robustbench_med import register_attack\nregister_attack('mine', 3)",
            "must be a function or class, got int",
        ),
        (
            "from robustbench_med import register_defense\nregister_defense('x', print, kind='y')",
            "of the kind inference, network",
        ),
        (
            "from robustbench_med import register_defense\nregister_defense('jpeg', print)",
            "there is a defence 'jpeg' in medrobust",
        ),
        (
            (
                "from robustbench_med import register_defense\nregister_defense('x', print,"
                " kind='training')"
            ),
            "expected a data class derived from",
        ),
        (
            (
                "from robustbench_med.attacks import ATTACKS\nexec('def f(*a):"
                " ...')\nATTACKS['mine'] = f"
            ),
            "has no source that can be read",
        ),
    ],
)
def test_a_file_that_cannot_be_included_is_one_line_and_exit_code_2(
    text, message, tmp_path
) -> None:
    mine = tmp_path / "mine.py"
    if text is not None:
        mine.write_text(text)
    line = refused(
        medrobust(
            "run",
            "--model",
            "late",
            "--attack",
            "mine",
            "--include",
            mine,
            "--out",
            tmp_path / "o",
            check=2,
        )
    )
    assert message in line
    assert not (tmp_path / "o" / "records").exists()


def test_an_interrupt_in_an_included_file_is_an_interrupt(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise KeyboardInterrupt")
    medrobust(
        "run",
        "--model",
        "late",
        "--include",
        tmp_path / "mine.py",
        "--out",
        tmp_path / "o",
        check=130,
    )


def test_two_files_that_register_one_name_are_refused_and_a_renamed_attack_is_gone(
    tmp_path: Path,
) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(IDENTITY + REGISTER)
    with pytest.raises(UserError, match=r"a\.py and .*b\.py both register the attack 'mine'"):
        registration.include([tmp_path / "a.py", tmp_path / "b.py"], print)
    said: list[str] = []
    registration.include([tmp_path / "a.py"], said.append)
    registration.include([tmp_path / "a.py"], said.append)
    assert len(said) <= 1  # run once
    (tmp_path / "a.py").write_text((IDENTITY + REGISTER).replace("'mine'", "'yours'"))
    registration.include([tmp_path / "a.py"], said.append)
    assert "yours" in ATTACKS
    assert "mine" not in ATTACKS


def test_a_registered_defence_counts_at_once_and_what_is_registered_in_python_may_be_registered_again() -> (
    None
):
    from robustbench_med.models.defenses.transforms import BitDepth
    from robustbench_med.training import defenses

    class Mine(BitDepth):
        """One bit less."""

    register_defense("mine", Mine)
    register_defense("mine", Mine)
    register_defense("my-pgd", type("MyPGD", (PGDAT,), {}), kind="training")
    register_loss("flat", lambda z, y: z[:, 0])
    assert {"mine", "my-pgd"} < set(defenses.names())
    assert {row["name"]: row["kind"] for row in defenses.describe()}["my-pgd"] == "training"
    assert defenses.plan("late", "my-pgd+mine", {"bits": 3}, {}).name == "late+my-pgd+mine"


def test_a_revision_above_one_is_another_training_and_one_at_one_is_left_out(
    tmp_path: Path, monkeypatch
) -> None:
    from robustbench_med.data import load
    from robustbench_med.training import defenses

    dataset = load("phantoms", size=32)

    def spec(model: str, name: str = "none") -> Any:
        layers = defenses.plan(model, name, {}, presets.preset("quick")).training
        return presets.make_spec(
            model, dataset, "quick", params={}, recipe={}, seed=0, layers=layers
        )

    assert "revisions" not in spec("mail").model_dump(mode="json")
    monkeypatch.setattr(sys.modules["robustbench_med.attacks.pgd"], "REVISION", 2)
    assert "revisions" not in spec("mail").model_dump(mode="json")
    assert spec("mail", "pgd-at").model_dump(mode="json")["revisions"] == {
        "pgd": 2,
        "randomness": 3,
    }
    monkeypatch.setattr(sys.modules["robustbench_med.models.mail"], "REVISION", 3)
    assert spec("robust-mail").model_dump(mode="json")["revisions"] == {"mail": 3}
