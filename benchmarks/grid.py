"""The speed of a grid: processes, carried sweeps and cascades, what an executor costs besides the
work, a simulated scheduler, and the plan of the whole benchmark.

    python benchmarks/grid.py --out FOLDER [--units 8] [--limit 32] [--size 32]
    [--only processes,carried,overhead,plan] [--device cpu]

writes FOLDER/grid.md (tables) and FOLDER/grid.png. Everything it runs stays in FOLDER, its own home
with the trained victims too; folders of timed runs are made anew. The machine should have nothing
else to do. `processes` is needed by the simulation, which is shown wherever its records are.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from scheduler import Costs, simulated

from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.job import Job
from robustbench_med.runs.plan import plan
from robustbench_med.runs.planned import RunPlan
from robustbench_med.runs.run import grid_of, ledger_unit
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import units_of
from robustbench_med.store.store import Record, Store

PARTS = ("processes", "carried", "overhead", "plan")
RADII = "2/255,4/255,8/255,16/255"
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
SETS, MODELS = 20, "early,late,gmu,mmtm,lmf,cross-attention,mail,robust-mail"
DEFENCES = "none,pgd-at,trades,jpeg,median,smoothing"
SEEDS, GRID_RADII, GRID_ATTACKS = 3, "1/255,4/255,8/255", "fgsm,pgd,apgd,fab,square,autoattack"
UNITS = SETS * 8 * 6 * SEEDS
GPUS = (1, 4, 64)
SUSTAINED = (1, 5, 20)
"""TFLOP/s that a GPU might sustain: a parameter of the table, nothing measured."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is that is run.

    Attributes:
        out: where.
        units: victims of the timed grids.
        limit, size: samples, and pixels of a side.
        device: for the plan alone; everything else is about processors.
    """

    out: Path
    units: int
    limit: int
    size: int
    device: str


# --- running --------------------------------------------------------------------------------------


def seconds(*words: object) -> float:
    """Seconds of a `medrobust` command, Python's start among them."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "robustbench_med.cli", *map(str, words)], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return time.perf_counter() - start


