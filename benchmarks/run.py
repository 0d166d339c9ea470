"""All tables of docs/performance.md, and what became of their ratios since the last committed run.

    python benchmarks/run.py --quick --data-root ../shared/data     # some ten minutes on two cores
    python benchmarks/run.py --full --data-root ../shared/data      # hours

Contestants take turns in one process; figures are medians of processor time, and what is compared
with earlier runs are ratios: seconds mean little on another machine. Both modes write the page;
docs/performance.json keeps the ratios of each mode. A ratio more than `WORSE` above the committed
one is marked, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attack_speed
import official
import sizes
import tasks
import torch
from page import PAGE, Table, processor, written

KEPT = PAGE.with_suffix(".json")
WORSE = 0.1
PARTS = {
    **{f"official {name}": part for name, part in official.PARTS.items()},
    **attack_speed.PARTS,
    **tasks.PARTS,
    **sizes.PARTS,
}
"""By block of the page."""
MODES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "official step": {"repeats": 3},
        "official square": {"repeats": 3, "classes": [4, 2]},
        "official autoattack": {"repeats": 1, "classes": [4, 2], "samples": 32},
        "eot": {"batch": 8},
        "tasks": {"tasks": "1,4,14", "batch": 32, "steps": 5},
        "samples": {"samples": [1000, 10_000]},
        "pixels": {"pixels": [28, 64, 128], "repeats": 3},
        "records": {"records": [1000]},
    },
    "full": {
        "official step": {"repeats": 5},
        "official square": {"repeats": 5, "classes": [4, 3, 2]},
        "official autoattack": {"repeats": 3, "classes": [4, 3, 2], "samples": 96},
        "pgd": {"repeats": 3, "batch": 96, "radii": "8,4"},
        "eot": {"batch": 32},
        "tasks": {"tasks": "1,2,4,7,14", "batch": 32, "steps": 5},
        **sizes.USUAL,
    },
}


def committed() -> dict[str, Any]:
    """What the last commit keeps; empty where there is none."""
    place = KEPT.relative_to(PAGE.parents[1])
    found = subprocess.run(
        ["git", "show", f"HEAD:{place}"], cwd=PAGE.parent, capture_output=True, check=False
    )
    return json.loads(found.stdout) if found.returncode == 0 else {}


def changes(before: dict[str, float], now: dict[str, float]) -> tuple[list[str], int]:
    """A table of ratios against those of the last committed run, and how many are worse."""
    rows, worse = ["| ratio | committed | now | change |", "|---|---|---|---|"], 0
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        change = ""
        if old is not None and new is not None:
            change = f"{new / old - 1:+.0%}"
            if new > old * (1 + WORSE):
                change, worse = f"{change} worse", worse + 1
        cells = ("-" if each is None else f"{each:.2f}" for each in (old, new))
        rows.append(f"| {name} | {' | '.join(cells)} | {change} |")
    return rows, worse


def main() -> None:
    """Measures, writes, compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    for name in MODES:
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=PARTS, help="blocks of the page")
    parser.add_argument("--print", action="store_true", help="leave the page alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = options.only or list(MODES[options.mode])
    ratios: dict[str, float] = {}
    for name, given in MODES[options.mode].items():
        if name not in chosen:
            continue
        print(f"\n{name}", flush=True)
        table: Table = PARTS[name](argparse.Namespace(data_root=options.data_root, **given))
        ratios |= table.ratios
        if not options.print:
            written(name, table.lines)
    before = committed().get(options.mode, {}).get("ratios", {})
    if not options.print:
        keep(options.mode, (before if options.only else {}) | ratios)
    if options.only:
        before = {name: ratio for name, ratio in before.items() if name in ratios}
    rows, worse = changes(before, ratios)
    print("\n".join(["", *rows]))
    if worse:
        sys.exit(f"{worse} ratios are more than {WORSE:.0%} above the last committed run's")


def keep(mode: str, ratios: dict[str, float]) -> None:
    """Writes the ratios of a mode beside the page."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    kept[mode] = {
        "processor": processor(),
        "torch": torch.__version__,
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
