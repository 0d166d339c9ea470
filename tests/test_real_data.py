"""On real images, where they are: ultrasound, chest X-ray, brain MRI. Skips where the folder is
absent.
"""

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.files import SHARED_DATA, needs_real_data
from support.stores import cells_csv

from robustbench_med.attacks import under
from robustbench_med.data import Files, card, load
from robustbench_med.data.source import read
from robustbench_med.data.splits import make_manifest, shipped
from robustbench_med.store.store import Store

pytestmark = needs_real_data
FEW = {"train": 400, "val": 40, "test": 60}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ultrasound and chest X-ray with an even choice of their images, at most `FEW` a split."""
    root = tmp_path_factory.mktemp("few")
    for name in ("breastmnist.npz", "pneumoniamnist.npz"):
        with np.load(SHARED_DATA / name) as whole:
            chosen = {
                f"{split}_{part}": evenly(whole[f"{split}_{part}"], n)
                for split, n in FEW.items()
                for part in ("images", "labels")
            }
        np.savez(root / name, **chosen)
    return root


def evenly(array: np.ndarray, n: int) -> np.ndarray:
    return array[np.linspace(0, len(array) - 1, min(n, len(array))).astype(int)]


def test_ultrasound_and_x_ray_are_read_with_their_published_splits() -> None:
    pair = load(
        "breastmnist+pneumoniamnist",
        size=28,
        files=Files(data_root=SHARED_DATA, accept_unverified=True),
    )
    assert {s: len(x) for s, x in pair.splits.items()} == {"train": 3882, "val": 524, "test": 624}
    assert pair.splits["test"].distinct == [156, 624]
    assert sum(note.startswith("unverified") for note in pair.notes) == 2
    assert any("pneumoniamnist train: 3882 images, published 4708" in note for note in pair.notes)
    assert pair.channels == (1, 1)


def test_mri_folders_are_read_with_their_published_split() -> None:
    mri = load("sartaj-mri", size=32, files=Files(data_root=SHARED_DATA))
    assert {s: len(x) for s, x in mri.splits.items()} == {
        "train": 2582,
        "val": 288,
        "test": 394,
    }  # copies of one file stay together
    assert mri.channels == (3,)
    assert not mri.unverified
    assert mri.notes == ()  # its split is the shipped one, for one thing
    ids = {split: set(mri.splits[split].ids) for split in mri.splits}
    manifest = shipped("sartaj-mri")
    assert manifest is not None
    assert ids == {
        "train": set(manifest.train),
        "val": set(manifest.val),
        "test": set(manifest.test),
    }
    assert (
        make_manifest(read(card("sartaj-mri"), size=32, files=Files(data_root=SHARED_DATA)), 0)
        == manifest
    )
    x = mri.splits["test"].batch(range(64))[0]
    assert (x == 0).float().mean() > 0.1  # black background, which attacks must be able to move


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    ["breastmnist+pneumoniamnist", "sartaj-mri+breastmnist"],
)
def test_a_run_on_a_real_pairing(data: str, few, tmp_path) -> None:
    run = [
        "run",
        "--model",
        "late",
        "--attack",
        "fgsm,pgd",
        "--eps",
        "1/255,8/255",
        "--data",
        data,
        "--data-root",
        SHARED_DATA if "sartaj" in data else few,
    ]
    small = [
        "--size",
        32,
        "--recipe",
        "steps=30",
        "--recipe",
        "eval_every=15",
        "--limit",
        48,
        "--out",
        tmp_path,
    ]
    assert "--accept-unverified" in refused(medrobust(*run, *small, check=2))
    medrobust(*run, "--accept-unverified", *small)
    board = cells_csv(tmp_path).set_index(["attack", "eps"]).robust
    assert board["pgd", "8/255"] <= board["pgd", "1/255"] <= board["noise", "1/255"]
    assert board["pgd", "8/255"] < board["noise", "8/255"] - 0.1
    assert not cells_csv(tmp_path).synthetic.any()
    made = Store(tmp_path).records()[0]
    again = tmp_path / "again"
    medrobust(*shlex.split(made.command)[1:], "--out", again)
    assert [record.hash for record in Store(again).records()] == [made.hash]


TINY = ["--size", 32, "--recipe", "steps=6", "--recipe", "eval_every=3", "--recipe", "batch_size=8", "--limit", 3, "--draws", 4,
        "--accept-unverified"]  # fmt: skip
BUDGET = [part for given in ("steps=2", "eot=2", "queries=6", "search=2", "targets=1", "evaluations=20", "initial=10")
          for part in ("--attack-param", given)]  # fmt: skip


@pytest.mark.slow
def test_every_attack_runs_on_two_classes_a_task_and_on_random_robust_mail(few, tmp_path) -> None:
    run = [
        "run",
        "--model",
        "late,robust-mail",
        "--attack",
        ",".join(under("Linf")),
        "--source",
        "late",
    ]
    there = ["--data", "breastmnist+pneumoniamnist", "--data-root", few, "--out", tmp_path]
    narrow = ["--model-param", "late.width=8", "--model-param", "robust-mail.width=16"]
    medrobust(*run, *there, *narrow, *TINY, *BUDGET, "--max-passes", 100, "--no-challenge")
    board = cells_csv(tmp_path)
    ran = set(zip(board.model, board.attack.str.partition(" ")[0], strict=True))
    assert ran == {(model, attack) for model in ("late", "robust-mail") for attack in under("Linf")}
    assert board.robust.between(0, 1).all()
    assert (board[board.model == "robust-mail"].draws == 4).all()


@pytest.mark.slow
def test_engines_refuse_random_robust_mail_and_say_why(few, tmp_path) -> None:
    run = [
        "run",
        "--model",
        "robust-mail",
        "--target-task",
        0,
        "--no-control",
        "--data",
        "breastmnist+pneumoniamnist",
        "--data-root",
        few,
        *TINY,
        "--recipe",
        "settle_bn=false",
    ]
    for engine, attack in (
        ("torchattacks", "autoattack"),
        ("torchattacks", "apgd"),
        ("art", "square"),
    ):
        text = refused(
            medrobust(*run, "--engine", engine, "--attack", attack, "--out", tmp_path, check=2)
        )
        assert "no robustness for a random victim" in text
    assert not list(tmp_path.glob("records/*"))


@pytest.mark.slow
def test_three_modalities_and_three_tasks(tmp_path) -> None:
    run = [
        "run",
        "--model",
        "mail",
        "--attack",
        "pgd",
        "--attack-param",
        "steps=2",
        "--cross-modal",
        "--data-root",
        SHARED_DATA,
        "--model-param",
        "width=16",
        *TINY,
    ]
    three = ["--data", "sartaj-mri+pneumoniamnist+breastmnist", "--no-challenge"]
    medrobust(*run, *three, "--out", tmp_path)
    matrix = pd.read_csv(tmp_path / "cross_modal.csv")
    cells = matrix[matrix.attack == "pgd"].groupby(["modality", "task"]).robust.mean()
    assert len(cells) == 3 * 3
    assert cells.between(0, 1).all()
    assert (tmp_path / "cross_modal.png").stat().st_size > 10_000