def anew(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def grid(sizes: Sizes, units: int | None = None, first: int = 0) -> list[object]:
    """Options of a grid of so many victims: one model, a training seed each, shortly trained."""
    seeds = ",".join(map(str, range(first, first + (units or sizes.units))))
    return ["--model", "late", "--train-seed", seeds, "--size", sizes.size, "--recipe", "steps=100"]


def attacked(sizes: Sizes, attacks: str = "pgd,apgd", eps: str = "4/255") -> list[object]:
    """Options that attack these victims."""
    return ["--limit", sizes.limit, "--attack", attacks, "--eps", eps]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table; numbers with three digits."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


# --- the parts ------------------------------------------------------------------------------------


def processes(sizes: Sizes) -> Iterator[str]:
    """The same grid by one process and by two, and its halves by two commands side by side that
    share nothing: what the machine itself gives to a second process.
    """
    taken = {}
    for name, jobs, threads in (("one", 1, 1), ("one-of-two-threads", 1, 2), ("two", 2, 1)):
        out = anew(sizes.out / name)
        how = ["--jobs", jobs, "--threads", threads, "--out", out]
        taken[jobs, threads] = seconds("run", *grid(sizes), *attacked(sizes), *how)
    two = taken[2, 1]
    rows: list[list[object]] = [[j, t, s, s / two] for (j, t), s in taken.items()]
    apart = _halves(sizes)
    rows.append(["two commands of half", 1, apart, apart / two])
    yield f"## Two processes, {sizes.units} units\n"
    yield from table(["processes", "threads each", "seconds", "over 2 x 1"], rows)


def _halves(sizes: Sizes) -> float:
    """Seconds until both halves of the grid are done, each by a command and a folder of its own."""
    half = sizes.units // 2
    outs = [anew(sizes.out / f"half-{first}") for first in (0, half)]
    with ThreadPoolExecutor(2) as both:
        start = time.perf_counter()
        for done in [
            both.submit(seconds, "run", *grid(sizes, half, first), *attacked(sizes),
                        "--threads", 1, "--out", out)
            for first, out in zip((0, half), outs, strict=True)
        ]:  # fmt: skip
            done.result()
        return time.perf_counter() - start


def carried(sizes: Sizes) -> Iterator[str]:
    """A sweep and a cascade against cells by themselves."""
    many = attacked(sizes, "pgd,apgd", RADII)
    yield f"## Carried sweeps, radii {RADII}\n"
    yield from _against(sizes, "sweep", many, "--carry")
    yield "## Cascades, pgd then apgd then square\n"
    cascade = attacked(sizes, "pgd,apgd,square", "4/255,8/255")
    yield from _against(sizes, "cascade", cascade, "--cascade")


def _against(sizes: Sizes, name: str, options: Sequence[object], switch: str) -> Iterator[str]:
    """Passes and seconds with a switch and without it, and the lowest figure at each radius."""
    rows = []
    for label, more in (("by itself", []), (switch, [switch])):
        out = anew(sizes.out / f"{name}{'-alone' if not more else ''}")
        how = ["--no-control", "--no-challenge", "--threads", 1, "--out", out]
        seconds("run", *grid(sizes, 1), *options, *how, *more)
        records = Store(out).records()
        by_radius: dict[float, list[Record]] = defaultdict(list)
        for record in records:
            by_radius[max(record.spec.threat.radii)].append(record)
        lowest = {eps: min(r.figures.robust for r in under) for eps, under in by_radius.items()}
        passes = sum((r.cost.attack_forward or 0) + (r.cost.attack_backward or 0) for r in records)
        judged = sum(r.cost.evaluation_forward or 0 for r in records)
        spent = sum(r.cost.seconds for r in records)
        falls = " ".join(f"{lowest[eps]:.3f}" for eps in sorted(lowest))
        rows.append([label, passes, judged, spent, falls])
    ratio = [f"{rows[0][i] / rows[1][i]:.2f}" for i in (1, 2, 3)]
    heads = [
        "cells",
        "passes of attacks",
        "passes that judge",
        "seconds",
        "lowest of the attacks by radius",
    ]
    yield from table(heads, [*rows, ["ratio", *ratio, ""]])


def overhead(sizes: Sizes) -> Iterator[str]:
    """What a unit costs that is done already: its victim loaded and tried, its records read. The
    difference between all units and half of them leaves starts out.
    """
    rows, few = [], sizes.units // 2
    executors: list[tuple[str, list[object]]] = [("1 process", []), ("2 processes", ["--jobs", 2])]
    if importlib.util.find_spec("ray"):
        executors.append(("Ray, this machine", ["--executor", "ray"]))
    if shutil.which("sinfo") and not subprocess.run(["sinfo"], capture_output=True).returncode:
        executors.append(("Slurm", ["--executor", "slurm"]))
    for name, how in executors:
        out = sizes.out / "one"
        half, whole = (
            seconds("run", *grid(sizes, n), *attacked(sizes), *how, "--threads", 1, "--out", out)
            for n in (few, sizes.units)
        )
        rows.append([name, half, whole, (whole - half) / (sizes.units - few)])
    yield "## A unit that is done already\n"
    yield from table(["executor", f"{few} units, s", f"{sizes.units} units, s", "a unit, s"], rows)


def costs_of(sizes: Sizes) -> Costs:
    """What the driver does for a unit, and how long a worker takes to start."""
    spec = RunSpec(model=["late"], train_seed=list(range(200)), size=sizes.size, limit=sizes.limit)
    session = Session.open(spec, Job(out=sizes.out / "none"), check_attacks, writes=False)
    start = time.perf_counter()
    planned = grid_of(session)
    session.victims.plan(planned)
    units = units_of(planned, session)
    for unit in units:
        ledger_unit(unit, session)
    planning = (time.perf_counter() - start) / len(units)
    start = time.perf_counter()
    for unit in units:
        unit.written()
    handing = (time.perf_counter() - start) / len(units)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import robustbench_med.runs.executors.worker"], check=True
    )
    return Costs(time.perf_counter() - start, planning, handing)


def unit_seconds(out: Path) -> list[float]:
    """Seconds of each victim's cells, as their records have them."""
    by_victim: dict[str, float] = defaultdict(float)
    for record in Store(out).records():
        spent = record.cost.seconds + (record.cost.challenge_seconds or 0.0)
        by_victim[record.spec.victim.weights_sha256] += spent
    return list(by_victim.values())


def simulation(sizes: Sizes) -> Iterator[str]:
    """The whole benchmark's units on 1 to 1,000 workers, their times drawn from those recorded."""
    known = unit_seconds(sizes.out / "one")
    costs, rng = costs_of(sizes), random.Random(0)
    units = [rng.choice(known) for _ in range(UNITS)]
    ordered = sorted(units, reverse=True)
    runs = [(simulated(units, n, costs), simulated(ordered, n, costs)) for n in WORKERS]
    yield f"## Simulated: {UNITS} units, {min(known):.1f} to {max(known):.1f} s each\n"
    yield (
        f"A worker starts in {costs.start:.1f} s; the driver plans a unit in"
        f" {1e3 * costs.planning:.1f} ms and hands it over in {1e3 * costs.handing:.2f} ms.\n"
    )
    rows = [
        [a.workers, a.seconds / 3600, b.seconds / 3600, a.speedup, a.speedup / a.workers, a.bound]
        for a, b in runs
    ]
    heads = ["workers", "hours", "longest first", "speedup", "efficiency", "bound by"]
    yield from table(heads, rows)
    draw([a.speedup for a, _ in runs], sizes.out / "grid.png")
    yield "![Speedup over workers](grid.png)\n"


