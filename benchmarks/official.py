"""Speed against the official code: AutoAttack of its authors, Square, and a step of PGD against the
bare pass.

    python benchmarks/official.py --data-root ../shared/data

The authors' AutoAttack is the package pyautoattack (MIT; `pip install --no-deps pyautoattack`). One
network throughout, `SmallCNN`, trained here in seconds; contestants take turns in one process, on
one thread, and their processor time is what counts. The tables between the markers of
docs/performance.md are replaced.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from page import Table, headed, processor, timed, written
from torch import Tensor, nn

from robustbench_med import load_data
from robustbench_med.attacks import ATTACKS, ENGINES, Streams, Threat, View, complete

RADII = {"Linf": 4 / 255, "L2": 0.5}
TASKS = {4: "sartaj-mri", 3: "sartaj-mri", 2: "breastmnist"}
"""Real images for each number of classes; three are the first three of four."""
SIDE = 32


class SmallCNN(nn.Module):
    """Two convolutions and a linear layer: (B, 1, S, S) -> one head of logits. The network of all
    figures here: nothing of an attack hides behind so short a pass.
    """

    n_modalities = 1
    stochastic = False
    shares_noise = False

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.class_counts = (classes,)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(512, classes),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.layers(x),)


class Counted(nn.Module):
    """A network's one head, whose samples are counted as they pass."""

    def __init__(self, network: SmallCNN) -> None:
        super().__init__()
        self.network = network
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        return self.network(x)[0]


