"""A model of the user's own: a file's function wherever a model can be named."""

import json
import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.cli import SMALL, medrobust, refused
from support.files import ROOT

from robustbench_med.models import registry, user_file

DOCS = ROOT / "docs"

BROKEN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, counts, stochastic=False):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(1, n) for n in counts)
    def forward(self, *xs):
        return tuple(head(xs[0].mean((1, 2, 3))[:, None]) for head in self.heads)

def raises(channels, counts):
    raise RuntimeError("two\\nlines")

def nothing(channels, counts):
    return None

def one_output(channels, counts):
    return Net(counts[:1])

def other_classes(channels, counts):
    return Net([n + 1 for n in counts])

def fewer_modalities(channels, counts):
    net = Net(counts)
    net.n_modalities = 1
    return net

def one_tensor(channels, counts):
    net = Net(counts)
    net.forward = lambda *xs: xs[0]
    return net

def crashes(channels, counts):
    return nn.Linear(1, 1)

def weightless(channels, counts):
    net = Net([])
    net.forward = lambda *xs: tuple(torch.zeros(len(xs[0]), n) for n in counts)
    return net

def wants(channels, counts, *, depth):
    return Net(counts)
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """The file of docs/own_model.md."""
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "own_model.md").read_text(), re.DOTALL)
    (tmp_path / "my_model.py").write_text(block)
    return f"{tmp_path / 'my_model.py'}:build"


