"""What tests share: weights that one of them trained, and costs measured once."""

from pathlib import Path

import pytest
from support.cli import medrobust, small_run
from support.memory import measure_once
from torch import Tensor, nn

from robustbench_med.training import loop


def test_what_one_test_trained_another_copies_and_may_spoil(
    drawn_root: Path, shared_victims: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(drawn_root, tmp_path / "out", model="late", attack="fgsm")
    medrobust(*run)

    def train(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "another"))
    medrobust(*run)
    (copy,) = (tmp_path / "another" / "checkpoints").glob("*.safetensors")
    shared = shared_victims / copy.name
    weights = shared.read_bytes()
    assert copy.read_bytes() == weights
    copy.write_bytes(b"")
    assert shared.read_bytes() == weights


class Repeated(nn.Module):
    """A layer passed as often as it says."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.layer = times, nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        for _ in range(self.times):
            x = self.layer(x)
        return (x.flatten(1),)


def test_costs_are_remembered_for_victims_alike_in_all_that_costs() -> None:
    once, twice = (measure_once(Repeated(times), [(1, 8, 8)]) for times in (1, 2))
    assert twice["gflops"] == 2 * once["gflops"] > 0
    assert measure_once(Repeated(1), [(1, 8, 8)]) == once  # latency and all
    assert measure_once(Repeated(1), [(1, 16, 16)])["gflops"] == 4 * once["gflops"]
