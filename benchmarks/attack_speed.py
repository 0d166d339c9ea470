"""Speed of native PGD as ratios within one run: against the bare gradient loop, torchattacks and
ART; memory of EOT.

    python benchmarks/attack_speed.py --data-root ../shared/data

MAIL, width 16, 64 px, dropout off, on Sartaj's MRI and BreastMNIST's ultrasound; trained by the
preset `quick` unless it is cached. Only samples that are right are attacked, as in every run. The
tables between the markers of docs/performance.md are replaced.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from page import Table, headed, high_water, in_a_process, processor, timed, written
from torch import Tensor

from robustbench_med import load_data, load_model
from robustbench_med.attacks import ENGINES, Streams, Threat, View
from robustbench_med.models.mail import MAIL

DATA = "sartaj-mri+breastmnist"
DRAWS = 32
LADDER = (1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 30, 50)
LENGTHS = (2.5, 1.6)
"""Steps native `pgd` is tried with, and radii that they go together, until its robust accuracy is
within one sample of an engine's.
"""


def budget(steps: int, length: float = 2.5) -> dict[str, Any]:
    """Plain PGD of so many steps, `length` radii together (2.5: Madry et al.'s rule), none longer
    than the radius.
    """
    return {"steps": steps, "step_size": min(length / steps, 1.0), "random_start": False}


def bare(victim: torch.nn.Module, view: View, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """Forward and input gradient, nothing else."""
    for _ in range(steps):
        leaf = x.clone().requires_grad_()
        logits = victim(*view.unpack(leaf))
        loss = sum(
            torch.nn.functional.cross_entropy(z, y[:, t], reduction="sum")
            for t, z in enumerate(logits)
        )
        torch.autograd.grad(loss, leaf)  # type: ignore[arg-type]
    return x


def peak(eot: int, batch_draws: int, batch: int, answer: Any) -> None:
    """Peak memory in MiB that `pgd` adds to a fresh process; untrained MAIL (width 16, dropout on)
    costs what trained does.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    victim = MAIL((1, 1), (4, 2), width=16, mc_dropout=True).eval().requires_grad_(False)
    view = View(victim, [(1, 64, 64)] * 2, draws=2, batch_draws=batch_draws)
    x, y = torch.rand(batch, view.dim), torch.zeros(batch, 2, dtype=torch.long)
    threat = Threat("Linf", (4 / 255, 4 / 255), (0, 1))
    view.gradient(x[:1], y[:1], threat, eot=1)  # what the libraries load on first use
    before = high_water()
    ENGINES["native"]["pgd"](
        view, x, y, threat, Streams.seeded(0, list(map(str, range(batch))), "pgd"), steps=3, eot=eot
    )
    answer.put(high_water() - before)


class Bench:
    """The victim, the samples that are attacked, and how one attack on them is timed."""

    def __init__(self, data_root: Path | None, batch: int, repeats: int) -> None:
        self.repeats = repeats
        dataset = load_data(DATA, data_root=data_root, accept_unverified=True)
        self.victim: Any = load_model("mail", data=dataset)
        self.victim.mc_dropout = self.victim.stochastic = False
        samples = dataset.splits["test"]
        shapes: Any = [tuple(m.shape[1:]) for m in samples.batch([0])]
        self.view = View(self.victim, shapes)
        everything, labels = self.view.pack(samples.batch(range(256))), samples.labels[:256]
        right = (
            (self.view.standing(everything, labels, self.threat(1, (0, 1))) == 1)
            .nonzero()
            .squeeze(1)[:batch]
        )
        self.x, self.y = everything[right], labels[right]
        self.ids = [samples.ids[i] for i in right.tolist()]

    def threat(self, eps: float, tasks: tuple[int, ...]) -> Threat:
        return Threat("Linf", (eps,) * len(self.view.segments), tasks)

    def attack(
        self, engine: str, name: str, eps: float, tasks: tuple[int, ...], given: dict[str, Any]
    ) -> Tensor:
        torch.manual_seed(0)
        streams = Streams.seeded(0, self.ids, name)
        return ENGINES[engine][name](
            self.view, self.x, self.y, self.threat(eps / 255, tasks), streams, **given
        )

    def ready(
        self,
        engine: str,
        name: str,
        eps: float,
        tasks: tuple[int, ...],
        given: dict[str, Any],
        *,
        frozen: bool = True,
    ) -> Callable[[], float]:
        """An attack that tells the robust accuracy it leaves. `frozen`: parameters without a graph,
        as medrobust hands victims over.
        """

        def work() -> float:
            self.victim.requires_grad_(not frozen)
            moved = self.attack(engine, name, eps, tasks, given)
            self.victim.requires_grad_(False)
            return float(self.view.standing(moved, self.y, self.threat(1, tasks)).mean())

        return work

    def head(self) -> str:
        return (
            f"MAIL, width 16, 64 px, dropout off, {DATA}, the first {len(self.x)} test samples that"
            f" are right on both tasks; {processor()}, {torch.get_num_threads()} thread(s), torch"
            f" {torch.__version__}. Processor seconds, medians of {self.repeats}."
        )


def pgd(options: argparse.Namespace) -> Table:
    """A step against the bare loop; PGD against the engines', as it is and at the same verdict."""
    bench = Bench(options.data_root, options.batch, options.repeats)
    table = headed(
        bench.head(),
        "`pgd` on both tasks",
        "",
        "robust accuracy",
        "seconds",
        "native is faster by",
        "native steps to that verdict",
        "faster by",
    )
    whole = bench.ready("native", "pgd", 1, (0, 1), {**budget(10), "keep": "last"})
    passes = functools.partial(bare, bench.victim, bench.view, bench.x, bench.y, 10)
    found = timed({"bare": passes, "native": whole}, options.repeats + 1)
    limit, ours = (found[name][0] for name in ("bare", "native"))
    table.ratios["MAIL, pgd / bare"] = ours / limit
    table.row("10 steps, no sample dropped", "bare passes", "", f"{limit:.2f}", "", "", "")
    table.row("", "native", "", f"{ours:.2f}", f"{limit / ours:.2f} x", "", "")
    for eps in map(int, options.radii.split(",")):
        for steps in (10, 50):
            against_engines(bench, table, eps, steps)
    return table


def against_engines(bench: Bench, table: Table, eps: int, steps: int) -> None:
    """The rows of one radius and number of steps."""
    given = budget(steps)
    work = {"native": bench.ready("native", "pgd", eps, (0, 1), given)}
    for engine in ("torchattacks", "art"):
        for where, frozen in (("in medrobust", True), ("by itself", False)):
            work[f"{engine} {where}"] = bench.ready(
                engine, "pgd", eps, (0, 1), given, frozen=frozen
            )
    found = timed(work, bench.repeats)
    ours, robust = found.pop("native")
    table.row(f"{steps} steps, {eps}/255", "native", f"{robust:.3f}", f"{ours:.2f}", "", "", "")
    for name, (took, left) in found.items():
        table.ratios[f"MAIL, pgd, {steps} steps, {eps}/255: native / {name}"] = ours / took
        fewer = same_verdict(bench, eps, steps, left)
        same = (fewer[0], f"{took / fewer[1]:.1f} x") if fewer else ("more", "-")
        table.row("", name, f"{left:.3f}", f"{took:.2f}", f"{took / ours:.1f} x", *same)


def same_verdict(bench: Bench, eps: int, steps: int, left: float) -> tuple[str, float] | None:
    """The fewest steps of native `pgd` after which it leaves no more, and their seconds."""
    for fewer, length in ((k, length) for k in LADDER if k <= steps for length in LENGTHS):
        work = bench.ready("native", "pgd", eps, (0, 1), budget(fewer, length))
        took, reached = timed({"native": work}, bench.repeats)["native"]
        if reached <= left + 1 / len(bench.x):
            return f"{fewer} of {length} / {fewer}", took
    return None


def eot(options: argparse.Namespace) -> Table:
    """Memory of an attack that averages its gradients over draws."""
    table = headed(
        f"{processor()}, 1 thread, torch {torch.__version__}.",
        "`pgd`, 3 steps, random MAIL (width 16, 64 px)",
        "added peak memory, MiB",
        "ratio",
    )
    first = 0.0
    for draws, together in ((1, 1), (8, 1), (DRAWS, 1), (DRAWS, 4)):
        added = in_a_process(peak, draws, together, min(options.batch, 32))
        first = first or added
        if draws > 1:
            table.ratios[f"memory of {draws} draws, {together} at a time / one"] = added / first
        table.row(
            f"EOT of {draws} draws, {together} at a time", f"{added:.0f}", f"{added / first:.2f}"
        )
    return table


PARTS = {"pgd": pgd, "eot": eot}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument(
        "part",
        nargs="*",
        help=(
            f"What to measure, of {', '.join(PARTS)}; all by default. Other parts of the page stay."
        ),
    )
    parser.add_argument("--data-root", type=Path)
    parser.add_argument(
        "--batch", type=int, default=128, help="Samples attacked at once, as in a run."
    )
    parser.add_argument("--radii", default="8,4,2", help="Radii of pgd in grey levels.")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for name in options.part or PARTS:
        written(name, PARTS[name](options).lines)


if __name__ == "__main__":
    main()
