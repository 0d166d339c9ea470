"""Parts of the user's own: registered, brought by packages, and told in one line what is wrong."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from support.cli import medrobust
from support.objects import CELL, Plain, darker, half_step, images, labels, own_loss

from robustbench_med import UserError, evaluate, load_data, register, report
from robustbench_med.errors import Notice
from robustbench_med.runs import packages, registration

DATA = (images(), labels())


def hashes(records) -> pd.DataFrame:
    return pd.DataFrame({"hash": [record.short for record in records]})


PARTS = {
    "attack": half_step,
    "loss": own_loss,
    "defense": darker,
    "model": Plain(),
    "dataset": DATA,
    "report": hashes,
}
ASKED = {
    "model": "mine",
    "attack": "mine",
    "defense": "mine",
    "data": "mine",
}


def test_each_kind_is_registered_under_a_name_that_goes_everywhere(tmp_path) -> None:
    for kind, part in PARTS.items():
        register(kind, "mine", part)
    (record,) = evaluate(**ASKED, out=tmp_path, **CELL).records
    assert record.spec.victim.model == "mine+mine"
    assert (record.spec.attack.name, record.spec.data.name) == ("mine", "mine")
    (other,) = evaluate(
        **ASKED | {"attack": "fgsm"}, attack_params={"loss": "mine"}, out=tmp_path, **CELL
    ).records
    assert other.spec.attack.params["loss"] == "mine"
    report(tmp_path, html=False, figures=False)
    assert len(pd.read_csv(tmp_path / "mine.csv")) == 2
    assert len(load_data("mine").splits["test"]) == len(DATA[0])


def test_a_registered_network_is_what_it_is_now(tmp_path) -> None:
    network = Plain()
    register("model", "mine", network)
    options = {"data": DATA, "out": tmp_path, **CELL}
    (first,) = evaluate("mine", "fgsm", **options).records
    network.weight.data += 0.1
    (second,) = evaluate("mine", "fgsm", **options).records
    assert first.hash != second.hash
    assert network.training


def test_a_file_registers_them_for_the_command_line(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\nfrom robustbench_med import register\n"
        "net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))\n"
        "register('model', 'mine', net)\n"
        "x = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))\n"
        "register('dataset', 'here', (x, torch.arange(6) % 3))\n"
    )
    options = ["--include", tmp_path / "mine.py", "--no-challenge", "--quiet", "--limit", "0"]
    out = ["--out", tmp_path / "out"]
    medrobust("run", "-m", "mine", "--data", "here", "-a", "fgsm", "--eps", "8/255", *options, *out)
    assert "mine" in medrobust("leaderboard", *out).stdout


def returning(value):
    def wrong(view, x, y, threat, streams):
        return value(x)

    return wrong


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda x: None, r"attack 'wrong' returned NoneType, expected a tensor of .*\(6, 36\)"),
        (lambda x: x.numpy(), "attack 'wrong' returned ndarray"),
        (lambda x: x[:, :3], r"attack 'wrong' returned a tensor \(6, 3\), expected \(6, 36\)"),
        (lambda x: x + 2, r"attack 'wrong' returned a pixel outside \[0, 1\]"),
        (lambda x: 1 - x, "attack 'wrong' moved modality 0 by .* further than its radius"),
    ],
)
def test_a_wrong_return_of_an_attack_names_it(value, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said) as found:
        evaluate(Plain(), returning(value), data=DATA, out=tmp_path, **CELL)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda z, y: None, r"loss 'wrong' returned NoneType, expected a tensor \(6,\)"),
        (lambda z, y: z.sum(), r"loss 'wrong' returned \(\), expected a tensor \(6,\)"),
    ],
)
def test_a_wrong_return_of_a_loss_names_it(value, said, tmp_path) -> None:
    def wrong(z, y):
        return value(z, y)

    with pytest.raises(UserError, match=said):
        evaluate(Plain(), "fgsm", attack_params={"loss": wrong}, data=DATA, out=tmp_path, **CELL)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda x: None, "defence 'wrong' returned NoneType, expected images"),
        (lambda x: x[..., :3], "defence 'wrong' returned images .* it must keep their shape"),
    ],
)
def test_a_wrong_return_of_a_defence_names_it(value, said, tmp_path) -> None:
    def wrong(x):
        return value(x)

    with pytest.raises(UserError, match=said):
        evaluate(Plain(), "fgsm", defense=wrong, data=DATA, out=tmp_path, **CELL)


def test_a_wrong_return_of_a_report_names_it(tmp_path) -> None:
    evaluate(Plain(), "fgsm", data=DATA, out=tmp_path, **CELL)
    register("report", "wrong", lambda records: 3)
    with pytest.raises(UserError, match="report 'wrong' returned int, expected a pandas DataFrame"):
        report(tmp_path, html=False, figures=False)


@pytest.mark.parametrize(
    ("kind", "name", "thing", "said"),
    [
        ("atack", "mine", half_step, "unknown kind 'atack'; did you mean attack"),
        ("attack", "pgd", half_step, "there is an attack 'pgd' in medrobust"),
        ("attack", "a b", half_step, "'a b' is no name"),
        ("loss", "mine", 3, "loss 'mine' must be a function or class, got int"),
        ("defense", "mine", np.zeros(3), "defense: expected a name, a torch.nn.Module"),
        ("dataset", "mine", 3, "the test part must be a Dataset of medrobust"),
    ],
)
def test_what_cannot_be_registered_is_one_line(kind, name, thing, said) -> None:
    with pytest.raises(UserError, match=said):
        register(kind, name, thing)


def point(name, thing, module="numpy"):
    def load():
        if isinstance(thing, Exception):
            raise thing
        return thing

    dist = SimpleNamespace(name="plugin", version="1.0")
    return SimpleNamespace(name=name, load=load, module=module, dist=dist)


def test_packages_bring_parts_and_a_broken_one_is_named(tmp_path, monkeypatch) -> None:
    found = {
        "medrobust.attacks": [point("brought", half_step)],
        "medrobust.losses": [point("broken", ImportError("no module named this"))],
    }
    monkeypatch.setattr(packages, "entry_points", lambda group: found.get(group, []))
    packages.load.cache_clear()
    with pytest.warns(Notice, match=r"loss 'broken' of the package plugin 1.0 .* ImportError"):
        packages.load()
    (record,) = evaluate(Plain(), "brought", data=DATA, out=tmp_path, **CELL).records
    assert record.spec.attack.name == "brought"
    assert registration.only_here({"brought"}) == []
