"""`medrobust diagnose`: the signs it writes, the victims it examines, the siblings it asks."""

import json

import pytest
from support.cli import SMALL, medrobust

pytestmark = pytest.mark.challenged


def test_diagnose_writes_every_sign(tmp_path) -> None:
    shown = medrobust(
        "diagnose", "--model", "late", "--out", tmp_path, "--limit", 4, "--steps", 2, "--queries", 4
    )  # the zoo's
    (row,) = json.loads((tmp_path / "diagnostics.json").read_text())
    assert {
        "zero gradient",
        "not converged",
        "not monotone",
        "black box beats white box",
        "bounds",
    } <= {sign["sign"] for sign in row["signs"]}
    assert "zero gradient" in shown.stdout


@pytest.mark.slow
def test_diagnose_examines_defended_victims_with_weights_of_the_recipe_and_seed(
    drawn_root, tmp_path
) -> None:
    data = f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    few = [
        "--limit",
        4,
        "--steps",
        2,
        "--queries",
        4,
        "--data",
        data,
        "--data-root",
        drawn_root,
        *SMALL,
        "--out",
        tmp_path,
    ]
    defended = [
        "--defense",
        "jpeg,rpf",
        "--train-seed",
        3,
        "--eot",
        2,
        "--draws",
        1,
    ]  # one draw is random all the same
    shown = medrobust("diagnose", "--model", "late", *defended, *few).stdout
    rows = json.loads((tmp_path / "diagnostics.json").read_text())
    assert [(row["model"], row["train_seed"], row["siblings"]) for row in rows] == [
        ("late+jpeg", 3, []),
        ("late+rpf", 3, []),
    ]
    signs = [{sign["sign"]: sign["text"] for sign in row["signs"]} for row in rows]
    assert "randomness masks" not in signs[0]
    assert "with 2," in signs[1]["randomness masks"]
    assert "late+jpeg on heads+chests" in shown
    assert (
        "not looked for, as --source names no other victim: transfer beats white box (late+jpeg,"
        " late+rpf)" in " ".join(shown.split())
    )

    refused = medrobust(
        "diagnose",
        "--model",
        "late",
        "--defense",
        "jpeg",
        "--defense-param",
        "kwality=3",
        *few,
        check=2,
    )
    assert "quality" in refused.stderr


def test_diagnose_looks_for_transfer_from_the_undefended_weights_to_the_defended_victim(
    tmp_path,
) -> None:
    few = ["--limit", 4, "--steps", 2, "--queries", 4, "--out", tmp_path]
    shown = medrobust(
        "diagnose", "--model", "late", "--defense", "none,jpeg", "--source", "late", *few
    ).stdout  # the zoo's
    plain, behind = json.loads((tmp_path / "diagnostics.json").read_text())
    assert (plain["siblings"], behind["siblings"]) == (
        [],
        ["late"],
    )  # the same weights are another victim behind a transform
    assert "transfer beats white box" in {sign["sign"] for sign in behind["signs"]}
    assert "transfer beats white box (late)" in " ".join(shown.split())


def test_diagnose_refuses_an_unknown_sibling_in_one_line(tmp_path) -> None:
    done = medrobust("diagnose", "--model", "late", "--source", "lade", "--out", tmp_path, check=2)
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "late" in line
