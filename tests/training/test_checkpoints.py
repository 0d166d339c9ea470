"""Files of weights: what PyTorch saves, sidecars, interrupted trainings; whatever is damaged,
foreign or not finite is one line.
"""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.cli import SMALL, medrobust, refused
from support.memory import obtain_from
from support.trainings import CPU, kill_at, spec_of, train
from torch import nn

from robustbench_med.data import Dataset
from robustbench_med.errors import UserError
from robustbench_med.models import registry
from robustbench_med.training import checkpoints, loop

pytestmark = pytest.mark.fresh

LATE = [
    "run",
    "--model",
    "late",
    "--model-param",
    "width=4",
    "--attack",
    "fgsm",
    "--no-control",
    "--limit",
    4,
    "--size",
    32,
]


def late() -> nn.Module:
    torch.manual_seed(0)
    return registry.build("late", (1, 1), (4, 3), {"width": 4}, image_size=32)


# --- what PyTorch saves ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        *((suffix, "plain") for suffix in (".pt", ".pth", ".ckpt", ".bin", ".PT")),
        *((".pt", form) for form in ("state_dict", "model_state_dict", "legacy", "half")),
    ],
)
def test_a_state_dict_is_read_and_its_hash_kept(suffix: str, form: str, tmp_path) -> None:
    victim, path = late(), tmp_path / f"mine{suffix}"
    state = victim.state_dict()
    if form == "half":
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    saved = {form: state, "epoch": 3, "lr": 0.1} if form.endswith("state_dict") else state
    torch.save(saved, path, _use_new_zipfile_serialization=form != "legacy")
    path.with_suffix(".json").write_text("{}")  # a sidecar is for safetensors alone
    checkpoint = checkpoints.open_checkpoint(path)
    assert checkpoint.sidecar == {}
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    other = registry.build("late", (1, 1), (4, 3), {"width": 4}, image_size=32)
    checkpoints.load_weights(other, checkpoint)
    for name, tensor in victim.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_a_state_dict_runs_as_safetensors_do_from_the_shell(tmp_path) -> None:
    torch.save({"state_dict": late().state_dict()}, tmp_path / "a.pth")
    safetensors.torch.save_file(late().state_dict(), tmp_path / "b.safetensors")
    figures = []
    for name in ("a.pth", "b.safetensors"):
        medrobust(*LATE, "--checkpoint", tmp_path / name, "--out", tmp_path / name[0])
        (record,) = [
            json.loads(path.read_text()) for path in (tmp_path / name[0] / "records").glob("*.json")
        ]
        assert (
            record["spec"]["victim"]["weights_sha256"]
            == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        )
        assert record["victim"]["checkpoint"] == name
        figures.append(record["figures"])
    assert figures[0] == figures[1]
    medrobust(
        "train",
        "--model",
        "late",
        "--model-param",
        "width=4",
        *SMALL,
        "--checkpoint",
        tmp_path / "a.pth",
        "--out",
        tmp_path / "t",
    )


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("import pathlib; pathlib.Path('ran').write_text('it did')",)


