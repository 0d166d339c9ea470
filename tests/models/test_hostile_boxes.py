"""Servers and functions that lie, contracts and addresses that cannot be: one line each."""

import datetime
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.asked import attacked, contract, figure, network, served
from support.endpoint import serving

from robustbench_med import black_box
from robustbench_med.errors import UserError
from robustbench_med.models import contracts
from robustbench_med.models.black_box import BlackBox
from robustbench_med.models.endpoint import Endpoint


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home"))
    return tmp_path


def test_an_answer_that_drips_is_given_up_in_time(home) -> None:
    begun = time.monotonic()
    with (
        serving(served(network()), lambda number: "drip") as server,
        pytest.raises(UserError, match="did not end its answer in time"),
    ):
        attacked(server.url, home, "square", contract=contract(home, retries=0, timeout=0.3))
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("answer", "gives", "classes"),
    [
        (1.0, "scores", None),
        (np.zeros((2, 0)), "scores", None),
        ([[[10**400, 1], [1, 2]]], "scores", (2,)),
        ([[math.inf, 0]], "decisions", (2,)),
        ([[math.nan, 0]], "decisions", (2,)),
        ([[[0], [0, 1]]], "decisions", (2,)),
    ],
)
def test_whatever_is_no_answer_is_a_faulty_one(answer, gives, classes) -> None:
    box = black_box(lambda images: answer, gives=gives, name="mine", version="1")
    with pytest.raises(UserError, match=r"mine: .*\(1 of 1 tries\)"):
        box.on(["image"], ["task"], classes, [torch.rand(2, 1, 4, 4)]).raw([torch.rand(2, 1, 4, 4)])


def test_answers_about_other_tasks_are_others(home) -> None:
    few = [torch.rand(2, 1, 4, 4)]
    path = home / "contract.yaml"
    path.write_text("name: device\nversion: '1'\nimages: {image: images.image}\nanswers: {}\n")
    answer = {"a": [[1.0, 0.0]] * 2, "b": [[0.0, 1.0, 2.0]] * 2}
    with serving(lambda images: answer) as server:
        told = contracts.load(path).model_copy(
            update={"answers": {"a": "scores.a", "b": "scores.b"}}
        )
        device = Endpoint(server.url, told)
        for tasks, classes in ((["a"], [2]), (["a", "b"], [2, 3])):
            box = BlackBox(device, ["image"], tasks, classes, few)
            assert [z.shape[1] for z in box.raw(few)] == classes


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://me:s3cret@127.0.0.1:9/x", "holds a name or password"),
        ("http://127.0.0.1:99999/x", "is no address"),
        ("http://", "names no host"),
    ],
)
def test_a_bad_address_is_refused_before_anything_is_kept(address, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        attacked(address, tmp_path / "o", "square", contract=contract(tmp_path))
    assert "s3cret" not in str(refusal.value)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"headers": {"key": "a\nb"}}, "printable ASCII alone"),
        ({"timeout": 1e300}, "timeout: Input should be less"),
        ({"mean": []}, "mean: List should have at least 1 item"),
        ({"mean": [0.1] * 3, "std": [0.1] * 2}, "std has 2 numbers, the images 3 channels"),
        ({"std": [0.0]}, "std.0: Input should be greater than 0"),
        ({"encoding": "uint8", "mean": [0.5]}, "are for float32, the encoding is uint8"),
        ({"also": {"day": datetime.date(2026, 1, 1)}}, "must be JSON"),
        ({"also": {"images": 3}}, r"several things into the field images\.mri"),
        ({"images": {"mri": "x", "xray": "x"}}, "several things into the field x"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_one_line(content, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said):
        attacked("http://127.0.0.1:9/x", tmp_path, "square", contract=contract(tmp_path, **content))


@pytest.mark.slow
def test_a_device_that_has_changed_is_noticed_before_two_are_mixed(home) -> None:
    sign = 1.0

    def predict(images: dict[str, np.ndarray]) -> dict[str, list]:
        found = served(network())(images)
        return {name: (sign * np.array(z)).tolist() for name, z in found.items()}

    with serving(predict) as server:
        path = contract(home)
        whole = attacked(server.url, home, "square", contract=path)
        sign = -1.0
        again = attacked(server.url, home / "again", "square", contract=path)
        assert figure(again) == figure(whole), "nothing was asked"
        with pytest.raises(UserError, match="device answers otherwise than what is kept of it"):
            attacked(server.url, home, "square", contract=path, eps="20/255")
        attacked(server.url, home, "square", contract=path, eps="20/255", force=True)
