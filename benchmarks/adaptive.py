"""The strongest attack there is against AutoAttack, on deterministic victims: what each leaves, and
what it costs.

    python benchmarks/adaptive.py --out OUT --data-root DATA           # measure, then print
    python benchmarks/adaptive.py --out OUT --table                    # the table of what is there

`adaptive` must leave at most the tolerance (one point, or one sample of fewer than 100) more than
`autoattack` (standard from 4 classes, few-class below) and take no more passes. Victims are small
and trained in a minute. Records lie in OUT, and one that is there is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from robustbench_med import evaluate
from robustbench_med.statistics import tolerance_of
from robustbench_med.store.store import Record, Store

PAIRINGS = ("breastmnist+pneumoniamnist", "sartaj-mri+breastmnist")
THREATS = {"Linf": ["2/255", "8/255"], "L2": ["0.5"]}
ATTACKS = ("autoattack", "adaptive")
HEAD = (
    "data",
    "victim",
    "threat",
    "clean",
    "AutoAttack leaves",
    "adaptive leaves",
    "difference",
    "passes of AutoAttack",
    "of adaptive",
    "its search",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="*", default=["late", "gmu"])
    parser.add_argument("--defense", nargs="*", default=["none"])
    parser.add_argument("--data", nargs="*", default=list(PAIRINGS))
    parser.add_argument("--data-root", type=Path, help="folder of the files")
    parser.add_argument("--size", type=int, default=28, help="pixels of a side")
    parser.add_argument("--width", type=int, default=8, help="of the victims")
    parser.add_argument("--steps", type=int, default=300, help="of their training")
    parser.add_argument("--n", type=int, default=64, help="test images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        measure(arguments)
    print("\n".join(table(Store(arguments.out).records())))


def measure(arguments: argparse.Namespace) -> None:
    """Every cell that is not there yet."""
    for data in arguments.data:
        for norm, radii in THREATS.items():
            evaluate(
                arguments.model,
                list(ATTACKS),
                out=arguments.out,
                defense=arguments.defense,
                data=data,
                data_root=arguments.data_root,
                accept_unverified=True,
                size=arguments.size,
                limit=arguments.n,
                model_params={"width": arguments.width},
                recipe={"steps": arguments.steps},
                norm=norm,
                eps=radii,
                control=False,
            )


def table(records: Sequence[Record]) -> Iterator[str]:
    """A Markdown table, a row a victim and threat on which both attacks ran."""
    found: dict[tuple[str, ...], dict[str, Record]] = {}
    for record in records:
        spec = record.spec
        where = (spec.data.label, spec.victim.model, f"{spec.threat.norm} {record.eps}")
        found.setdefault(where, {})[spec.attack.name] = record
    pairs = {where: each for where, each in found.items() if set(ATTACKS) <= each.keys()}
    yield "| " + " | ".join(HEAD) + " |"
    yield "|---" * len(HEAD) + "|"
    for where, each in sorted(pairs.items()):
        yield "| " + " | ".join([*where, *compared(*(each[name] for name in ATTACKS))]) + " |"
    if pairs:
        yield ""
        yield summary([(each["autoattack"], each["adaptive"]) for each in pairs.values()])


def summary(pairs: Sequence[tuple[Record, Record]]) -> str:
    """Where adaptive leaves too much, and what both took in all: in one row, where every sample
    falls at once, the random start decides who takes a pass more.
    """
    above = [pair for pair in pairs if gap(*pair) > tolerance_of(pair[0].spec.data.n) + 1e-9]
    of_autoattack, of_adaptive = (sum(map(passes, records)) for records in zip(*pairs, strict=True))
    return (
        f"{len(above)} of {len(pairs)} above the tolerance. Passes of all rows:"
        f" {of_autoattack:,.0f} of AutoAttack, {of_adaptive:,.0f} of adaptive."
    )


def compared(autoattack: Record, adaptive: Record) -> list[str]:
    """The cells of a row behind where it was measured."""
    ran = adaptive.attack_ran
    assert ran is not None
    assert ran.search is not None
    return [
        f"{autoattack.figures.clean:.3f}",
        f"{autoattack.figures.robust:.3f}",
        f"{adaptive.figures.robust:.3f}",
        f"{gap(autoattack, adaptive):+.3f}",
        *(f"{passes(record):,.0f}" for record in (autoattack, adaptive)),
        f"{ran.search.outcome}, {len(ran.search.rounds)} rounds",
    ]


def passes(record: Record) -> float:
    """Forward and backward passes an attacked sample."""
    cost = record.cost
    return cost.attack_forward_per_sample + cost.attack_backward_per_sample


def gap(autoattack: Record, adaptive: Record) -> float:
    """What adaptive leaves above AutoAttack."""
    return adaptive.figures.robust - autoattack.figures.robust


if __name__ == "__main__":
    main()