def draw(speedups: Sequence[float], path: Path) -> None:
    """Speedup over workers, beside what would be perfect."""
    figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
    axis.plot(WORKERS, WORKERS, "--", color="0.6", label="perfect")
    axis.plot(WORKERS, speedups, "o-", color="#00695c", label="simulated")
    axis.set(xscale="log", yscale="log", xlabel="workers", ylabel="speedup")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


# --- the plan of the whole benchmark --------------------------------------------------------------


def whole_plan(sizes: Sizes) -> Iterator[str]:
    """Passes of one data set with one training seed, as `medrobust plan` counts them on phantoms,
    and what follows for 20 sets and 3 seeds.
    """
    models, defences = MODELS.split(","), DEFENCES.split(",")
    rows, seconds_of_victims, total = [], list[float](), [0, 0, 0.0, 0.0]
    for model in models:
        planned = _planned(model, defences, sizes)
        trained = sum(training.seconds or 0.0 for training in planned.trainings)
        numbers = [planned.passes.forward, planned.passes.backward, planned.flops / 1e15]
        rows.append([model, len(planned.cells), *numbers, planned.seconds / 3600, trained / 3600])
        seconds_of_victims += [victim.seconds for victim in planned.victims]
        total = [a + b for a, b in zip(total, [*numbers, planned.seconds / 3600], strict=True)]
    times = SETS * SEEDS
    yield f"## {SETS} sets x {len(models)} models x {len(defences)} defences x {SEEDS} seeds\n"
    yield (
        f"One set and one seed, {sizes.limit} samples of {sizes.size} px, on {sizes.device}; upper"
        " bounds, as samples leave attacks early and nothing is carried.\n"
    )
    heads = ["model", "cells", "forward", "backward", "PFLOPs", "hours here", "trainings, h"]
    yield from table(heads, rows)
    hours = f"{times * total[3]:.4g} hours on one {sizes.device}"
    yield f"All of it: {times * total[2]:.4g} PFLOPs, {hours}.\n"
    yield from _on_gpus(seconds_of_victims * times, times * total[2], sizes.device)


def _planned(model: str, defences: Sequence[str], sizes: Sizes) -> RunPlan:
    spec = RunSpec(model=[model], defense=list(defences), attack=GRID_ATTACKS.split(","),
                   eps=GRID_RADII.split(","), size=sizes.size, limit=sizes.limit)  # fmt: skip
    return plan(spec, Job(out=sizes.out / "none", device=sizes.device))


def _on_gpus(units: Sequence[float], petaflops: float, device: str) -> Iterator[str]:
    """Hours on several devices: scheduled by the times of this one; and by FLOPs at a rate that is
    assumed.
    """
    nothing = Costs(0.0, 0.0, 0.0)
    ordered = sorted(units, reverse=True)
    measured = [[n, simulated(ordered, n, nothing).seconds / 3600] for n in GPUS]
    yield from table([f"devices such as this {device}", "hours"], measured)
    heads = ["GPUs", *(f"hours at {rate} TFLOP/s each (assumed)" for rate in SUSTAINED)]
    assumed = [[n, *(1e3 * petaflops / rate / n / 3600 for rate in SUSTAINED)] for n in GPUS]
    yield from table(heads, assumed)
    longest = max(units) / statistics.fmean(units)
    yield f"The longest unit takes {longest:.1f} times the mean of all {len(units)}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--units", type=int, default=8, help="victims of the timed grids")
    parser.add_argument("--limit", type=int, default=32, help="test samples")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--device", default="cpu", help="of the plan")
    options = parser.parse_args()
    sizes = Sizes(options.out.resolve(), options.units, options.limit, options.size, options.device)
    os.environ["MEDROBUST_HOME"] = str(sizes.out / "home")
    asked = options.only.split(",")
    if asked != ["plan"]:
        seconds("train", *grid(sizes))  # no timed run trains
    pages = {"processes": processes, "carried": carried, "overhead": overhead, "plan": whole_plan}
    text = [line for name, part in pages.items() if name in asked for line in part(sizes)]
    if (sizes.out / "one").is_dir():
        text += simulation(sizes)
    sizes.out.mkdir(parents=True, exist_ok=True)
    (sizes.out / "grid.md").write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
