"""Every input of a record is in its hash: the table of docs/records.md, changed line by line; and
what is no input is not.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.files import write_folder_set

from robustbench_med import evaluate, register_attack
from robustbench_med.attacks import ATTACKS, accelerated
from robustbench_med.data import cache, source
from robustbench_med.evaluation import batching
from robustbench_med.models import fusion, user_file
from robustbench_med.progress import Display
from robustbench_med.reports import tables
from robustbench_med.runs import identity
from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.inputs import inputs_of
from robustbench_med.runs.job import Job
from robustbench_med.runs.run import grid_of, run
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.record import Record

TINY: dict[str, Any] = {
    "model": ["late"],
    "attack": ["pgd"],
    "attack_params": {"steps": 2},
    "size": 16,
    "limit": 8,
    "recipe": {"steps": 2, "batch_size": 8},
    "model_params": {"width": 4},
    "control": False,
}
SHARED_DRAWS = batching.SHARED_DRAWS
"""A user's; `short_trust` has a test's."""
RANDOM = {"model": ["drifa-net"], "defense": ["man"]}  # it draws for its batch


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return write_folder_set(tmp_path / "root", "chests", "xray", per_class=20)


def job_of(card: Path, **given: Any) -> Job:
    quiet = Display(quiet=True)
    usual = {"out": card.parent / "out", "device": "cpu", "data_root": card.parent}
    return Job(**{**usual, "display": quiet, **given})


def hash_of(card: Path, /, job: dict[str, Any] | None = None, **given: Any) -> str:
    """The hash of the record of the one cell that these settings mean."""
    return str(record_of(card, job, **given).hash)


def named(card: Path, **given: Any) -> str:
    """The same before anything is attacked, of a chain the last: a run looks its record up by it."""
    spec = RunSpec(**{**TINY, "data": [str(card)], **given})
    session = Session.open(spec, job_of(card), check_attacks)
    grid = grid_of(session)
    assert len(grid) == 1 or spec.carry or spec.cascade
    return inputs_of(grid[-1], session).hash


def record_of(card: Path, /, job: dict[str, Any] | None = None, **given: Any) -> Record:
    """The record of the one cell that these settings mean."""
    spec = RunSpec(**{**TINY, "data": [str(card)], **given})
    (record,) = run(spec, job_of(card, **(job or {})))
    return record


def test_draws_that_medrobust_adds_are_in_the_spec_and_one_draw_is_said_to_be_one(
    card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "SHARED_DRAWS", SHARED_DRAWS)
    few = record_of(card, **RANDOM, draws=4)
    assert (few.spec.protocol.draws, few.spec.protocol.judged, few.draws) == (4, 32, 32)
    many = record_of(card, **RANDOM, draws=40)
    assert (many.spec.protocol.judged, many.draws) == (None, 40)
    one = record_of(card, **RANDOM, draws=1)
    assert (one.spec.protocol.judged, one.draws) == (None, 1)
    assert any(note.startswith("one draw: ") for note in one.notes)
    board = tables.cells([few, many, one]).set_index("draws").marks
    assert ["one draw" in marks.split("; ") for marks in board[[1, 32, 40]]] == [True, False, False]
    still = record_of(card, draws=1)  # deterministic
    assert not any("draw" in note for note in still.notes)
    assert "one draw" not in tables.cells([still]).marks[0]


def edited(card: Path, change: Callable[[dict[str, Any]], object]) -> None:
    loaded = yaml.safe_load(card.read_text())
    change(loaded)
    card.write_text(yaml.safe_dump(loaded))


def a_label(card: Path) -> None:
    first, second = sorted(path for path in (card.parent / "chests").iterdir())[:2]
    (first / "image(0).png").rename(second / "moved.png")


def weights(card: Path) -> dict[str, Any]:
    """Trained elsewhere by a seed of its own, in a file."""
    given = {key: value for key, value in TINY.items() if key not in ("model", "attack")}
    evaluate(
        "late",
        out=card.parent / "elsewhere",
        data=str(card),
        data_root=card.parent,
        quiet=True,
        **given,
        train_seed=7,
    )
    found = sorted(Path(os.environ["MEDROBUST_HOME"], "checkpoints").glob("*-s7-*.safetensors"))
    return {"checkpoint": found[0]}


SEARCH = {"effort": "auto"}
SETTINGS: dict[str, dict[str, Any]] = {
    "image size": {"size": 17},
    "preprocessing": {"preprocessing": {"scaling": "minmax"}},
    "samples": {"limit": 7},
    "fold": {"folds": 3, "fold": [0]},
    "model": {"model": ["early"]},
    "model parameters": {"model_params": {"width": 6}},
    "recipe": {"recipe": {"steps": 3, "batch_size": 8}},
    "training seed": {"train_seed": [1]},
    "training defence": {"defense": ["pgd-at"]},
    "inference defence": {"defense": ["jpeg"]},
    "parameters of a defence": {"defense": ["jpeg"], "defense_params": {"quality": 30}},
    "radius": {"eps": ["5/255"]},
    "norm": {"norm": ["L2"]},
    "L1": {"norm": ["L1"]},
    "L0": {"norm": ["L0"]},
    "what L0 counts": {"norm": ["L0"], "l0_counts": "coordinates"},
    "target": {"target": "random"},
    "attack": {"attack": ["bim"]},
    "parameters of the attack": {"attack_params": {"steps": 3}},
    "effort": {**SEARCH, "max_passes": 40},
    "budget of an effort": {**SEARCH, "max_passes": 41},
    "engine": {"engine": "torchattacks"},
    "no challenge": {"challenge": False},
    "source": {"attack": ["transfer"], "source": ["early"]},
    "parameters of the source": {
        "attack": ["transfer"],
        "source": ["early"],
        "model_params": {"width": 4, "early.width": 6},
    },
    "protocol": {"protocol": "release"},
    "draws": {"draws": 3},
    "seed": {"seed": [1]},
    "chunk": {**RANDOM, "chunk": 5},
    "draws that share a batch": {**RANDOM, "batch_draws": 2},
    "random victim": RANDOM,
    "channels last": {"accelerate": ["channels-last"]},
    "channels last, in bfloat16": {"accelerate": ["channels-last", "bf16"]},
}
CHAINS: dict[str, dict[str, Any]] = {
    "no chain": {"eps": ["4/255"]},
    "carried": {"carry": True, "eps": ["1/255", "4/255"]},
    "carried from another radius": {"carry": True, "eps": ["2/255", "4/255"]},
    "carried through another radius": {"carry": True, "eps": ["1/255", "2/255", "4/255"]},
    "a cascade": {"cascade": True, "eps": ["4/255"], "attack": ["fgsm", "pgd"]},
    "behind another attack": {"cascade": True, "eps": ["4/255"], "attack": ["bim", "pgd"]},
    "behind two": {"cascade": True, "eps": ["4/255"], "attack": ["fgsm", "bim", "pgd"]},
}
"""What pgd at 4/255 starts from; it is the last cell of each."""


def test_every_setting_changes_the_hash(card: Path) -> None:
    hashes = {
        "none": named(card),
        **{name: named(card, **given) for name, given in (SETTINGS | CHAINS).items()},
    }
    assert hashes.pop("none") == hashes["no chain"]
    assert len(set(hashes.values())) == len(hashes), hashes


def test_what_computes_faster_has_a_revision(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = named(card, accelerate=["bf16"])
    monkeypatch.setattr(accelerated, "REVISION", accelerated.REVISION + 1)
    assert named(card, accelerate=["bf16"]) != before


FILES: dict[str, Callable[[Path], object]] = {
    "a label": a_label,
    "order of the classes": lambda card: edited(card, lambda c: c["tasks"][0]["classes"].reverse()),
    "name of a task": lambda card: edited(card, lambda c: c["tasks"][0].update(name="finding")),
    "groups": lambda card: edited(card, lambda c: c["reader"].update(group=r"image\((\d)")),
    "pixels": (
        lambda card: (card.parent / "chests" / "normal" / "image(0).png").write_bytes(
            (card.parent / "chests" / "normal" / "image(1).png").read_bytes()
        )
    ),
    "a channel more": lambda card: edited(card, lambda c: c["modalities"][0].update(channels=3)),
}


@pytest.mark.parametrize("what", FILES)
def test_everything_about_the_data_changes_the_hash(what: str, card: Path) -> None:
    before = named(card)
    FILES[what](card)
    assert named(card) != before


def test_other_weights_change_the_hash(card: Path) -> None:
    assert named(card, **weights(card)) != named(card)


REVISIONS = {
    "of the attack": [(sys.modules["robustbench_med.attacks.pgd"], "REVISION")],
    "of what all attacks see": [(sys.modules["robustbench_med.attacks.view"], "REVISION")],
    "of the network": [(fusion, "REVISION")],
    "of the scheme of random numbers": [(identity, "SCHEME")],
    "of the decoder": [(source, "REVISION"), (cache, "REVISION")],
}


@pytest.mark.parametrize("which", REVISIONS)
def test_a_revision_of_our_own_code_changes_the_hash(
    which: str, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = named(card)
    for module, name in REVISIONS[which]:
        monkeypatch.setattr(module, name, getattr(module, name) + 1)
    assert named(card) != before


def test_the_users_own_code_changes_the_hash(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "mine.py"
    model.write_text("from robustbench_med.models.fusion import LateFusion as build\n")
    hashes = [named(card, model=[f"{model}:build"])]
    model.write_text(model.read_text() + "# edited\n")
    hashes.append(named(card, model=[f"{model}:build"]))

    def still(factor: float) -> Callable[..., Any]:
        def attack(view, x, y, threat, streams):
            return x * factor

        return attack

    for factor in (1.0, 1.0, 1 - 1e-6):
        register_attack("still", still(factor))
        hashes.append(named(card, attack=["still"], attack_params={}))
    del ATTACKS["still"]
    assert hashes[2] == hashes[3]
    assert len(set(hashes)) == 4


def test_what_is_no_input_changes_nothing(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, noisy = hash_of(card), hash_of(card, **RANDOM)
    assert named(card, **RANDOM) == noisy
    same = {
        "before it is computed": named(card),
        "the same again": hash_of(card),
        "computed again": hash_of(card, {"force": True}),
        "another folder": hash_of(card, {"out": tmp_path / "other"}),
        "batch size": hash_of(card, {"batch_size": "3", "force": True}),
        "chunk of a deterministic victim": hash_of(card, chunk=5),
        "draws that would share a batch": hash_of(card, batch_draws=2),
        "other cells beside it": hash_of(card, eps=["4/255", "4/255"]),
        "another way to say the radius": hash_of(card, eps=["0.01568627450980392"]),
        "unused parameters": hash_of(card, defense_params={}),
    }
    for path in (card.parent / "chests").rglob("*.png"):
        os.utime(path, (1, 1))
    same["times of files"] = hash_of(card)
    moved = tmp_path / "elsewhere"
    card.parent.rename(moved)
    same["another place"] = hash_of(moved / card.name, {"out": tmp_path / "other"})
    monkeypatch.setattr("robustbench_med.__version__", "99.0")
    same["version of the package"] = hash_of(moved / card.name)
    assert set(same.values()) == {usual}, same
    assert hash_of(moved / card.name, {"batch_size": "3"}, **RANDOM) == noisy


def test_a_helper_that_no_import_names_is_the_users_code_too(card: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    helper, model = tmp_path / "lib" / "helper.py", tmp_path / "mine.py"
    helper.write_text("SCALE = 1.0\n")
    model.write_text(
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('aside', {str(helper)!r})\n"
        "aside = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(aside)\n"
        "from robustbench_med.models.fusion import LateFusion as build\n"
    )
    before = user_file.load(f"{model}:build").source_sha256
    helper.write_text("SCALE = 2.0\n")
    assert user_file.load(f"{model}:build").source_sha256 != before
