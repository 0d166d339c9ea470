"""Attacks, losses and defences of the user's own: registered by a file, in the identity, and found
again by the command of a record.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.cli import medrobust, refused
from support.own_code import (
    DEFENSE,
    FGSM,
    IDENTITY,
    OBJECTIVE,
    REGISTER,
    again,
    measured,
    of,
    records,
    tiny,
)

from robustbench_med import UserError, register_attack
from robustbench_med.attacks import ATTACKS, LOSSES

NETWORK_DEFENSE = """
from robustbench_med.models.defenses import NETWORK

def scaled(victim, shapes, *, by: float = 0.5):
    for parameter in victim.parameters():
        parameter.data.mul_(by)

NETWORK["scaled"] = scaled
"""


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
    assert run(IDENTITY).model_dump() == first.model_dump()
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


@pytest.mark.slow
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
