"""What a network is: the same weights in another network are another victim, and what cannot be
seen needs a version.
"""

import threading

import pytest
import torch
from support.hashing import run
from support.objects import CELL, Plain, Tuple, images, labels
from torch import nn

from robustbench_med import UserError, evaluate
from robustbench_med.provenance.networks import Identity, identity_of


def of(network: nn.Module) -> Identity:
    return identity_of(network, "mine")


def attention(heads: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.TransformerEncoderLayer(8, heads, 16), nn.Linear(8, 2)).eval()


def with_hook(network: nn.Module, by: float) -> nn.Module:
    network.register_forward_hook(lambda module, given, z: by * z)
    return network


def test_the_same_network_is_the_same_wherever_it_was_made() -> None:
    assert of(Plain()) == of(Plain())
    assert of(Plain().requires_grad_(False)) == of(Plain())
    assert of(attention(2)) == of(attention(2))


def test_other_weights_are_other_weights() -> None:
    changed = Plain()
    changed.weight.data[0, 0] += 1e-6
    assert of(changed).weights_sha256 != of(Plain()).weights_sha256


def test_buffers_that_no_state_dict_has_are_weights_too() -> None:
    changed = Plain()
    changed.shift += 0.1
    assert changed.state_dict().keys() == {"weight"}
    assert of(changed).weights_sha256 != of(Plain()).weights_sha256


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Plain(), Tuple()),
        (attention(2), attention(4)),
        (Plain(scale=8.0), Plain(scale=4.0)),
        (with_hook(Plain(), 1.0), with_hook(Plain(), 2.0)),
        (Plain().eval(), Plain().train()),
    ],
    ids=["forward", "heads", "attribute", "captured value", "mode"],
)
def test_the_same_weights_in_another_network_are_another_victim(one, other) -> None:
    assert of(one).weights_sha256 == of(other).weights_sha256
    assert of(one).source_sha256 != of(other).source_sha256


MODULE = """
import torch
from torch import nn
from beside import GAIN
SHIFT = 0.5
def moved(x): return x - SHIFT
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4))
    def forward(self, x): return GAIN * moved(x) @ self.weight.T
"""


def test_the_users_modules_and_globals_are_in_it(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "beside.py").write_text("GAIN = 2.0\n")
    first = of(run(tmp_path).Net())
    assert of(run(tmp_path).Net()) == first
    shifted = run(tmp_path)
    shifted.SHIFT = 0.25
    assert of(shifted.Net()).source_sha256 != first.source_sha256
    (tmp_path / "beside.py").write_text("GAIN = 3.0\n")
    assert of(run(tmp_path).Net()).source_sha256 != first.source_sha256


def test_what_cannot_be_seen_needs_a_version_and_weights_are_always_seen(tmp_path) -> None:
    hidden = Plain()
    hidden.lock = threading.Lock()
    options = {"data": (images(), labels()), "out": tmp_path, **CELL}
    with pytest.raises(UserError, match=r"model 'Plain' holds a lock.*version='1'"):
        evaluate(hidden, "fgsm", **options)
    (first,) = evaluate(hidden, "fgsm", version="1", **options).records
    (same,) = evaluate(hidden, "fgsm", version="1", **options).records
    (raised,) = evaluate(hidden, "fgsm", version="2", **options).records
    hidden.weight.data += 1
    (moved,) = evaluate(hidden, "fgsm", version="1", **options).records
    assert first.hash == same.hash
    assert len({first.hash, raised.hash, moved.hash}) == 3


def test_data_are_what_they_hold(tmp_path) -> None:
    x, y = images(), labels()
    other = x.clone()
    other[0, 0, 0, 0] = 1 - other[0, 0, 0, 0]
    hashes = [
        evaluate(Plain(), "fgsm", data=data, out=tmp_path, **CELL).records[0].hash
        for data in ((x, y), (x.clone(), y), (other, y), (x, (y + 1) % 3))
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


class Remembering(Plain):
    """Keeps what it saw, as networks do whose activations are looked at."""

    def forward(self, x):
        self.seen = x
        return super().forward(x)


def test_a_version_stands_for_a_network_that_its_passes_change(tmp_path) -> None:
    options = {"data": (images(), labels()), "out": tmp_path, **CELL}
    network = Remembering()
    told = [evaluate(network, "fgsm", version="1", **options).records[0].hash for _ in range(2)]
    seen = [evaluate(network, "fgsm", **options).records[0].hash for _ in range(2)]
    assert told[0] == told[1]
    assert seen[0] != seen[1]
