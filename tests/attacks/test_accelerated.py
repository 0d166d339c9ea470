"""Victims that attacks call faster: the same logits up to rounding, few sizes of batches, and a
judgement that knows nothing of it.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from support.attacking import IDS
from support.cli import SMALL, medrobust
from support.files import ROOT
from support.small_nets import SmallNet
from torch import Tensor, nn

from robustbench_med.attacks import (
    ATTACKS,
    Accelerated,
    Minimal,
    RefusedError,
    Streams,
    Threat,
    View,
    accelerated,
    complete,
    entry_of,
)
from robustbench_med.reports.entries import entries
from robustbench_med.store.store import Store


@pytest.fixture
def network() -> SmallNet:
    torch.manual_seed(0)
    made = SmallNet(1, 3, 8).eval()
    return made.requires_grad_(False)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of batches that a compiled network sees; compiling is left out."""
    seen: list[int] = []

    def compiled(network: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        assert not dynamic

        def forward(*modalities: Tensor) -> Any:
            seen.append(len(modalities[0]))
            return network(*modalities)

        return forward

    monkeypatch.setattr(accelerated.torch, "compile", compiled)
    return seen


def gradient(network: Callable[..., tuple[Tensor, ...]], x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(network(leaf)[0].logsumexp(1).sum(), leaf)
    return found


@pytest.mark.parametrize("how", [["channels-last"], ["compile"], ["channels-last", "compile"]])
def test_logits_and_gradients_are_those_of_the_victim(
    how: list[str], network: SmallNet, sizes: list[int]
) -> None:
    x = torch.rand(11, 1, 28, 28)
    fast = Accelerated(network, how, most=8)
    assert torch.allclose(fast(x)[0], network(x)[0], atol=1e-5)
    assert torch.allclose(gradient(fast, x), gradient(network, x), atol=1e-5)
    assert network.body[0].weight.is_contiguous()  # the victim itself stays as it is


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_victim_is_the_victim(network: SmallNet) -> None:
    x = torch.rand(11, 1, 28, 28)
    fast = Accelerated(network, ["compile"], most=16)
    assert torch.allclose(fast(x)[0], network(x)[0], atol=1e-5)
    assert torch.allclose(gradient(fast, x), gradient(network, x), atol=1e-5)


def test_few_sizes_of_batches_are_compiled(network: SmallNet, sizes: list[int]) -> None:
    fast = Accelerated(network, ["compile"], most=64)
    for n in (50, 64, 33, 32, 20, 9, 5, 1, 200):
        assert fast(torch.rand(n, 1, 28, 28))[0].shape == (n, 3)
    assert set(sizes) == {64, 32, 16, 8}


def test_past_the_usual_limit_of_recompilations_victims_are_compiled_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []

    def backend(graph: Any, _: Any) -> Any:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(accelerated.torch, "compile", partial(torch.compile, backend=backend))
    for width in (4, 6, 8):
        network = SmallNet(1, 3, width).eval().requires_grad_(False)
        fast = Accelerated(network, ["compile"], most=64)
        for n in (64, 32, 16, 8):
            gradient(fast, torch.rand(n, 1, 28, 28))
            with torch.no_grad():
                fast(torch.rand(n, 1, 28, 28))
    assert len(made) == 3 * 4 * 2


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """CUDA graphs as `torch.cuda.make_graphed_callables` has them, on a CPU: a backward graph only
    where outputs have a gradient at capture, and one place a capture for what the last forward pass
    left. The sizes captured.
    """
    sizes: list[int] = []

    def graphed(function: Any, example: Any, *, allow_unused_input: bool) -> Any:
        sizes.append(len(example[0]))
        has_backward = all(output.requires_grad for output in function(*example))
        place: dict[str, Any] = {}

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Tensor) -> Any:
                with torch.enable_grad():
                    place["in"] = [each.detach().clone().requires_grad_() for each in inputs]
                    place["out"] = function(*place["in"])
                return tuple(output.detach().clone() for output in place["out"])

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Any:
                if not has_backward:
                    raise RuntimeError("replay without a capture")
                return torch.autograd.grad(
                    place["out"], place["in"], gradients, allow_unused=allow_unused_input
                )

        return Replay.apply

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return sizes


@pytest.mark.parametrize("name", ["pgd", "apgd-t", "malt", "fab", "autoattack", "cw", "square"])
def test_attacks_find_through_graphs_what_they_find(
    name: str, network: SmallNet, graphs: list[int]
) -> None:
    """Whoever asks first, for predictions or for a gradient."""
    x, threat = torch.rand(11, 28 * 28), Threat("Linf", (4 / 255,), (0,))
    plain, fast = (View(network, [(1, 28, 28)]) for _ in range(2))
    y = plain.logits(x)[0].argmax(1)[:, None]
    fast.through = Accelerated(network, ["graphs"], most=11)
    known = {"steps": 4, "queries": 20}
    params = complete(name, {k: v for k, v in known.items() if k in entry_of(name).parameters()})
    found = [
        ATTACKS[name](view, x, y, threat, Streams.seeded(0, IDS[:11], name), **params)
        for view in (plain, fast)
    ]
    assert set(graphs) <= {11, 8}
    assert graphs
    assert (found[0] - found[1]).abs().median() < 1e-6


def test_batches_that_graphs_are_not_made_for_have_their_gradients(
    network: SmallNet, graphs: list[int]
) -> None:
    fast, x = Accelerated(network, ["graphs"], most=8), torch.rand(20, 1, 28, 28)
    with torch.no_grad():
        fast(x[:5])
    for n in (5, 20, 8):
        assert torch.allclose(gradient(fast, x[:n]), gradient(network, x[:n]), atol=1e-6)
    assert graphs == [8]


def test_a_gradient_after_the_next_replay_is_refused(network: SmallNet, graphs: list[int]) -> None:
    fast, x = Accelerated(network, ["graphs"], most=8), torch.rand(8, 1, 28, 28).requires_grad_()
    both = fast(x)[0] + fast(x)[0]
    with pytest.raises(RefusedError, match="the gradients of several passes at once"):
        torch.autograd.grad(both.sum(), x)


def test_the_smallest_perturbations_are_those_of_the_victim(network: SmallNet) -> None:
    """A faster pass that is wrong everywhere finds none."""
    view, threat = View(network, [(1, 28, 28)]), Threat("Linf", (4 / 255,), (0,))
    x = torch.rand(6, 28 * 28)
    y = network(x.view(-1, 1, 28, 28))[0].argmax(1)[:, None]
    view.through = lambda images: (-network(images)[0],)
    found = Minimal(x[None], torch.zeros(1, 6))
    assert (view.logits(x)[0].argmax(1) != y[:, 0]).all()
    assert found.confirmed(view, y, threat).size.isinf().all()
    view.through = None
    others = (y + 1) % 3
    assert (found.confirmed(view, others, threat).size == 0).all()


def test_batches_of_random_victims_keep_their_size(network: SmallNet, sizes: list[int]) -> None:
    fast = Accelerated(network, ["compile"], most=64, random=True)
    fast(torch.rand(50, 1, 28, 28))
    assert sizes == [50]


def test_bfloat16_gives_logits_of_float32_that_are_near(network: SmallNet) -> None:
    x = torch.rand(4, 1, 28, 28)
    (logits,) = Accelerated(network, ["bf16"], most=8)(x)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, network(x)[0])
    assert torch.allclose(logits, network(x)[0], atol=0.05)


