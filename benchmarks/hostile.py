"""Meets every hostile input of tests/support/hostile and counts what came of them.

    PYTHONPATH=tests python benchmarks/hostile.py [--only CATEGORY,...] [--every N] [--out FILE]

An input is clean where medrobust ends with the exit code that docs/exit-codes.md has for it, says
in one line what is wrong and in which file, and stays below a gigabyte and half a minute of
processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from support.hostile import CATEGORIES, cases
from support.hostile.runner import KINDS, Result, meet, ready


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CATEGORIES), help="categories, comma-separated")
    parser.add_argument("--every", type=int, default=1, help="take one input of so many")
    parser.add_argument("--name", default="", help="inputs with this in their name")
    parser.add_argument("--out", type=Path, help="write what was not clean as JSON")
    given = parser.parse_args()
    ready()
    faults, rows = [], []
    for category in given.only.split(","):
        begun, found = time.monotonic(), Counter[str]()
        chosen = [case for case in cases(category)[:: given.every] if given.name in case.name]
        for case in chosen:
            result = meet(case)
            found[result.kind] += 1
            if result.kind != "clean":
                faults.append(_fault(category, case.name, result))
                print(f"{category}: {case.name}: {result.kind}: {result.why}", flush=True)
        rows.append((category, len(chosen), found, time.monotonic() - begun))
        print(f"-- {category}: {len(chosen)} in {rows[-1][3]:.0f} s", flush=True)
    print(table(rows))
    if given.out:
        given.out.write_text(json.dumps(faults, indent=1, ensure_ascii=True), encoding="utf-8")


def _fault(category: str, name: str, result: Result) -> dict[str, str]:
    return {
        "category": category, "name": name, "kind": result.kind, "why": result.why,
        "output": result.output[-3000:],
    }  # fmt: skip


def table(rows: list[tuple[str, int, Counter[str], float]]) -> str:
    """Counts as Markdown."""
    lines = [
        f"| category | inputs | {' | '.join(KINDS)} |",
        "| --- |" + " ---: |" * (len(KINDS) + 1),
    ]
    total = Counter[str]()
    for category, n, found, _ in rows:
        total.update(found)
        lines.append(f"| {category} | {n} | {' | '.join(str(found[kind]) for kind in KINDS)} |")
    n = sum(row[1] for row in rows)
    lines.append(f"| all | {n} | {' | '.join(str(total[kind]) for kind in KINDS)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
