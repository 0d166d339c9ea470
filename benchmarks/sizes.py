"""What a cell costs by the number of its samples, an attack by the number of pixels, and the board
by the number of records.

    python benchmarks/sizes.py [samples] [pixels] [records]

Writes blocks of docs/performance.md. Images are noise and the network is untrained; labels are what
it predicts, and the radius is so small that every sample stands to the last step. Each number is
measured in a process of its own: processor seconds, and the peak of memory that they add to what is
there before (the images among it).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attack_speed import bare
from page import Table, headed, high_water, in_a_process, processor, timed, written

from robustbench_med import evaluate
from robustbench_med.attacks import ATTACKS, Streams, Threat, View, complete
from robustbench_med.data.given import make_data
from robustbench_med.models.fusion import LateFusion
from robustbench_med.store.store import Store

EPS = 1e-6


def victim(side: int, width: int) -> LateFusion:
    """Untrained, two modalities, two tasks."""
    torch.manual_seed(0)
    model = LateFusion((1, 1), (2, 3), width=width, image_size=side)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def predicted(model: LateFusion, images: list[torch.Tensor]) -> torch.Tensor:
    """(B, T), what the network predicts: every sample is right, and attacked."""
    parts = zip(*(modality.split(1000) for modality in images), strict=True)
    return torch.cat([torch.stack([z.argmax(1) for z in model(*part)], 1) for part in parts])


def cell(n: int) -> Callable[[], Path]:
    """A whole cell of so many samples: the folder of its record."""
    model, out = victim(16, 4), Path(tempfile.mkdtemp())
    images = [torch.rand(n, 1, 16, 16) for _ in range(2)]
    classes = [["absent", "present"], ["a", "b", "c"]]
    data = make_data(images, predicted(model, images), classes=classes)
    given: dict[str, Any] = {"control": False, "quiet": True, "batch_size": 128, "limit": 0}
    params = {"steps": 3}

    def work() -> Path:
        evaluate(model, "pgd", data=data, eps=EPS, attack_params=params, out=out, **given)
        return out

    return work


def measured(n: int, answer: Any) -> None:
    """Seconds, MiB added, and MiB of the outcomes on disk."""
    torch.set_num_threads(1)
    cell(2)()  # what the libraries load on first use
    work = cell(n)
    before, start = high_water(), time.process_time()
    out = work()
    took, added = time.process_time() - start, high_water() - before
    stored = sum(file.stat().st_size for file in (out / "records").glob("*.npz")) / 2**20
    answer.put((took, added, stored))


def samples(options: argparse.Namespace) -> Table:
    """A cell by the number of its samples."""
    head = f"{processor()}, 1 thread, torch {torch.__version__}, late fusion of width 4, two"
    table = headed(
        f"{head} modalities of 16 px, two tasks, a cell of `pgd` with 3 steps.",
        "samples",
        "seconds",
        "a sample / one of the first row",
        "MiB added",
        "MiB of outcomes on disk",
    )
    first = 0.0
    for n in options.samples:
        seconds, added, stored = in_a_process(measured, n)
        first = first or seconds / n
        share = seconds / n / first
        if n > options.samples[0]:
            table.ratios[f"a sample of {n:,} / one of {options.samples[0]:,}"] = share
        table.row(f"{n:,}", f"{seconds:.1f}", f"{share:.2f}", f"{added:.0f}", f"{stored:.1f}")
    return table


def pixels(options: argparse.Namespace) -> Table:
    """Steps of `pgd` over the bare passes, by the number of pixels."""
    table = headed(
        f"{processor()}, 1 thread, torch {torch.__version__}, late fusion of width 8, two"
        f" modalities, 8 samples, 10 steps, medians of {options.repeats}.",
        "pixels a side",
        "bare, seconds",
        "pgd / bare",
    )
    how = complete("pgd", {"steps": 10, "step_size": 0.25, "keep": "last"})
    for side in options.pixels:
        model = victim(side, 8)
        images = [torch.rand(8, 1, side, side) for _ in range(2)]
        view, y = View(model, [(1, side, side)] * 2), predicted(model, images)
        x, threat = view.pack(images), Threat("Linf", (EPS, EPS), (0, 1))

        def attacked(
            view: View = view, x: Any = x, y: Any = y, threat: Threat = threat
        ) -> torch.Tensor:
            streams = Streams.seeded(0, [str(i) for i in range(len(x))], "pgd")
            return ATTACKS["pgd"](view, x, y, threat, streams, **how)

        def passes(model: Any = model, view: View = view, x: Any = x, y: Any = y) -> torch.Tensor:
            return bare(model, view, x, y, 10)

        found = timed({"bare": passes, "pgd": attacked}, options.repeats)
        ratio = found["pgd"][0] / found["bare"][0]
        table.ratios[f"pgd / bare, {side} px"] = ratio
        table.row(side, f"{found['bare'][0]:.2f}", f"{ratio:.2f}")
    return table


def records(options: argparse.Namespace) -> Table:
    """`medrobust leaderboard` over stores of made-up records."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.records import fill, record

    table = headed(
        f"{processor()}, `medrobust leaderboard`, records with outcomes, half a victim each attack,"
        " radius and seed.",
        "records",
        "seconds",
        "peak MiB",
    )
    for n in options.records:
        with tempfile.TemporaryDirectory() as folder:
            made = [
                record(f"victim-{i // 40}", 0.5, attack=attack, eps=eps / 255, seed=seed)
                for i in range(0, n, 40)
                for attack in ("fgsm", "pgd", "apgd", "square", "noise")
                for eps in (1, 2, 4, 8)
                for seed in (0, 1)
            ]
            fill(Store(Path(folder)), *made)
            command = [sys.executable, "-m", "robustbench_med.cli", "leaderboard", "--out", folder]
            start = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True)
            end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
        table.row(f"{len(made):,}", f"{seconds:.1f}", f"{end.ru_maxrss / 1024:.0f}")
    return table


PARTS = {"samples": samples, "pixels": pixels, "records": records}
USUAL: dict[str, dict[str, Any]] = {
    "samples": {"samples": [1000, 10_000, 100_000]},
    "pixels": {"pixels": [28, 64, 128, 224], "repeats": 5},
    "records": {"records": [1000, 10_000]},
}


def main() -> None:
    """Prints the tables, and writes them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help=f"Of {', '.join(PARTS)}; all by default.")
    parser.add_argument("--print", action="store_true", help="leave the page alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.part or PARTS:
        table = PARTS[name](argparse.Namespace(**USUAL[name]))
        if not options.print:
            written(name, table.lines)


if __name__ == "__main__":
    main()
