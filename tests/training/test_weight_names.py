"""Weights under other names than the model's: prefixes, EMA copies, wrappers; and models whose code
loads its own.
"""

import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.cli import medrobust, refused
from support.own_victims import built, written
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robustbench_med.dataspec import Reading
from robustbench_med.errors import UserError
from robustbench_med.training import checkpoints, weight_names


class Net(nn.Module):
    """Two blocks of equal shapes, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
        )
        self.head = nn.Linear(4, 2)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Net()


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def loaded(
    path: Path, into: nn.Module, *asked: str, part: str | None = None
) -> checkpoints.Checkpoint:
    reading = Reading(part=part, map=asked)
    return checkpoints.load_weights(into, checkpoints.open_checkpoint(path, reading))


def same(one: nn.Module, other: nn.Module, **tolerance: float) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return all(
        torch.allclose(mine[name].float(), theirs[name].float(), **tolerance) for name in mine
    )


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


# --- what is taken without being asked ------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.net.", "whatever."])
@pytest.mark.parametrize("half", [False, True])
def test_a_prefix_before_all_names_is_taken_off_and_kept_in_the_record(
    prefix, half, tmp_path
) -> None:
    trained, fresh, path = net(), net(1), tmp_path / "w.ckpt"
    state = {
        n: t.half() if half and t.is_floating_point() else t
        for n, t in trained.state_dict().items()
    }
    torch.save(
        {
            "state_dict": under(prefix, state),
            "epoch": 3,
            "optimizer": {"state": {0: {"step": torch.ones(1)}}},
        },
        path,
    )
    read = loaded(path, fresh)
    assert same(fresh, trained, atol=1e-3 if half else 0)
    assert all(p.dtype is torch.float32 for p in fresh.parameters())
    assert read.reading.told == {"names": {prefix: ""}}


def test_a_prefix_that_the_file_lacks_is_put_before_all_names(tmp_path) -> None:
    trained, fresh = net(), Wrapped()
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "w.safetensors")
    assert loaded(tmp_path / "w.safetensors", fresh).reading.told == {"names": {"": "model."}}
    assert same(fresh.model, trained)


def test_an_averaged_model_is_read_without_its_counter(tmp_path) -> None:
    averaged = AveragedModel(net(), multi_avg_fn=get_ema_multi_avg_fn(0.5))
    torch.save(averaged.state_dict(), tmp_path / "w.pt")
    fresh = net(1)
    assert loaded(tmp_path / "w.pt", fresh).reading.names == {"module.": "", "n_averaged": None}
    assert same(fresh, averaged.module)


def test_the_same_names_say_nothing(tmp_path) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pt")
    assert loaded(tmp_path / "w.pt", net(1)).reading.told == {}


# --- several sets of weights ----------------------------------------------------------------------


def test_an_averaged_copy_is_told_of_and_taken_when_asked_for(tmp_path) -> None:
    plain, averaged, path, fresh = net(), net(5), tmp_path / "w.pth", net(1)
    torch.save(
        {
            "state_dict": plain.state_dict(),
            "ema": {"model": under("module.", averaged.state_dict())},
        },
        path,
    )
    with pytest.warns(match=r"others too, --checkpoint-part takes them: ema\.model"):
        assert loaded(path, fresh).reading.told == {}
    assert same(fresh, plain)
    assert loaded(path, fresh, part="ema.model").reading.told == {
        "part": "ema.model",
        "names": {"module.": ""},
    }
    assert same(fresh, averaged)
    with pytest.raises(UserError, match=r"no weights under 'emma'; it has: state_dict, ema.model"):
        loaded(path, fresh, part="emma")


def test_two_sets_under_unusual_keys_are_not_chosen_between(tmp_path) -> None:
    torch.save({"student": net().state_dict(), "teacher": net(5).state_dict()}, tmp_path / "w.pt")
    with pytest.raises(
        UserError,
        match="several sets of weights, student, teacher; say which one, --checkpoint-part student",
    ):
        loaded(tmp_path / "w.pt", net(1))


def test_two_prefixes_that_both_fit_are_not_chosen_between(tmp_path) -> None:
    """What Lightning keeps of a module that holds its average beside it."""
    averaged, fresh, path = net(5), net(1), tmp_path / "w.ckpt"
    torch.save(
        {"state_dict": under("model.", net().state_dict()) | under("ema.", averaged.state_dict())},
        path,
    )
    with pytest.raises(UserError) as refusal:
        loaded(path, fresh)
    offered = [
        re.findall(r"--checkpoint-map '([^']*)'", part)
        for part in str(refusal.value).split("; or ")
    ]
    assert sorted(offered) == [["ema.=", "model.=-"], ["model.=", "ema.=-"]]
    asked = next(one for one in offered if one[0] == "ema.=")
    assert loaded(path, fresh, *asked).reading.names == {"ema.": "", "model.": None}
    assert same(fresh, averaged)


def test_a_file_that_holds_itself_ends(tmp_path) -> None:
    inner: dict[str, object] = {f"key {i}": 1 for i in range(50)}
    for key in list(inner):
        inner[key] = inner
    torch.save({"weights": net().state_dict(), "loop": inner}, tmp_path / "w.pt")
    fresh = net(1)
    loaded(tmp_path / "w.pt", fresh)
    assert same(fresh, net())


# --- what is offered ------------------------------------------------------------------------------


def test_a_wrapper_that_renames_parts_is_offered_a_mapping_that_then_does(tmp_path) -> None:
    trained, fresh, path = net(), net(1), tmp_path / "w.pt"
    other = {"stem.": "features.first.", "blocks.": "features.rest.", "head.": "classifier."}
    torch.save(
        {weight_names.renamed([n], other)[n]: t for n, t in trained.state_dict().items()}, path
    )
    with pytest.raises(UserError, match="does not fit this model: it lacks blocks") as refusal:
        loaded(path, fresh)
    asked = re.findall(r"--checkpoint-map '([^']*)'", str(refusal.value))
    assert sorted(asked) == sorted(f"{new}={old}" for old, new in other.items())
    loaded(path, fresh, *asked)
    assert same(fresh, trained)


def test_names_that_have_nothing_in_common_are_offered_in_their_order(tmp_path) -> None:
    trained, fresh, path = net(), net(1), tmp_path / "w.pt"
    torch.save({f"p{i}": t for i, t in enumerate(trained.state_dict().values())}, path)
    with pytest.raises(
        UserError,
        match=r"same order: --checkpoint-map order takes them so \(p0 -> stem.weight and 17 more",
    ):
        loaded(path, fresh)
    names = loaded(path, fresh, "order").reading.names
    assert same(fresh, trained)
    assert names["p2"] == "blocks.0.0.weight"
    torch.save({f"p{i}": t for i, t in enumerate(reversed(trained.state_dict().values()))}, path)
    with pytest.raises(
        UserError,
        match=r"order: .* not those of the model in the same order \(p0 is \(2,\), stem.weight is \(4, 1, 3, 3\)",
    ):
        loaded(path, fresh, "order")


def test_what_fits_nowhere_is_named_with_what_is_nearest(tmp_path) -> None:
    state = net().state_dict()
    state["head.wieght"] = state.pop("head.weight")
    state["blocks.0.0.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(
        UserError,
        match=r"lacks head.weight and has besides head.wieght; nearest: head.wieght \(2, 4\) for head.weight \(2, 4\)",
    ):
        loaded(tmp_path / "w.pt", net(1))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["model"], "takes OLD=NEW"),
        (["modul.="], "no name in .* begins with 'modul.'; it has stem.weight"),
        (["blocks.1.=blocks.0."], "makes two tensors of .* one: blocks.0.0.weight"),
        (["head.=-"], "it lacks head.bias, head.weight"),
    ],
)
def test_a_mapping_that_does_not_do_says_why(asked, message, tmp_path) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=message):
        loaded(tmp_path / "w.pt", net(1), *asked)


# --- from the shell -------------------------------------------------------------------------------

RUN = ["run", "--attack", "fgsm", "--no-control", "--no-challenge", "--limit", 4, "--size", 32]
LOADS = "net = Net(channels, class_counts)\nnet.load_state_dict(torch.load({path!r}))\nreturn net"
DRAWN = "net = Net(channels, class_counts)\nwith torch.no_grad(): net.gain.fill_(float(torch.rand(1)))\nreturn net"


def the_record(out: Path) -> dict:
    (path,) = (out / "records").glob("*.json")
    return json.loads(path.read_text())


def test_a_run_holds_the_mapping_in_its_record_and_command(tmp_path) -> None:
    torch.manual_seed(0)
    model = written(tmp_path)
    safetensors.torch.save_file({"core.gain": torch.ones(1)}, tmp_path / "bad.safetensors")
    line = refused(
        medrobust(
            *RUN,
            "--model",
            model,
            "--checkpoint",
            tmp_path / "bad.safetensors",
            "--out",
            tmp_path / "o",
            check=2,
        )
    )
    assert "lacks encoders.0.0.bias" in line
    state = built(model).state_dict()
    moved = {name.replace("heads.", "tops."): tensor for name, tensor in state.items()}
    safetensors.torch.save_file(moved, tmp_path / "w.safetensors")
    given = ["--model", model, "--checkpoint", tmp_path / "w.safetensors", "--out", tmp_path / "o"]
    assert "--checkpoint-map 'tops.=heads.'" in refused(medrobust(*RUN, *given, check=2))
    shown = medrobust(*RUN, *given, "--checkpoint-map", "tops.=heads.").stderr
    assert "names of tensors changed, tops. -> heads." in " ".join(shown.split())
    record = the_record(tmp_path / "o")
    assert record["spec"]["victim"]["reading"] == {"names": {"tops.": "heads."}}
    assert "--checkpoint-map tops.=heads." in record["command"]


def test_a_model_that_loads_its_weights_is_never_trained_over_unasked(tmp_path) -> None:
    plain = written(tmp_path, name="plain.py")
    weights = str(tmp_path / "w.pt")
    torch.save(built(plain).state_dict(), weights)
    model, out = written(tmp_path, build=LOADS.format(path=weights)), tmp_path / "o"
    line = refused(medrobust(*RUN, "--model", model, "--out", out, check=2))
    assert "--no-train evaluates it with these, --train trains it over" in line
    shown = medrobust(*RUN, "--model", model, "--no-train", "--out", out).stderr
    assert "training" not in shown
    record = the_record(out)
    assert record["victim"]["origin"] == "build"
    assert "--no-train" in record["command"]
    again = medrobust(*RUN, "--model", model, "--no-train", "--out", out).stderr
    assert "done before" in again
    torch.save({name: 2 * t for name, t in torch.load(weights).items()}, weights)
    assert "done before" not in medrobust(*RUN, "--model", model, "--no-train", "--out", out).stderr


def test_a_model_that_draws_weights_is_not_taken_for_trained(tmp_path) -> None:
    model = written(tmp_path, build=DRAWN)
    line = refused(
        medrobust(*RUN, "--model", model, "--no-train", "--out", tmp_path / "o", check=2)
    )
    assert "--no-train: model.py:build draws gain, encoders.0.0.weight" in line
    line = refused(
        medrobust(
            *RUN,
            "--model",
            "late",
            "--train-seed",
            77,
            "--no-train",
            "--out",
            tmp_path / "o",
            check=2,
        )
    )
    assert "late has no weights yet; give --checkpoint" in line
