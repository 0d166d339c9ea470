"""What a GPU makes of attacks, in one call of a few minutes: steps against the bare passes, eager,
captured, compiled and in other formats; AutoAttack beside its authors' code; EOT; engines side by
side.

    python benchmarks/gpu.py --write              # the block of docs/performance.md
    python benchmarks/gpu.py --out gpu.md         # a file, on a machine that is only lent
    python benchmarks/gpu.py --device cpu --tiny  # that it runs: no figure of it means anything

Phantoms and victims of the zoo alone: it needs neither real images nor a network. What a machine
lacks (a package, CUDA graphs) is said in its row. Seconds are of the wall, the device waited for;
contestants take turns, medians of the repeats; peaks are PyTorch's allocated memory.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from attack_speed import bare
from official import SmallCNN, official, trained
from page import Table, headed, processor, timed, written
from torch import Tensor, nn

from robustbench_med import load_data, load_model
from robustbench_med.attacks import (
    ENGINES,
    Accelerated,
    RefusedError,
    Streams,
    Threat,
    View,
    complete,
)
from robustbench_med.errors import UserError
from robustbench_med.naming import Acceleration

WAYS: dict[str, tuple[Acceleration, ...]] = {
    "eager": (),
    "graphs": ("graphs",),
    "compile": ("compile",),
    "channels-last": ("channels-last",),
    "bf16": ("bf16",),
    "graphs+channels-last+bf16": ("graphs", "channels-last", "bf16"),
}
STEPS = 20
EPS = 4 / 255


class Bench:
    """The device, and the networks and images that are timed on it."""

    def __init__(self, device: str, *, tiny: bool) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.batches = (4, 8) if tiny else (8, 32, 128)
        self.repeats, self.steps = (1, 1) if tiny else (3, 300)
        self.draws = (1, 2) if tiny else (1, 8, 32)
        self.data = load_data("phantoms")
        samples = self.data.splits["test"]
        self.images = [m.to(self.device) for m in samples.batch(range(self.batches[-1]))]
        self.y = samples.labels[: self.batches[-1]].to(self.device)
        self.ids = list(samples.ids[: self.batches[-1]])

    def clock(self) -> float:
        """Seconds, once the device has done all it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def head(self) -> str:
        """What was measured on what."""
        name = torch.cuda.get_device_name(self.device) if self.cuda else processor()
        return f"{name}, torch {torch.__version__}, phantoms, medians of {self.repeats}."

    def peak(self, work: Callable[[], Any]) -> str:
        """MiB that some work allocates at most."""
        if not self.cuda:
            return "-"
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        return f"{(torch.cuda.max_memory_allocated(self.device) - before) / 2**20:.0f}"

    @functools.cached_property
    def small(self) -> SmallCNN:
        """The network of the other benchmarks, trained on the phantoms' first task."""
        samples = self.data.splits["train"]
        x, y = samples.batch(range(len(samples)))[0].to(self.device), samples.labels[:, 0]
        return trained(x, y.to(self.device), self.data.class_counts[0], self.steps)

    def zoo(self, name: str) -> nn.Module:
        """A victim of the zoo."""
        return load_model(name, device=str(self.device)).requires_grad_(False)


def pgd(
    view: View, x: Sequence[Tensor], y: Tensor, ids: list[str], engine: str = "native", **given: Any
) -> Tensor:
    """Twenty steps that drop no sample, or what is `given`."""
    how: dict[str, Any] = {"steps": STEPS, "step_size": 0.125, **given}
    if engine == "native":
        how = {"keep": "last", **how}
    threat = Threat("Linf", (EPS,) * len(view.segments), tuple(range(y.shape[1])))
    streams = Streams.seeded(0, ids, "pgd", device=y.device)
    known = complete("pgd", how, engine=engine)
    return ENGINES[engine]["pgd"](view, view.pack(x), y, threat, streams, **known)


def view_of(network: nn.Module, x: Sequence[Tensor], **given: Any) -> View:
    """A network behind the flat view of these images."""
    return View(network, [tuple(images.shape[1:]) for images in x], **given)  # type: ignore[misc]


# --- the tables -----------------------------------------------------------------------------------


def steps(bench: Bench) -> Table:
    """Steps of `pgd` against the bare passes, in every way of computing them."""
    table = headed(
        bench.head(),
        f"`pgd`, {STEPS} steps",
        "batch",
        "bare, ms a step",
        *WAYS,
        "peak MiB, eager",
    )
    for name, network in (("SmallCNN", bench.small), ("late", bench.zoo("late"))):
        for batch in bench.batches:
            parts = network.n_modalities if isinstance(network, SmallCNN) else len(bench.images)
            x = [images[:batch] for images in bench.images[:parts]]
            y, ids = bench.y[:batch, :parts], bench.ids[:batch]
            flat = view_of(network, x).pack(x)
            work: dict[str, Callable[[], Any]] = {
                "bare": functools.partial(bare, network, view_of(network, x), flat, y, STEPS)
            }
            lacking = {}
            for said, how in WAYS.items():
                view = view_of(network, x)
                try:
                    if how:
                        view.through = Accelerated(network, how, most=batch)
                    work[said] = functools.partial(pgd, view, x, y, ids)
                    work[said]()  # compiled and captured before the clock runs
                except RefusedError as error:
                    work.pop(said, None)
                    lacking[said] = str(error)
            found = timed(work, bench.repeats, bench.clock)
            passes = found["bare"][0]
            cells = []
            for said in WAYS:
                cells.append("-" if said in lacking else f"{found[said][0] / passes:.2f}")
                if said not in lacking:
                    table.ratios[f"{name}, {said} / bare, batch {batch}"] = float(cells[-1])
            milliseconds = f"{1000 * passes / STEPS:.2f}"
            table.row(name, batch, milliseconds, *cells, bench.peak(work["eager"]))
    for said, why in lacking.items():
        table.lines.append(f"\n{said}: {why}")
    return table


