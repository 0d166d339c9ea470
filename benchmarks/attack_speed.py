"""Speed of the native attacks as ratios within one run: against the bare gradient loop, torchattacks and ART; memory of EOT.

    python benchmarks/attack_speed.py --data-root ../shared/data --batch 32

MAIL, width 16, 64 px, dropout off, on Sartaj's MRI and BreastMNIST's ultrasound. Weights are untrained but for BatchNorm's statistics:
time does not depend on them, and the verdict part takes the network's own predictions as labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from robustbench_med.attacks import ENGINES, Streams, Threat, View
from robustbench_med.data import Files, load
from robustbench_med.models.mail import MAIL

EPS = 1 / 255


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The fastest of some runs, after one unmeasured."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def bare(victim: torch.nn.Module, view: View, x: Tensor, y: Tensor, steps: int) -> None:
    """Forward and input gradient, nothing else."""
    for _ in range(steps):
        leaf = x.clone().requires_grad_()
        logits = victim(*view.unpack(leaf))
        loss = sum(torch.nn.functional.cross_entropy(z, y[:, t], reduction="sum") for t, z in enumerate(logits))
        torch.autograd.grad(loss, leaf)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    files = Files(data_root=options.data_root, accept_unverified=True)
    samples = load("sartaj-mri+breastmnist", size=64, files=files).splits["test"]
    modalities = samples.batch(range(options.batch))
    torch.manual_seed(0)
    victim = MAIL(samples.channels, (4, 2), width=16, mc_dropout=False, bn_momentum=1.0)
    with torch.no_grad():
        victim.train()(*modalities)
    victim.eval().requires_grad_(False)
    view = View(victim, [tuple(m.shape[1:]) for m in modalities])  # type: ignore[misc]
    x = view.pack(modalities)
    with torch.no_grad():
        y = torch.stack([z.argmax(1) for z in victim(*modalities)], 1)
    threat = Threat("Linf", (EPS, EPS), (0, 1))
    streams = Streams.seeded(0, [str(i) for i in range(options.batch)], "pgd")
    names, torch_threads = list(ENGINES), torch.get_num_threads()

    def attack(engine: str, steps: int, keep: str = "best") -> Tensor:
        given = {"steps": steps, "step_size": 0.25, "random_start": False, **({"keep": keep} if engine == "native" else {})}
        return ENGINES[engine]["pgd"](view, x, y, threat, streams, **given)

    print(f"MAIL width 16, 64 px, batch {options.batch}, {torch_threads} threads, torch {torch.__version__}\n")
    limit = seconds(lambda: bare(victim, view, x, y, 10))
    ours = seconds(lambda: attack("native", 10, "last"))
    print("| what | seconds | ratio | robust accuracy |\n|---|---|---|---|")
    print(f"| bare forward + input gradient, 10 steps | {limit:.2f} | 1 | |")
    print(f"| plain pgd, 10 steps | {ours:.2f} | {ours / limit:.2f} x bare | |")
    for steps in (10, 50):
        took = {engine: seconds(lambda engine=engine, steps=steps: attack(engine, steps), 1) for engine in names}  # type: ignore[misc]
        for engine in names:
            robust = float(view.standing(attack(engine, steps), y, threat).mean())
            print(f"| pgd, {steps} steps, {engine} | {took[engine]:.2f} | {took[engine] / took['native']:.2f} x native | {robust:.3f} |")


if __name__ == "__main__":
    main()
