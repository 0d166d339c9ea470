"""Speed of the native attacks as ratios within one run: against the bare gradient loop,
torchattacks and ART; memory of EOT.

    python benchmarks/attack_speed.py --data-root ../shared/data

MAIL, width 16, 64 px, dropout off, on Sartaj's MRI and BreastMNIST's ultrasound; trained by the
preset `quick` unless it is cached. Only samples that are right are attacked, as in every run. The
tables between the markers of docs/performance.md are replaced.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_med import load_data, load_model
from robustbench_med.attacks import ENGINES, Streams, Threat, View
from robustbench_med.models.mail import MAIL

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
START, END = "<!-- measured: {} -->", "<!-- end of measured -->"
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


def seconds(work: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """The fastest of some runs, and what the last one returned."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        took.append(time.perf_counter() - start)
    return min(took), result


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


def high_water() -> float:
    """Peak memory of this process in MiB (Linux; getrusage would tell the parent's)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def memory(eot: int, batch_draws: int, batch: int) -> float:
    """`peak` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=peak, args=(eot, batch_draws, batch, answer))
    process.start()
    process.join()
    return float(answer.get())


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

    def timed(
        self,
        engine: str,
        name: str,
        eps: float,
        tasks: tuple[int, ...],
        given: dict[str, Any],
        frozen: bool = True,
    ) -> tuple[float, float]:
        """Seconds, and the robust accuracy that is left. `frozen`: parameters without a graph, as
        medrobust hands victims over.
        """
        self.victim.requires_grad_(not frozen)
        took, moved = seconds(
            lambda: self.attack(engine, name, eps, tasks, given),
            self.repeats if name == "pgd" else 1,
        )
        self.victim.requires_grad_(False)
        return took, float(self.view.standing(moved, self.y, self.threat(1, tasks)).mean())

    def head(self) -> str:
        return (
            f"MAIL, width 16, 64 px, dropout off, {DATA}, the first {len(self.x)} test samples that"
            f" are right on both tasks; {processor()}, {torch.get_num_threads()} thread(s), torch"
            f" {torch.__version__}. Seconds are the fastest of {self.repeats} run(s)."
        )


def pgd(options: argparse.Namespace) -> list[str]:
    """A step against the bare loop; PGD against the engines', as it is and at the same verdict."""
    bench = Bench(options.data_root, options.batch, options.repeats)
    rows = [bench.head(), "", "| what | seconds | ratio |", "|---|---|---|"]
    bare(bench.victim, bench.view, bench.x, bench.y, 2)
    limit = ours = float("inf")
    for _ in range(options.repeats):  # in turn, so that what else the machine does falls on both
        limit = min(
            limit, seconds(lambda: bare(bench.victim, bench.view, bench.x, bench.y, 10), 1)[0]
        )
        ours = min(
            ours,
            seconds(
                lambda: bench.attack("native", "pgd", 1, (0, 1), {**budget(10), "keep": "last"}), 1
            )[0],
        )
    rows.append(f"| bare forward + input gradient, 10 steps | {limit:.2f} | 1 |")
    rows.append(f"| `pgd`, 10 steps, no sample dropped | {ours:.2f} | {ours / limit:.2f} x bare |")
    rows += [
        "",
        (
            "| `pgd` on both tasks | | robust accuracy | seconds | native is faster by | native"
            " steps to that verdict | faster by |"
        ),
    ]
    rows.append("|---" * 7 + "|")
    for eps, steps in [
        (eps, steps) for eps in map(int, options.radii.split(",")) for steps in (10, 50)
    ]:
        ours, robust = bench.timed("native", "pgd", eps, (0, 1), budget(steps))
        rows.append(f"| {steps} steps, {eps}/255 | native | {robust:.3f} | {ours:.2f} | | | |")
        for engine in ("torchattacks", "art"):
            theirs, robust = bench.timed(engine, "pgd", eps, (0, 1), budget(steps))
            alone, _ = bench.timed(engine, "pgd", eps, (0, 1), budget(steps), frozen=False)
            fewer_steps = None
            for fewer, length in ((k, length) for k in LADDER if k <= steps for length in LENGTHS):
                quick, reached = bench.timed("native", "pgd", eps, (0, 1), budget(fewer, length))
                if reached <= robust + 1 / len(bench.x):
                    fewer_steps = f"{fewer} of {length} / {fewer}", quick
                    break
            for name, took in ((f"{engine} in medrobust", theirs), (f"{engine} by itself", alone)):
                same = (
                    f"{fewer_steps[0]} | {took / fewer_steps[1]:.1f} x"
                    if fewer_steps
                    else "more | -"
                )
                rows.append(
                    f"| | {name} | {robust:.3f} | {took:.2f} | {took / ours:.1f} x | {same} |"
                )
            print("\n".join(rows[-2:]), flush=True)
    return rows


def autoattack(options: argparse.Namespace) -> list[str]:
    """AutoAttack on the task of four classes, which torchattacks can take; its gradient members
    take 10 steps, the paper's 100.
    """
    bench = Bench(options.data_root, options.samples, 1)
    rows = [
        bench.head(),
        "",
        (
            "| AutoAttack `standard`, 4/255, the 4-class task | seconds | robust accuracy | native"
            " is faster by |"
        ),
    ]
    rows.append("|---|---|---|---|")
    theirs, robust = bench.timed("torchattacks", "autoattack", 4, (0,), {})
    rows.append(f"| torchattacks | {theirs:.1f} | {robust:.3f} | |")
    for name, given in (
        ("native, torchattacks' 10 steps", {"steps": 10}),
        ("native, the paper's 100 steps", {}),
    ):
        ours, robust = bench.timed("native", "autoattack", 4, (0,), given)
        rows.append(f"| {name} | {ours:.1f} | {robust:.3f} | {theirs / ours:.1f} x |")
        print(rows[-1], flush=True)
    return rows


def eot(options: argparse.Namespace) -> list[str]:
    """Memory of an attack that averages its gradients over draws."""
    rows = [
        "| `pgd`, 3 steps, random MAIL (width 16, 64 px) | added peak memory, MiB | ratio |",
        "|---|---|---|",
    ]
    first = 0.0
    for draws, together in ((1, 1), (8, 1), (DRAWS, 1), (DRAWS, 4)):
        added = memory(draws, together, min(options.batch, 32))
        first = first or added
        rows.append(
            f"| EOT of {draws} draws, {together} at a time | {added:.0f} | {added / first:.2f} |"
        )
    return rows


def processor() -> str:
    """The processor's name, where the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


PARTS = {"pgd": pgd, "autoattack": autoattack, "eot": eot}


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
    parser.add_argument(
        "--samples", type=int, default=16, help="Samples for AutoAttack, which takes minutes."
    )
    options = parser.parse_args()
    for name in options.part or PARTS:
        table = "\n".join(PARTS[name](options))
        page = PAGE.read_text(encoding="utf-8")
        before, start, rest = page.partition(START.format(name))
        PAGE.write_text(
            f"{before}{start}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8"
        )
        print(f"{table}\n\nwritten into {PAGE}", flush=True)


if __name__ == "__main__":
    main()
