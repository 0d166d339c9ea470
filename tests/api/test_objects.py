"""Objects wherever names go: every kind of them in every call."""

import warnings

import pytest
import torch
from support.cli import medrobust, refused
from support.objects import (
    CELL,
    FAST,
    MODELS,
    Brighter,
    N,
    Plain,
    Two,
    darker,
    data_of_each_kind,
    half_step,
    images,
    labels,
    own_loss,
)
from torch import nn

from robustbench_med import (
    UserError,
    attack,
    certify,
    compare,
    diagnose,
    evaluate,
    leaderboard,
    make_data,
)

DATA = data_of_each_kind()
TRIALS = {"steps": 2, "queries": 2, "eot": 1, "limit": 4}


def evaluated(model, data, out, **more):
    return evaluate(model, "fgsm", data=data, out=out, **{**CELL, **more}).records


def compared(model, data, out, **more):
    more = {"defense": darker, "attack": "fgsm", **more}
    return compare(model, data=data, out=out, **{**CELL, **more}).records


def diagnosed(model, data, out, **more):
    return diagnose(model, data=data, out=out, **{**FAST, **TRIALS, **more}).rows


def certified(model, data, out, **more):
    draws = {"n0": 2, "n": 8, "sigma": 0.25, "quiet": True}
    return certify(model, data=data, out=out, **{**draws, **more}).records


CALLS = {"evaluate": evaluated, "compare": compared, "diagnose": diagnosed, "certify": certified}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", MODELS)
def test_every_network_goes_into_every_call(call, kind, tmp_path) -> None:
    model = MODELS[kind]()
    found = CALLS[call](model, (images(), labels()), tmp_path)
    assert len(found) == (2 if call == "compare" else 1)
    assert model.training
    assert model.weight.requires_grad


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", DATA)
def test_every_form_of_data_goes_into_every_call_and_gives_the_same(call, kind, tmp_path) -> None:
    found = figures(call, DATA[kind], tmp_path)
    if call not in USUAL:
        USUAL[call] = figures(call, DATA["tensors"], tmp_path / "usual")
    assert found == USUAL[call]


USUAL: dict[str, object] = {}


def figures(call, data, out) -> object:
    found = CALLS[call](Plain(), data, out)
    if call == "diagnose":
        return [(row["n"], [sign["sign"] for sign in row["signs"]]) for row in found]
    return [(record.spec.data.n, record.figures) for record in found]


@pytest.mark.parametrize("call", CALLS)
def test_modalities_by_name_tasks_and_other_sizes_go_into_every_call(call, tmp_path) -> None:
    both = {"photo": images(3), "xray": images()}  # in another order than the network's
    data = make_data(both, {"a": labels(), "b": labels()}, name="both")
    found = CALLS[call](Two(), data, tmp_path)
    if call != "diagnose":
        assert found[0].names.modalities == ["photo", "xray"]
        assert found[0].names.tasks == ["a", "b"]


@pytest.mark.parametrize("call", ["evaluate", "compare"])
@pytest.mark.parametrize("form", [half_step, {"mine": half_step}, [half_step, "fgsm"]])
def test_an_attack_is_a_function(call, form, tmp_path) -> None:
    options = {"attack": form} if call == "compare" else {}
    if call == "compare":
        found = compared(Plain(), DATA["tensors"], tmp_path, **options)
    else:
        found = evaluate(Plain(), form, data=DATA["tensors"], out=tmp_path, **CELL).records
    names = {record.spec.attack.name for record in found}
    assert names & {"half_step", "mine"}
    assert all(r.spec.attack.code for r in found if r.spec.attack.name in ("half_step", "mine"))


@pytest.mark.parametrize("call", CALLS)
def test_a_defence_is_a_module_or_a_function(call, tmp_path) -> None:
    if call == "certify":
        with pytest.raises(UserError, match="must be Gaussian noise, as in defense"):
            certified(Plain(), DATA["tensors"], tmp_path, defense=darker, sigma=[])
        return
    module = Brighter()
    found = CALLS[call](
        Plain(), DATA["tensors"], tmp_path, defense=[darker, module, {"x": darker}["x"]]
    )
    assert module.training
    names = {row["model"] if call == "diagnose" else row.spec.victim.model for row in found}
    assert {"Plain+darker", "Plain+Brighter"} <= names