def damaged(path: Path, kind: str) -> None:
    if kind == "whole model":
        torch.save(late(), path)
    elif kind == "whole model, nested":
        torch.save({"model": nn.Linear(2, 2), "epoch": 1}, path)
    elif kind == "TorchScript":
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    elif kind == "code":
        path.write_bytes(pickle.dumps({"a": Evil()}))
    elif kind == "a list":
        torch.save([torch.zeros(1)], path)
    elif kind == "a tensor":
        torch.save(torch.zeros(1), path)
    elif kind == "other things":
        torch.save({"weights": {"a": torch.zeros(1)}, "epoch": 3}, path)
    elif kind in ("cut", "half"):
        torch.save(late().state_dict(), path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - 40 if kind == "cut" else len(data) // 2])
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"hello, these are no weights",
                "zip": b"PK\x03\x04 nothing",
                "zeros": bytes(1000),
            }[kind]
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("kind", "message", "suffix"),
    [
        ("whole model", "torch.save(model.state_dict(), 'weights.pt')", ".pt"),
        ("whole model, nested", "torch.save(model.state_dict(), 'weights.pt')", ".pt"),
        ("TorchScript", "a TorchScript archive", ".pt"),
        ("code", "can run code", ".pt"),
        ("code", "can run code", ".bin"),
        ("a list", "holds a list, not a state_dict", ".pt"),
        ("a tensor", "holds a Tensor, not a state_dict", ".pt"),
        ("other things", "does not fit this model: it lacks", ".pt"),
        *((kind, "mine", ".pt") for kind in ("cut", "half", "empty", "text", "zip", "zeros")),
    ],
)
def test_a_pickle_that_is_no_state_dict_is_one_line_and_runs_nothing(
    kind: str, message: str, suffix: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged(tmp_path / f"mine{suffix}", kind)
    line = refused(
        medrobust(
            *LATE, "--checkpoint", tmp_path / f"mine{suffix}", "--out", tmp_path / "o", check=2
        )
    )
    assert message in line
    assert len(line) < 400
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".txt", ""])
def test_what_is_neither_is_refused(suffix: str, tmp_path) -> None:
    torch.save(late().state_dict(), tmp_path / f"mine{suffix}")
    line = refused(
        medrobust(
            *LATE, "--checkpoint", tmp_path / f"mine{suffix}", "--out", tmp_path / "o", check=2
        )
    )
    assert "cannot read the safetensors file" in line


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path) -> None:
    safetensors.torch.save_file(late().state_dict(), tmp_path / "mine.safetensors")
    checkpoint = checkpoints.open_checkpoint(tmp_path / "mine.safetensors")
    safetensors.torch.save_file(
        {k: v + 1 for k, v in late().state_dict().items()}, tmp_path / "mine.safetensors"
    )
    with pytest.raises(UserError, match="has changed since it was opened"):
        checkpoints.load_weights(late(), checkpoint)


# --- not finite -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_are_not_finite_are_refused_by_name(
    value: float, suffix: str, tmp_path
) -> None:
    state = {name: tensor.clone() for name, tensor in late().state_dict().items()}
    names = sorted(name for name, t in state.items() if t.is_floating_point())
    for name in names[-2:]:
        state[name].view(-1)[0] = value
    path = tmp_path / f"mine{suffix}"
    torch.save(state, path) if suffix == ".pt" else safetensors.torch.save_file(state, path)
    line = refused(medrobust(*LATE, "--checkpoint", path, "--out", tmp_path / "o", check=2))
    assert "NaN or infinite" in line
    assert all(name in line for name in names[-2:])
    assert names[0] not in line


def test_infinities_that_a_victim_is_built_with_are_no_fault() -> None:
    fresh = torch.tensor([0.0, -torch.inf, torch.nan])
    assert checkpoints.sound(torch.tensor([1.0, -torch.inf, 2.0]), fresh)
    assert not checkpoints.sound(torch.tensor([1.0, torch.inf, 2.0]), fresh)
    assert not checkpoints.sound(torch.tensor([1.0, -torch.inf, torch.nan]), fresh)
    assert checkpoints.sound(torch.tensor([3]), torch.tensor([0]))


@pytest.mark.parametrize("recipe", [{"lr": 1e30, "clip_norm": None}, {"lr": 1e37}])
def test_a_training_that_diverges_is_one_line_and_leaves_nothing(recipe, pair, home) -> None:
    spec = spec_of(pair, schedule="plateau", eval_every=1, **recipe)
    with pytest.raises(
        UserError,
        match=(
            r"^the training of late has diverged: its .* is (nan|inf) at step \d.*lower the"
            r" learning rate"
        ),
    ):
        train(spec, pair)
    assert not list((home / "checkpoints").glob("*"))


# --- sidecars -------------------------------------------------------------------------------------


