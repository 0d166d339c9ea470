"""Attacks, losses and defences of the user's own: registered by a file, in the identity, and found
again by the command of a record.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from support.cli import medrobust, refused

from robustbench_med import UserError, evaluate, register_attack, register_defense, register_loss
from robustbench_med.attacks import ATTACKS, LOSSES
from robustbench_med.models.defenses import INFERENCE, NETWORK
from robustbench_med.runs import registration
from robustbench_med.training import presets
from robustbench_med.training.objectives import PGDAT, SCHEMES

SHORT = [
    "--size",
    "32",
    "--recipe",
    "steps=3",
    "--recipe",
    "batch_size=8",
    "--recipe",
    "lr=0.05",
    "--limit",
    "6",
]
SMALL = {
    "size": 32,
    "recipe": {"steps": 3, "batch_size": 8, "lr": 0.05},
    "limit": 6,
    "eps": "64/255",
    "quiet": True,
}
MODEL = """
import torch
import helper

class Net(torch.nn.Module):
    def __init__(self, channels, class_counts):
        super().__init__()
        self.heads = torch.nn.ModuleList(torch.nn.Linear(64 * sum(channels), n) for n in class_counts)
    def forward(self, *xs):
        return tuple(head(helper.features(xs)) for head in self.heads)

def build(channels, class_counts):
    return Net(channels, class_counts)
"""
HELPER = """
import torch

def features(xs):
    return torch.cat([torch.nn.functional.adaptive_avg_pool2d(x, 8).flatten(1) for x in xs], 1)
"""
IDENTITY = "def mine(view, x, y, threat, streams):\n    return x\n"
FGSM = (
    "def mine(view, x, y, threat, streams):\n"
    "    gradient = view.gradient(x, y, threat).direction\n"
    "    return view.project(x + view.steepest(gradient, threat), x, threat)\n"
)
REGISTER = "from robustbench_med.attacks import ATTACKS\nATTACKS['mine'] = mine\n"
DEFENSE = """
import torch
from robustbench_med import register_defense

class Contrast(torch.nn.Module):
    stochastic = False
    def __init__(self, *, strength: float = 0.2) -> None:
        super().__init__()
        self.strength = strength
    def forward(self, x):
        return x + self.strength * (0.5 - x)

register_defense("contrast", Contrast)
"""
OBJECTIVE = """
from dataclasses import dataclass
from robustbench_med.objectives import PGDAT, SCHEMES

@dataclass
class Halved(PGDAT):
    steps: int = 1
    def loss(self, victim, x, perturbed, y):
        return 0.5 * super().loss(victim, x, perturbed, y)

SCHEMES["halved"] = Halved
"""
NETWORK_DEFENSE = """
from robustbench_med.models.defenses import NETWORK

def scaled(victim, shapes, *, by: float = 0.5):
    for parameter in victim.parameters():
        parameter.data.mul_(by)

NETWORK["scaled"] = scaled
"""


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """What a test registers is gone after it."""
    with contextlib.ExitStack() as stack:
        for table in (ATTACKS, LOSSES, INFERENCE, NETWORK, SCHEMES, registration._INCLUDED):
            stack.enter_context(mock.patch.dict(table))  # type: ignore[arg-type]
        yield


def write_own(folder: Path) -> None:
    for name, text in (
        ("attack", FGSM + REGISTER),
        ("defense", DEFENSE),
        ("objective", OBJECTIVE),
        ("model", MODEL),
        ("helper", HELPER),
    ):
        (folder / f"{name}.py").write_text(text)


def tiny(folder: Path) -> list[object]:
    """Options of a small quick victim: a linear model of the user's own, with a module beside
    it.
    """
    write_own(folder)
    return ["--model", f"{folder / 'model.py'}:build", *SHORT]


def measured(folder: Path, attack: str, **given: Any) -> dict[str, Any]:
    """The record of an attack on that victim."""
    write_own(folder)
    found = evaluate(
        f"{folder / 'model.py'}:build",
        attack,
        out=folder / "o",
        control=False,
        **{**SMALL, **given},
    )
    (record,) = found.records
    return record.plain()


def records(out: Path) -> dict[str, dict[str, Any]]:
    """The records of a folder, by hash."""
    found = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    return {record["hash"]: record for record in found}


def of(attack: str, out: Path) -> list[dict[str, Any]]:
    return [
        record for record in records(out).values() if record["spec"]["attack"]["name"] == attack
    ]


FORKED = """
import json, os, sys, tempfile
from robustbench_med import cli
from robustbench_med.reports import write
from robustbench_med.runs import run as runner
said = []
for arguments in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            sys.argv = arguments
            cli.main()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        errors.seek(0)
        said.append([os.waitstatus_to_exitcode(status), errors.read()])