def autoattack(bench: Bench) -> Table:
    """The ensemble as published, beside its authors' code where that is installed."""
    table = headed(bench.head(), "SmallCNN", "seconds", "robust accuracy", "to the official one")
    x, y, n = bench.images[0], bench.y[:, 0], bench.batches[-1]
    view, threat = view_of(bench.small, [x]), Threat("Linf", (EPS,), (0,))

    def ours(name: str) -> Tensor:
        streams = Streams.seeded(0, bench.ids, name, device=bench.device)
        moved = ENGINES["native"][name](
            view, view.pack([x]), y[:, None], threat, streams, **complete(name, {})
        )
        return moved.view_as(x)

    members = ["apgd-ce", "apgd-t", "fab-t", "square"]
    work: dict[str, Callable[[], Any]] = {
        name: functools.partial(ours, name) for name in ("autoattack", "adaptive")
    }
    try:
        import pyautoattack  # noqa: F401

        work["official"] = official(bench.small, x, y, "Linf", members)
    except ImportError:
        table.lines.append("| official | not installed (`pyautoattack`) | | |")
    found = timed(work, 1, bench.clock)
    for name, (seconds, moved) in found.items():
        images = moved[0] if isinstance(moved, tuple) else moved
        left = float((bench.small(images)[0].argmax(1) == y[:n]).float().mean())
        to = f"{seconds / found['official'][0]:.2f}" if "official" in found else "-"
        table.row(name, f"{seconds:.2f}", f"{left:.3f}", to)
    return table


def eot(bench: Bench) -> Table:
    """Gradients over several draws of Robust-MAIL: time a draw, and memory."""
    table = headed(bench.head(), "`robust-mail`, 3 steps", "seconds", "a draw / one", "peak MiB")
    network, batch = bench.zoo("robust-mail"), bench.batches[len(bench.batches) // 2]
    x, y = [images[:batch] for images in bench.images], bench.y[:batch]
    view, first = view_of(network, x, draws=2), 0.0
    for draws in bench.draws:
        work = functools.partial(pgd, view, x, y, bench.ids[:batch], steps=3, eot=draws)
        work()
        seconds = timed({"eot": work}, bench.repeats, bench.clock)["eot"][0]
        first = first or seconds
        share = seconds / draws / first
        table.ratios[f"EOT {draws}, a draw / one"] = share
        table.row(f"EOT {draws}, batch {batch}", f"{seconds:.2f}", f"{share:.2f}", bench.peak(work))
    return table


def engines(bench: Bench) -> Table:
    """`pgd` of every library that is installed, on one batch."""
    table = headed(bench.head(), f"SmallCNN, {STEPS} steps", "batch", "seconds", "to native")
    x, y = [bench.images[0]], bench.y[:, :1]
    view, work = view_of(bench.small, x), dict[str, Callable[[], Any]]()
    lacking = {}
    for engine in ("native", "torchattacks", "art", "foolbox"):
        run = functools.partial(pgd, view, x, y, bench.ids, engine)
        try:
            run()
        except (UserError, ImportError) as error:
            lacking[engine] = str(error)
        else:
            work[engine] = run
    try:
        from adv_lib.attacks import pgd_linf

        def adversarial_library() -> Tensor:
            model = nn.Sequential(bench.small.layers)
            moved: Tensor = pgd_linf(model, x[0], y[:, 0], EPS, steps=STEPS, restarts=1)
            return moved

        adversarial_library()
        work["adversarial-library"] = adversarial_library
    except ImportError as error:
        lacking["adversarial-library"] = str(error)
    found = timed(work, bench.repeats, bench.clock)
    for name, (seconds, _) in found.items():
        ratio = seconds / found["native"][0]
        table.row(name, len(y), f"{seconds:.3f}", f"{ratio:.2f}")
    for name, why in lacking.items():
        table.row(name, len(y), f"not here: {why.splitlines()[0]}", "")
    return table


PARTS = {"steps": steps, "autoattack": autoattack, "eot": eot, "engines": engines}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help=f"Of {', '.join(PARTS)}; all by default.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="few samples, no repeats")
    parser.add_argument("--out", type=Path, help="a file of the tables")
    parser.add_argument("--write", action="store_true", help="the block of docs/performance.md")
    options = parser.parse_args()
    bench = Bench(options.device, tiny=options.tiny)
    lines: list[str] = []
    for name in options.part or PARTS:
        print(f"\n{name}", flush=True)
        lines += [*PARTS[name](bench).lines, ""]
        if options.out:
            options.out.write_text("\n".join(lines), encoding="utf-8")  # what is there, if it ends
    if options.write:
        written("gpu", lines[:-1])


if __name__ == "__main__":
    main()