def records(out: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    return {record["hash"]: record for record in found}


def test_the_documented_model_trains_runs_and_resumes_and_an_edited_file_is_another_victim(
    mine, tmp_path
) -> None:
    run = [
        "run",
        "--attack",
        "fgsm",
        "--no-control",
        "--limit",
        8,
        *SMALL,
        "--model-param",
        "width=4",
        "--out",
        tmp_path / "o",
    ]
    assert "training my_model.py:build" in medrobust(*run, "--model", mine).stderr
    (first,) = records(tmp_path / "o").values()
    assert first["spec"]["victim"]["model"] == "my_model.py:build"
    assert first["spec"]["victim"]["source_sha256"] == user_file.load(mine).source_sha256
    assert str(tmp_path) not in json.dumps(first["spec"])

    moved = tmp_path / "elsewhere" / "my_model.py"
    moved.parent.mkdir()
    shutil.copy(mine.removesuffix(":build"), moved)
    again = medrobust(
        *run, "--model", f"{moved}:build"
    ).stderr  # the folder is no part of a specification
    assert "done before" in again
    assert "training" not in again

    moved.write_text(moved.read_text().replace("2 * x - 1", "x"))
    assert "training" in medrobust(*run, "--model", f"{moved}:build").stderr
    assert len(records(tmp_path / "o")) == 2


def test_own_weights_are_loaded_and_fine_tuned(mine, tmp_path) -> None:
    victim = registry.build(mine, (1, 1), (4, 3), {}, image_size=64)
    assert (victim.n_modalities, victim.class_counts, victim.stochastic) == (2, (4, 3), False)
    weights = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(victim.state_dict(), weights)
    own_weights = ["--model", mine, "--checkpoint", weights]
    medrobust(
        "run",
        *own_weights,
        "--attack",
        "fgsm",
        "--no-control",
        "--limit",
        8,
        "--out",
        tmp_path / "o",
    )
    (record,) = records(tmp_path / "o").values()
    assert record["victim"]["checkpoint"] == "mine.safetensors"
    medrobust(
        "diagnose",
        *own_weights,
        "--limit",
        2,
        "--steps",
        2,
        "--queries",
        2,
        "--out",
        tmp_path / "d",
    )
    assert (
        json.loads((tmp_path / "d" / "diagnostics.json").read_text())[0]["model"]
        == "my_model.py:build"
    )
    assert "my_model.py:build" in medrobust("cost", *own_weights).stdout

    slow = [
        "--recipe",
        "steps=1",
        "--recipe",
        "batch_size=4",
        "--recipe",
        "lr=1e-9",
        "--recipe",
        "weight_decay=0",
    ]
    medrobust("train", *own_weights, *slow, "--out", tmp_path / "t")
    (trained,) = (tmp_path / "t").glob("*.safetensors")
    tuned = safetensors.torch.load_file(trained)
    for name, tensor in victim.state_dict().items():
        torch.testing.assert_close(
            tuned[name], tensor, atol=1e-6, rtol=0
        )  # one step of nothing: they began there
    assert json.loads(trained.with_suffix(".json").read_text())["training"]["start_sha256"] != ""


def test_a_comparison_gives_own_weights_to_the_victims_that_are_not_trained_anew(
    mine, tmp_path
) -> None:
    victim = registry.build(mine, (1, 1), (4, 3), {"width": 4}, image_size=32)
    weights = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(victim.state_dict(), weights)
    medrobust("compare", "--model", mine, "--checkpoint", weights, "--model-param", "width=4", "--defense", "bit-depth,pgd-at", "--attack",
              "fgsm", "--limit", 4, *SMALL, "--out", tmp_path / "o")  # fmt: skip
    origin = {
        r["spec"]["victim"]["model"]: r["victim"]["checkpoint"]
        for r in records(tmp_path / "o").values()
    }
    assert (
        origin["my_model.py:build"] == origin["my_model.py:build+bit-depth"] == "mine.safetensors"
    )
    assert origin["my_model.py:build+pgd-at"] != "mine.safetensors"
    assert r"| my\_model.py:build | pgd-at |" in (tmp_path / "o" / "compare.md").read_text()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", "it raised RuntimeError: two lines (line 13)"),
        ("nothing", "it returned NoneType, expected a torch.nn.Module"),
        (
            "one_output",
            "logits of shapes [(2, 4)] on 2 samples, this data's tasks need [(2, 4), (2, 3)]",
        ),
        ("other_classes", "logits of shapes [(2, 5), (2, 4)]"),
        ("fewer_modalities", "its n_modalities is 1, but this data has 2"),
        ("one_tensor", "must return a tuple of logits, one tensor a task (2), got Tensor"),
        ("crashes", "its forward raised TypeError"),
        ("weightless", "it has no parameters"),
        ("wants", "missing 1 required keyword-only argument: 'depth'"),
        ("absent", "has no function 'absent'; it has: "),
        ("", "name the function too"),
    ],
)
def test_a_function_that_cannot_be_used_is_one_line_and_exit_code_2(
    function, message, tmp_path
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    name = f"{tmp_path / 'broken.py'}:{function}".removesuffix(":")
    assert message in refused(
        medrobust("run", "--model", name, "--limit", 2, "--out", tmp_path / "o", check=2)
    )


def test_a_file_that_cannot_be_used_is_one_line_and_exit_code_2(tmp_path) -> None:
    run = ["run", "--limit", 2, "--out", tmp_path / "o"]
    assert "cannot read" in refused(
        medrobust(*run, "--model", tmp_path / "absent.py:build", check=2)
    )
    (tmp_path / "a.py").write_text("def build(:")
    assert "SyntaxError: invalid syntax (line 1)" in refused(
        medrobust(*run, "--model", f"{tmp_path / 'a.py'}:build", check=2)
    )
    (tmp_path / "b.py").write_text("\nimport no_such_package")
    (tmp_path / "other").mkdir()
    (tmp_path / "c.py").write_text(BROKEN)
    (tmp_path / "other" / "c.py").write_text(BROKEN)
    twins = ",".join(
        f"{folder / 'c.py'}:other_classes" for folder in (tmp_path, tmp_path / "other")
    )
    assert "would both be called c.py:other_classes" in refused(
        medrobust(*run, "--model", twins, check=2)
    )
    assert "No module named 'no_such_package' (line 2)" in refused(
        medrobust(*run, "--model", f"{tmp_path / 'b.py'}:build", check=2)
    )


def test_weights_that_do_not_fit_are_refused(mine, tmp_path) -> None:
    run = ["run", "--model", mine, "--limit", 2, "--out", tmp_path / "o"]
    victim = registry.build(mine, (1, 1), (4, 3), {}, image_size=64)
    weights = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(victim.state_dict(), weights)
    line = refused(medrobust(*run, "--model-param", "width=8", "--checkpoint", weights, check=2))
    assert "encoders.0.0.weight is (16, 1, 5, 5), needed (8, 1, 5, 5)" in line
    safetensors.torch.save_file({"other": torch.zeros(1)}, weights)
    line = refused(medrobust(*run, "--checkpoint", weights, check=2))
    assert "lacks encoders.0.0.bias, encoders.0.0.weight" in line
    assert "and has besides other" in line
    assert "import-keras" in refused(medrobust(*run, "--checkpoint", tmp_path / "x.keras", check=2))
    for more in (["--defense", "none,pgd-at"], ["--train-seed", "0,1"]):
        assert "run them one by one" in refused(
            medrobust(*run, "--checkpoint", weights, *more, check=2)
        )