print("SAID", json.dumps(said))
"""


def again(commands: list[str], tmp_path: Path, home: Path, *more: object) -> list[str]:
    """Runs commands as they stand, each in a process that knows of none before, in another folder;
    what they said.
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            FORKED,
            json.dumps([[*shlex.split(command), *map(str, more)] for command in commands]),
        ],
        cwd=elsewhere,
        env=os.environ | {"MEDROBUST_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.rpartition("SAID ")[2])
    for code, text in said:
        assert code == 0, text
    return [text for _, text in said]


# --- editing is another result --------------------------------------------------------------------


def test_an_attack_that_was_edited_is_computed_anew_and_one_that_was_not_is_not(
    tmp_path: Path,
) -> None:
    """The identity attack leaves robust accuracy at clean; as FGSM it must not keep that figure."""

    def run(text: str) -> dict[str, Any]:
        (tmp_path / "mine.py").write_text(text + REGISTER)
        return measured(
            tmp_path,
            "mine",
            include=tmp_path / "mine.py",
            recipe={"steps": 200, "batch_size": 32, "lr": 0.05},
            limit=24,
        )

    first = run(IDENTITY)
    assert first["figures"]["robust"] == first["figures"]["clean"] > 0.4
    assert re.fullmatch("[0-9a-f]{64}", first["spec"]["attack"]["code"])
    edited = run(FGSM)
    assert edited["figures"]["robust"] < first["figures"]["robust"] - 0.2
    assert run(IDENTITY) == first
    assert len(of("mine", tmp_path / "o")) == 2


def test_a_module_beside_an_attack_a_captured_value_and_a_version_are_in_its_identity(
    tmp_path: Path,
) -> None:
    (tmp_path / "shares.py").write_text("SHARE = 0.1\n")
    (tmp_path / "mine.py").write_text(
        f"import shares\n{FGSM.replace('view.steepest', 'shares.SHARE * view.steepest')}{REGISTER}"
    )

    def hashed(**more: Any) -> str:
        return str(measured(tmp_path, "mine", **more)["hash"])

    first = hashed(include=tmp_path / "mine.py")
    assert hashed(include=[str(tmp_path / "mine.py")]) == first
    (tmp_path / "shares.py").write_text("SHARE = 0.9\n")
    assert hashed(include=tmp_path / "mine.py") != first

    def make(share: float) -> Any:
        def attack(view: Any, x: Any, y: Any, threat: Any, streams: Any) -> Any:
            return view.project(x + share * view.steepest(x - 0.5, threat), x, threat)

        return attack

    found = []
    for share in (0.1, 0.2, 0.1):
        ATTACKS["mine"] = make(share)
        found.append(hashed())
    assert found[0] == found[2] != found[1]
    for version in ("1", "2"):
        register_attack("mine", make(0.1), version=version)
        found.append(hashed())
    assert len(set(found)) == 4


def test_an_own_loss_is_a_value_of_the_parameter_and_in_the_identity(tmp_path: Path) -> None:
    text = "def lead(z, y):\n    return -z.gather(1, y[:, None])[:, 0]\n"
    text += "from robustbench_med import register_loss\nregister_loss('lead', lead)\n"
    (tmp_path / "losses.py").write_text(text)
    run = [
        "run",
        *tiny(tmp_path),
        "--attack",
        "fgsm",
        "--attack-param",
        "loss=lead",
        "--no-control",
        "--out",
        tmp_path / "o",
    ]
    assert "loss must be one of ce, margin, dlr" in refused(medrobust(*run, check=2))
    medrobust(*run, "--include", tmp_path / "losses.py")
    (first,) = records(tmp_path / "o").values()
    (tmp_path / "losses.py").write_text(text.replace("-z.", "-2 * z."))
    medrobust(*run, "--include", tmp_path / "losses.py")
    assert len(records(tmp_path / "o")) == 2
    assert first["spec"]["attack"]["code"]
    assert f"--include {tmp_path / 'losses.py'}" in first["command"]


def test_what_comes_with_medrobust_cannot_be_replaced(tmp_path: Path, monkeypatch) -> None:
    """Its signs and ensembles ask for each other by name: they would be what nobody knows."""
    (tmp_path / "mine.py").write_text(
        f"{IDENTITY}from robustbench_med.attacks import ATTACKS\nATTACKS['fgsm'] = mine\n"
    )
    with pytest.raises(
        UserError,
        match=(
            r"mine\.py cannot be included: the attack 'fgsm' comes with medrobust and was replaced"
        ),
    ):
        measured(tmp_path, "fgsm", include=tmp_path / "mine.py")
    monkeypatch.setitem(
        LOSSES, "ce", lambda z, y: z[:, 0]
    )  # what the file did was undone; so only this stands in the way
    with pytest.raises(UserError, match="the loss 'ce' comes with medrobust"):
        measured(tmp_path, "fgsm")


EDITED = [  # kind, name of the defence, what is edited, whether it is trained anew
    (DEFENSE, "contrast", "0.5 - x", "0.4 - x", False),
    (DEFENSE, "contrast", "strength: float = 0.2", "strength: float = 0.3", False),
    (OBJECTIVE, "halved", "0.5 *", "0.7 *", True),
    (NETWORK_DEFENSE, "scaled", "mul_", "sub_", True),
]


def test_a_defence_that_was_edited_is_another_victim_in_a_new_process(
    tmp_path: Path, home: Path
) -> None:
    """Trained anew where it changes the training; one at inference keeps the checkpoint of the
    undefended victim.
    """
    commands, victim = [], tiny(tmp_path)
    for number, (text, name, _, _, _) in enumerate(EDITED):
        (tmp_path / f"mine{number}.py").write_text(text)
        given = [
            "--attack",
            "fgsm",
            "--no-control",
            "--defense",
            name,
            "--include",
            tmp_path / f"mine{number}.py",
        ]
        commands.append(
            shlex.join(
                map(str, ["medrobust", "run", *victim, *given, "--out", tmp_path / f"o{number}"])
            )
        )
    again(commands, tmp_path, home)
    assert all("done before" in said for said in again(commands, tmp_path, home))
    for number, (text, _, old, new, _) in enumerate(EDITED):
        (tmp_path / f"mine{number}.py").write_text(text.replace(old, new))
    for number, (said, (_, name, _, _, trained)) in enumerate(
        zip(again(commands, tmp_path, home), EDITED, strict=True)
    ):
        assert "done before" not in said
        assert ("training model.py" in said) == trained
        found = records(tmp_path / f"o{number}").values()
        assert len({record["spec"]["victim"]["code"][name] for record in found}) == 2
    sidecars = [
        json.loads(path.read_text())["training"] for path in (home / "checkpoints").glob("*.json")
    ]
    assert sorted(bool(each.get("code")) for each in sidecars) == [
        False,
        True,
        True,
        True,
        True,
    ]  # the undefended one is shared


# --- the command of a record runs again as it stands ----------------------------------------------

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
                " ".join(re.findall(r"--include .*?\.py'? ", found[what]["command"])),
            )
        ) == NEEDED.get(what, set())
    assert len(records(merged)) == len(GIVEN)


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
    with mock.patch.dict(globals(), HELPER=HELPER.replace("avg_pool", "max_pool")):
        other = measured(tmp_path, "fgsm")
    assert len({record["spec"]["victim"]["source_sha256"] for record in (first, other)}) == 2
    assert len({record["spec"]["victim"]["weights_sha256"] for record in (first, other)}) == 2