def trained(x: Tensor, y: Tensor, classes: int, steps: int) -> SmallCNN:
    """A network, trained on these images for seconds."""
    torch.manual_seed(0)
    network = SmallCNN(classes).to(x.device)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        loss = F.cross_entropy(network(x[rows])[0], y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


@functools.cache
def victim(classes: int, data_root: Path, most: int) -> tuple[SmallCNN, Tensor, Tensor, list[str]]:
    """A trained network, and test images that it gets right with their labels and names, `most` at
    most.
    """
    dataset = load_data(TASKS[classes], size=SIDE, data_root=data_root, accept_unverified=True)
    parts = {}
    for part in ("train", "test"):
        samples = dataset.splits[part]
        (x,), y = samples.batch(range(len(samples))), samples.labels[:, 0]
        kept = y < classes
        names = [name for name, keep in zip(samples.ids, kept.tolist(), strict=True) if keep]
        parts[part] = (x.mean(1, keepdim=True)[kept], y[kept], names)
    x, y, _ = parts["train"]
    network = trained(x, y, classes, 600)
    x, y, names = parts["test"]
    right = (network(x)[0].argmax(1) == y).nonzero().squeeze(1)
    right = right[torch.linspace(0, len(right) - 1, min(most, len(right))).long()]
    return network, x[right], y[right], [names[i] for i in right.tolist()]


def native(
    name: str, network: SmallCNN, x: Tensor, y: Tensor, ids: list[str], norm: Any, **given: Any
) -> Callable[[], tuple[Tensor, int]]:
    """One of our attacks: adversarials, and forward passes in samples."""

    def work() -> tuple[Tensor, int]:
        view = View(network, [tuple(x.shape[1:])])  # type: ignore[list-item]
        moved = ATTACKS[name](
            view,
            view.pack([x]),
            y[:, None],
            Threat(norm, (RADII[norm],), (0,)),
            Streams.seeded(0, ids, name),
            **complete(name, given),
        )
        return moved.view_as(x), view.passes.forward

    return work


def official(
    network: SmallCNN, x: Tensor, y: Tensor, norm: str, attacks: list[str], **given: Any
) -> Callable[[], tuple[Tensor, int]]:
    """The authors' members one after another; `given`: fields of the members."""
    from pyautoattack import AutoAttack

    def work() -> tuple[Tensor, int]:
        counted = Counted(network)
        runner = AutoAttack(
            counted, norm=norm, eps=RADII[norm], version="custom", attacks=attacks, seed=0
        )
        runner.verbose = False
        runner.apgd.n_restarts, runner.fab.n_restarts = 1, 1  # as its "standard"
        runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = max(
            network.class_counts[0] - 1, 1
        )
        for field, value in given.items():
            member, attribute = field.split(".")
            setattr(getattr(runner, member), attribute, value)
        moved = runner.run_standard_evaluation(x, y, batch_size=len(x))
        return (moved[0] if isinstance(moved, tuple) else moved), counted.passes

    return work


def robust(network: SmallCNN, x: Tensor, y: Tensor) -> float:
    """Share that is still right."""
    return float((network(x)[0].argmax(1) == y).double().mean())


def head(samples: int, repeats: int) -> str:
    """What was measured on what."""
    return (
        f"{processor()}, 1 thread, torch {torch.__version__}, `SmallCNN`, {samples} real images,"
        f" medians of {repeats}."
    )


def autoattack(options: argparse.Namespace) -> Table:
    """The whole ensemble, as published, and `adaptive`."""
    table = headed(
        head(options.samples, options.repeats),
        "classes, norm",
        "robust accuracy: official, `autoattack`, `adaptive`",
        "processor seconds",
        "`autoattack` / official",
        "`adaptive` / official",
        "forward passes a sample",
    )
    for classes in options.classes:
        for norm in RADII:
            network, x, y, ids = victim(classes, options.data_root, options.samples)
            standard = ["apgd-ce", "apgd-t", "fab-t", "square"]
            few = ["apgd-ce", "fab", "square"]
            found = timed(
                {
                    "official": official(network, x, y, norm, standard if classes > 3 else few),
                    "autoattack": native("autoattack", network, x, y, ids, norm),
                    "adaptive": native("adaptive", network, x, y, ids, norm),
                },
                options.repeats,
            )
            cost = {name: seconds for name, (seconds, _) in found.items()}
            left = [f"{robust(network, moved, y):.3f}" for _, (moved, _) in found.values()]
            passes = [f"{count / len(x):,.0f}" for _, (_, count) in found.values()]
            to = {name: cost[name] / cost["official"] for name in ("autoattack", "adaptive")}
            for name, ratio in to.items():
                table.ratios[f"{name} / official, {classes} classes, {norm}"] = ratio
            table.row(
                f"{classes}, {norm}",
                ", ".join(left),
                ", ".join(f"{seconds:.1f}" for seconds in cost.values()),
                *(f"{ratio:.2f}" for ratio in to.values()),
                ", ".join(passes),
            )
    return table


def square(options: argparse.Namespace) -> Table:
    """Square alone: what it costs beside its passes."""
    table = headed(
        head(32, options.repeats),
        "classes, norm, batch 32",
        "robust accuracy: official, native",
        "processor seconds",
        "native / official",
        "native's own cost over its passes",
    )
    for classes in options.classes:
        for norm in RADII:
            network, x, y, ids = victim(classes, options.data_root, 96)
            x, y, ids = x[:32], y[:32], ids[:32]
            given = {"queries": 1000}
            sizes = sizes_of(network, x, y, ids, norm, given)
            theirs = official(network, x, y, norm, ["square"], **{"square.n_queries": 1000})
            found = timed(
                {
                    "official": theirs,
                    "native": native("square", network, x, y, ids, norm, **given),
                    "bare": functools.partial(replayed, network, x, sizes),
                },
                options.repeats,
            )
            cost = {name: seconds for name, (seconds, _) in found.items()}
            left = [
                f"{robust(network, found[name][1][0], y):.3f}" for name in ("official", "native")
            ]
            to_official, to_bare = (cost["native"] / cost[name] for name in ("official", "bare"))
            table.ratios[f"square / official, {classes} classes, {norm}"] = to_official
            table.ratios[f"square / its passes, {classes} classes, {norm}"] = to_bare
            table.row(
                f"{classes}, {norm}",
                ", ".join(left),
                f"{cost['official']:.2f}, {cost['native']:.2f}",
                f"{to_official:.2f}",
                f"{to_bare - 1:.0%}",
            )
    return table


def sizes_of(
    network: SmallCNN, x: Tensor, y: Tensor, ids: list[str], norm: Any, given: dict[str, Any]
) -> list[int]:
    """The batches that Square asks its victim about."""
    sizes: list[int] = []
    view = View(network, [tuple(x.shape[1:])])  # type: ignore[list-item]
    view.tick = sizes.append
    threat, streams = Threat(norm, (RADII[norm],), (0,)), Streams.seeded(0, ids, "square")
    known = complete("square", given)
    ATTACKS["square"](view, view.pack([x]), y[:, None], threat, streams, **known)
    return sizes


@torch.no_grad()
def replayed(network: SmallCNN, x: Tensor, sizes: list[int]) -> None:
    """Passes of these batches, and nothing else."""
    pool = x.repeat(-(-max(sizes) // len(x)), 1, 1, 1)
    for n in sizes:
        network(pool[:n])


def step(options: argparse.Namespace) -> Table:
    """Twenty steps of PGD that drop no sample, against the same passes alone."""
    network, x, y, _ = victim(4, options.data_root, 96)
    engines = {"native": "native", "torchattacks": "torchattacks", "foolbox": "Foolbox"}
    repeats = options.repeats * 5
    table = headed(
        head(96, repeats), "batch, pixels", *(f"{each} / bare" for each in engines.values())
    )
    for batch, side in ((16, 32), (64, 32), (16, 64), (64, 64)):
        images, labels = F.interpolate(x[:batch], side), y[:batch]
        names = [f"{i}" for i in range(batch)]
        found = timed(
            {
                "bare": functools.partial(bare_steps, network, images, labels),
                **{
                    engine: functools.partial(steps_of, engine, network, images, labels, names)
                    for engine in engines
                },
            },
            repeats,
        )
        ratios = {name: found[name][0] / found["bare"][0] for name in engines}
        table.ratios[f"step / bare, batch {batch}, {side} px"] = ratios["native"]
        table.row(f"{batch}, {side}", *(f"{ratio:.2f}" for ratio in ratios.values()))
    return table


def bare_steps(network: SmallCNN, x: Tensor, y: Tensor) -> None:
    """Forward and input gradient, nothing else."""
    for _ in range(20):
        leaf = x.detach().requires_grad_()
        F.cross_entropy(network(leaf)[0], y, reduction="sum").backward()  # type: ignore[no-untyped-call]
        leaf.grad = None


def steps_of(engine: str, network: SmallCNN, x: Tensor, y: Tensor, ids: list[str]) -> None:
    """`pgd` of an engine, 20 steps, none of which drops a sample."""
    view = View(network, [tuple(x.shape[1:])])  # type: ignore[list-item]
    given: dict[str, Any] = {"steps": 20, "step_size": 0.125, "random_start": True}
    if engine == "native":
        given["keep"] = "last"
    ENGINES[engine]["pgd"](
        view,
        view.pack([x]),
        y[:, None],
        Threat("Linf", (4 / 255,), (0,)),
        Streams.seeded(0, ids, "pgd"),
        **complete("pgd", given, engine=engine),
    )


PARTS = {"step": step, "square": square, "autoattack": autoattack}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("part", nargs="*", help=f"Of {', '.join(PARTS)}; all by default.")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--classes", type=int, nargs="*", default=[4, 3, 2])
    parser.add_argument("--print", action="store_true", help="Leave the page alone.")
    parser.add_argument("--samples", type=int, default=96, help="Of the ensembles.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.part or PARTS:
        table = PARTS[name](options)
        if not options.print:
            written(f"official {name}", table.lines)


if __name__ == "__main__":
    main()