def test_soft_gradients_are_the_victims_own(network: SmallNet) -> None:
    class Soft(SmallNet):
        def soft(self) -> Any:
            return torch.enable_grad()

    view = View(Soft(1, 3, 8).eval(), [(1, 28, 28)])
    asked: list[int] = []
    view.through = lambda *x: asked.append(len(x[0])) or network(*x)  # type: ignore[func-returns-value]
    x = torch.rand(2, 28 * 28)
    with view.softened():
        view.logits(x)
    assert asked == []
    view.logits(x)
    assert asked == [2]


class Box(nn.Module):
    black_box = SimpleNamespace(gives="scores")


@pytest.mark.parametrize(
    ("victim", "how", "given", "said"),
    [
        (Box(), ["bf16"], {}, "a black box computes where nobody"),
        (nn.Identity(), ["graphs"], {"random": True}, "the same numbers at every replay"),
        pytest.param(
            nn.Identity(),
            ["graphs"],
            {},
            "this machine has no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_what_cannot_be_made_faster_is_refused(
    victim: nn.Module, how: list[str], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        Accelerated(victim, how, most=8, **given)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", [["graphs"], ["graphs", "bf16"], ["compile"], ["channels-last"]])
def test_on_cuda_gradients_of_several_passes_stay(how: list[str], network: SmallNet) -> None:
    network, x = network.cuda(), torch.rand(2, 11, 1, 28, 28, device="cuda")
    fast = Accelerated(network, how, most=16)
    found = [gradient(fast, images) for images in x]
    assert not torch.equal(*found)
    near = 2e-2 if "bf16" in how else 1e-4
    for images, mine in zip(x, found, strict=True):
        assert torch.allclose(mine, gradient(network, images), atol=near)


def test_a_run_is_searched_faster_and_judged_as_ever(tmp_path: Path) -> None:
    """The same images attacked in bfloat16: another record, whose figures float32 measured."""
    given = ("run", "--model", "late", "--attack", "pgd", "--out", tmp_path, *SMALL)
    medrobust(*given)
    medrobust(*given, "--accelerate", "bf16,channels-last")
    records = Store(tmp_path).records()
    attacked = [record for record in records if record.spec.attack.name == "pgd"]
    usual, fast = sorted(attacked, key=lambda record: record.spec.protocol.accelerate is not None)
    assert fast.spec.protocol.accelerate.how == ["bf16", "channels-last"]
    assert "--accelerate" in fast.command
    assert usual.figures.clean == fast.figures.clean
    noise = [record for record in records if record.spec.attack.name == "noise"]
    assert len(noise) == 1  # it makes no pass that could be faster
    cells = pd.read_csv(tmp_path / "cells.csv").query("attack == 'pgd'")
    told = cells["attack_params"].str.contains("accelerate=bf16,channels-last", regex=False)
    assert sorted(told) == [False, True]
    (entry,) = entries(records, Store(tmp_path))
    (threat,) = entry.threats
    labels = {each.label: each.accelerate for each in threat.attacks}
    assert labels == {"pgd": [], "pgd accelerate=bf16,channels-last": ["bf16", "channels-last"]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--accelerate", "fast"), "accelerate"),
        (("--accelerate", "bf16", "--engine", "torchattacks"), "compute alone"),
        (("--accelerate", "graphs"), "CUDA devices do"),
    ],
)
def test_acceleration_that_cannot_be_is_one_line(
    given: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    asked = ("run", "--model", "late", "--attack", "fgsm", "--device", "cpu", "--out", tmp_path)
    done = medrobust(*asked, *SMALL, *given, check=2)
    assert said in done.stderr


@pytest.mark.slow
def test_the_benchmark_of_gpus_runs_without_one(tmp_path: Path) -> None:
    made, script = tmp_path / "gpu.md", ROOT / "benchmarks" / "gpu.py"
    options = ["--device", "cpu", "--tiny", "--out", str(made), "eot", "engines"]
    subprocess.run([sys.executable, script, *options], check=True, capture_output=True)
    assert re.search(r"\| EOT 2, batch 8 \| \d", made.read_text())
    assert re.search(r"\| native \| 8 \| \d", made.read_text())
