"""How well the time of cells was foretold: what records keep of it against what they took.

    medrobust run ... --out OUT     # once for records without a like one, again with --force
    python benchmarks/estimates.py OUT [OUT ...]

Prints, for each basis of an estimate (`record`: one of the same victim and attack on this device;
`passes`: a few timed passes, an upper bound), the cells, the share within a factor of two, the
share that took longer, and the median and tenth and ninetieth percentiles of truth over estimate.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robustbench_med.store.store import Record, Store

FACTOR = 2.0


def ratios(records: Sequence[Record]) -> pd.DataFrame:
    """Truth over estimate of every record that has an estimate, and its basis."""
    rows = []
    for record in records:
        cost = record.cost
        if cost.estimated_seconds is not None:
            took = cost.seconds + (cost.challenge_seconds or 0)
            rows.append([cost.estimate_basis, record.attack_label, took / cost.estimated_seconds])
    return pd.DataFrame(rows, columns=["basis", "attack", "ratio"])


def table(found: pd.DataFrame, by: str) -> list[str]:
    """A row a group of estimates, as markdown."""
    lines = [
        f"| {by} | cells | within a factor of {FACTOR:g} | took longer | truth / estimate,"
        " 10 %, median, 90 % |",
        "|---|---|---|---|---|",
    ]
    for group, cells in found.groupby(by):
        ratio = cells.ratio
        within = ratio.between(1 / FACTOR, FACTOR).mean()
        spread = " ".join(f"{value:.2f}" for value in ratio.quantile([0.1, 0.5, 0.9]))
        row = [str(group), str(len(cells)), f"{within:.0%}", f"{(ratio > 1).mean():.0%}", spread]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="+", help="folders of records")
    parser.add_argument("--attacks", action="store_true", help="a row for each attack too")
    arguments = parser.parse_args()
    found = ratios([record for out in arguments.out for record in Store(out).records()])
    if found.empty:
        raise SystemExit("no record there keeps an estimate")
    print("\n".join(table(found, "basis")))
    if arguments.attacks:
        for basis, cells in found.groupby("basis"):
            print(f"\n{basis}\n" + "\n".join(table(cells, "attack")))


if __name__ == "__main__":
    main()
