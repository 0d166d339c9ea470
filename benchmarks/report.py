"""Time and memory of `medrobust report` on a large store, as a ratio to merely reading the store,
in one run.

    python benchmarks/report.py --out FOLDER

The records are made up (50 victims, 5 attacks, 4 radii, 2 seeds: 2,000 with per-sample outcomes and
example images); the report is real.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from robustbench_med.store.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.records import fill, record

ATTACKS = ("fgsm", "pgd", "apgd", "square", "noise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--victims", type=int, default=50)
    options = parser.parse_args()
    records = [
        record(
            f"victim-{i}",
            max(0.9 - 0.1 * eps - 0.003 * i, 0),
            attack=attack,
            eps=eps / 255,
            seed=seed,
        )
        for i in range(options.victims)
        for attack in ATTACKS
        for eps in (1, 2, 4, 8)
        for seed in (0, 1)
    ]
    store = fill(Store(options.out), *records, images=True)
    start = time.perf_counter()
    for kept in store.records():
        store.arrays(kept)
    reading = time.perf_counter() - start
    start = time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "robustbench_med.cli",
            "report",
            "--out",
            str(options.out),
            "--quiet",
        ],
        check=True,
    )
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{len(records)} records: report {took:.1f} s and {peak:.0f} MiB, reading alone"
        f" {reading:.1f} s, ratio {took / reading:.1f}"
    )


if __name__ == "__main__":
    main()