@pytest.fixture
def trained(pair, shared_victims) -> checkpoints.Checkpoint:
    return trained_before(pair, shared_victims)


def trained_before(pair: Dataset, shared: Path, *, seed: int = 0) -> checkpoints.Checkpoint:
    """A victim in the home of the test, from those that tests share."""
    return obtain_from(shared)(
        spec_of(pair, seed=seed),
        pair,
        CPU,
        tick=lambda *_: None,
        say=print,
        command="medrobust train",
    )


SIDECARS = {
    "{}": lambda own, other: "{}",
    "a list": lambda own, other: "[]",
    "null": lambda own, other: "null",
    "empty": lambda own, other: "",
    "no JSON": lambda own, other: "{",
    "no text": lambda own, other: "\udcff",
    "another training's": lambda own, other: json.dumps(other),
    "another training under these weights": lambda own, other: json.dumps(
        {**own, "training": other["training"]}
    ),
    "another hash": lambda own, other: json.dumps({**own, "training_hash": other["training_hash"]}),
    "another seed": lambda own, other: json.dumps(
        {**own, "training": {**own["training"], "seed": 5}}
    ),
    "a training that is a text": lambda own, other: json.dumps({**own, "training": "mine"}),
    "no history": lambda own, other: json.dumps({**own, "history": []}),
    "history of numbers": lambda own, other: json.dumps({**own, "history": [1]}),
    "validation of numbers": lambda own, other: json.dumps({**own, "validation": [1]}),
}
LACKING = (
    "training",
    "training_hash",
    "weights_sha256",
    "history",
    "best_step",
    "validation",
    "command",
)


@pytest.mark.parametrize("kind", [*SIDECARS, *LACKING])
def test_a_sidecar_that_is_not_of_these_weights_and_their_training_is_refused(
    kind: str, trained, pair, shared_victims, tmp_path
) -> None:
    sidecar = trained.path.with_suffix(".json")
    own = json.loads(sidecar.read_text())
    another = trained_before(pair, shared_victims, seed=1)
    other = json.loads(another.path.with_suffix(".json").read_text())
    text = (
        json.dumps({k: v for k, v in own.items() if k != kind})
        if kind in LACKING
        else SIDECARS[kind](own, other)
    )
    sidecar.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="sidecar") as refusal:
        checkpoints.open_checkpoint(trained.path)
    assert "\n" not in str(refusal.value)
    assert "train again" in str(refusal.value)
    with pytest.raises(UserError, match="sidecar"):
        loop.obtain(spec_of(pair), pair, CPU, tick=kill_at(1), say=print, command="medrobust train")
    shutil.copy(trained.path, tmp_path / "mine.safetensors")
    shutil.copy(sidecar, tmp_path / "mine.json")
    assert "sidecar" in refused(
        medrobust(
            *LATE, "--checkpoint", tmp_path / "mine.safetensors", "--out", tmp_path / "o", check=2
        )
    )
    for_cards = kind not in (
        "another training's",
    )  # there, the sidecar of other weights is passed over
    if for_cards:
        with pytest.raises(UserError, match="no sidecar of medrobust's"):
            checkpoints.find_sidecar("mine.safetensors", trained.sha256, [tmp_path])


def test_another_training_under_a_cached_name_is_refused(trained, pair) -> None:
    other = train(spec_of(pair, seed=1), pair)
    for suffix in (".safetensors", ".json"):
        shutil.copy(other.path.with_suffix(suffix), trained.path.with_suffix(suffix))
    with pytest.raises(UserError, match="are the weights of another training"):
        loop.obtain(spec_of(pair), pair, CPU, tick=kill_at(1), say=print, command="medrobust train")


def test_a_sidecar_as_it_was_written_is_accepted(trained, pair) -> None:
    assert checkpoints.open_checkpoint(trained.path).sidecar["training_hash"]
    assert (
        loop.obtain(spec_of(pair), pair, CPU, tick=kill_at(1), say=print, command="medrobust train")
        == trained
    )