# --- files, names, every command ------------------------------------------------------------------


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
        ("x = 1", "registers no attack, loss or defence"),
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
            "expected a class derived from",
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
    from robustbench_med.training import defenses as defense

    class Mine(BitDepth):
        """One bit less."""

    register_defense("mine", Mine)
    register_defense("mine", Mine)
    register_defense("my-pgd", type("MyPGD", (PGDAT,), {}), kind="training")
    register_loss("flat", lambda z, y: z[:, 0])
    assert {"mine", "my-pgd"} < set(defense.names())
    assert {row["name"]: row["kind"] for row in defense.describe()}["my-pgd"] == "training"
    assert defense.plan("late", "my-pgd+mine", {"bits": 3}, {}).name == "late+my-pgd+mine"


def test_a_revision_above_one_is_another_training_and_one_at_one_is_left_out(
    tmp_path: Path, monkeypatch
) -> None:
    from robustbench_med.data import load
    from robustbench_med.training import defenses as defense

    dataset = load("phantoms", size=32)

    def spec(model: str, name: str = "none") -> Any:
        layers = defense.plan(model, name, {}, presets.preset("quick")).training
        return presets.make_spec(
            model, dataset, "quick", params={}, recipe={}, seed=0, layers=layers
        )

    assert "revisions" not in spec("mail").model_dump(mode="json")
    monkeypatch.setattr(sys.modules["robustbench_med.attacks.pgd"], "REVISION", 2)
    assert "revisions" not in spec("mail").model_dump(mode="json")
    assert spec("mail", "pgd-at").model_dump(mode="json")["revisions"] == {"pgd": 2}
    monkeypatch.setattr(sys.modules["robustbench_med.models.mail"], "REVISION", 3)
    assert spec("robust-mail").model_dump(mode="json")["revisions"] == {"mail": 3}
