"""Kills run, train, merge and report at their file-system calls, and starts them again.

    PYTHONPATH=tests python benchmarks/kills.py [--every 1] [--first N] [--only JOB,...]

A killed command must leave no torn file; started again it must end as one that was never killed,
without doing finished cells again, and leave no file that an uninterrupted one does not.
"""

from __future__ import annotations

import argparse

from support.kills import JOBS, killed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="kill at one call in so many")
    parser.add_argument("--first", type=int, help="of these, the number of the first")
    parser.add_argument("--only", default=",".join(JOBS), help="jobs, comma-separated")
    given = parser.parse_args()
    first = given.every // 2 + 1 if given.first is None else given.first
    rows = []
    for name in given.only.split(","):
        found = killed(JOBS[name], given.every, first)
        rows.append((name, found["calls"], found["kills"], len(found["faults"])))
        said = [f"{name}: {fault}" for fault in found["faults"]] or [f"{name}: done"]
        print("\n".join(said), flush=True)
    print("\n| command | calls | kills | faults |\n| --- | ---: | ---: | ---: |")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