def test_a_loss_is_a_function_of_one_attack_or_all(tmp_path) -> None:
    for params in ({"loss": own_loss}, {"fgsm.loss": own_loss}, {"fgsm": {"loss": own_loss}}):
        (record,) = evaluated(Plain(), DATA["tensors"], tmp_path, attack_params=params)
        assert record.spec.attack.params["loss"] == "own_loss"
        assert record.spec.attack.code


def test_the_attacked_images_are_those_of_attack_and_come_back(tmp_path) -> None:
    model, (x, y) = Plain().eval(), DATA["tensors"]
    results = evaluate(model, "fgsm", data=(x, y), out=tmp_path, **CELL)
    with pytest.raises(UserError, match="keep='all'"):
        results.adversarials  # noqa: B018
    again = evaluate(model, "fgsm", data=(x, y), out=tmp_path, keep="all", **CELL)
    assert [r.hash for r in again.records] == [r.hash for r in results.records]
    (found,) = again.adversarials
    expected = attack(model, x, y, "fgsm", eps="16/255")
    assert torch.equal(torch.from_numpy(found["image"]), expected)
    (examples,) = results.examples
    assert examples[0].sample == "0"
    evaluate(model, "fgsm", data=(x, y), out=tmp_path, keep="png", **CELL)
    assert len(list((tmp_path / "adversarials").glob("*/*.png"))) == N


def test_records_of_objects_are_like_others_but_no_command_makes_them(tmp_path) -> None:
    (record,) = evaluated(Plain(), DATA["tensors"], tmp_path, name="mine")
    assert record.command.startswith("robustbench_med.evaluate(model=<mine>, data=<data>,")
    assert record.victim.origin == "object"
    assert leaderboard(tmp_path).table.model[0] == "mine"
    medrobust("verify", "--out", str(tmp_path))
    medrobust("report", "--out", str(tmp_path), "--no-figures", "--quiet")
    said = refused(medrobust("rerun", "--hash", record.short, "--out", tmp_path, check=2))
    assert "of objects that no file holds (mine, data)" in said
    with pytest.raises(UserError, match="registered in this process alone"):
        evaluated(Plain(), DATA["tensors"], tmp_path, jobs=2)


def test_random_states_and_grad_mode_stay(tmp_path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = nn.Sequential(nn.Dropout(0.1), Plain())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluated(model, DATA["loader"], tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Plain, {}, "model: expected a name or a torch.nn.Module, got the class Plain"),
        (Plain(), {"data": None}, "data: expected a name"),
        (Plain(), {"data": (images(), labels()[:3])}, r"labels of the test part .*\(6,\)"),
        (Plain(), {"data": (images() * 255, labels())}, "must lie in"),
        (Plain(), {"data": (images(), labels() + 4)}, "3 classes, the data set 'data' 7 classes"),
        (Plain(3), {}, "forward raised RuntimeError"),
        (Plain(), {"defense": "pgd-at"}, "is trained already, and pgd-at is a matter of training"),
        (Plain(), {"attack": lambda *_: None}, "a function without a name"),
        (Plain(), {"attack": Plain()}, "attack: expected a name or a function"),
        (Plain(), {"name": "late"}, "there is a model 'late' in medrobust"),
        (Plain(), {"size": 32}, "size= is for data of files"),
        (Plain(), {"data": (images(), 0 * labels() - 1)}, "test: no sample has a label of label"),
        (Plain(), {"checkpoint": "w.pt"}, "checkpoint: Plain has its weights already"),
        ("late", {"name": "mine"}, "name= is what a network of yours is called"),
        ([Plain(), Plain(scale=2.0)], {}, "there is another model 'Plain' already"),
        ("late", {}, "has no part to train on"),
    ],
)
def test_what_cannot_be_is_one_line(model, options, said, tmp_path) -> None:
    asked = {"attack": "fgsm", "data": (images(), labels()), **options}
    with pytest.raises(UserError, match=said) as found:
        evaluate(model, out=tmp_path, **CELL, **asked)
    assert "\n" not in str(found.value)
    assert "--" not in str(found.value)
