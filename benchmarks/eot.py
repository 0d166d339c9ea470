"""What each change of the attack on random victims takes, at equal passes: from the plain mean of
cross-entropy gradients to what `pgd` does under the protocol `sound`, one change a line.

    python benchmarks/eot.py --out OUT                       # Robust-MAIL of the zoo, phantoms
    python benchmarks/eot.py --out OUT --model mail late --defense none rpf --budget 20x4
    python benchmarks/eot.py --out OUT --data breastmnist+pneumoniamnist --data-root DATA
    python benchmarks/eot.py --out OUT --table               # the tables of what is there

Robust accuracy on fresh draws that chose nothing, by medrobust's own protocol and options. Records
lie in OUT, and one that is there is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustbench_med import evaluate
from robustbench_med.errors import UserError
from robustbench_med.store.store import Record, Store

MEAN = {"combine": "mean", "momentum": 0.0, "schedule": "constant", "loss": "ce", "path": 2.5}
CHANGES: dict[str, dict[str, Any]] = {
    "mean of cross-entropy gradients, constant step": {},
    "+ each draw's gradient normalised, alone": {"combine": "normalised"},
    "+ momentum, alone": {"momentum": 0.9},
    "+ decaying step, alone": {"schedule": "cosine", "path": 10.0},
    "+ margin loss, alone": {"loss": "margin"},
    "+ momentum and decaying step": {"momentum": 0.9, "schedule": "cosine", "path": 10.0},
    "all but normalised": {
        "momentum": 0.9,
        "schedule": "cosine",
        "path": 10.0,
        "loss": "margin",
    },
    "all: `pgd` under `sound`": {
        "combine": "normalised",
        "momentum": 0.9,
        "schedule": "cosine",
        "path": 10.0,
        "loss": "margin",
    },
    "all, and soft gradients": {
        "combine": "normalised",
        "momentum": 0.9,
        "schedule": "cosine",
        "path": 10.0,
        "loss": "margin",
        "soft": True,
    },
}
"""What is changed of `MEAN`; `path` is what steps of the first one's size would go in all."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="*", default=["robust-mail"])
    parser.add_argument("--defense", nargs="*", default=["none"])
    parser.add_argument("--data", default="phantoms")
    parser.add_argument("--data-root", type=Path, help="folder of the files")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--n", type=int, default=32, help="test images")
    parser.add_argument("--draws", type=int, default=64, help="fresh draws that judge")
    parser.add_argument("--eps", nargs="*", default=["4/255"], help="Linf radii")
    parser.add_argument("--budget", nargs="*", default=["20x4"], help="steps x draws a step")
    parser.add_argument("--change", nargs="*", type=int, help="numbers of the changes; default all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        measure(arguments)
    print("\n".join(tables(Store(arguments.out).records())))


def measure(arguments: argparse.Namespace) -> None:
    """Every cell that is not there yet."""
    changes = list(CHANGES.values())
    for budget in arguments.budget:
        steps, eot = map(int, budget.split("x"))
        for number in arguments.change or range(len(changes)):
            try:
                evaluate(
                    arguments.model,
                    "pgd",
                    out=arguments.out,
                    defense=arguments.defense,
                    data=arguments.data,
                    data_root=arguments.data_root,
                    accept_unverified=True,
                    preset=arguments.preset,
                    size=arguments.size,
                    limit=arguments.n,
                    draws=arguments.draws,
                    eps=arguments.eps,
                    control=False,
                    attack_params=parameters(changes[number], steps, eot),
                )
            except UserError as error:  # a victim without soft gradients
                if "soft" not in changes[number]:
                    raise
                print(error)


def parameters(change: dict[str, Any], steps: int, eot: int) -> dict[str, Any]:
    """What `--attack-param` says for a change and budget."""
    given = {**MEAN, **change, "steps": steps, "eot": eot}
    given["step_size"] = given.pop("path") / steps
    return given


def tables(records: list[Record]) -> Iterator[str]:
    """A Markdown table a data set and radius: a column a victim and budget."""
    found: dict[tuple[str, str, int], dict[tuple[str, str], dict[str, Record]]] = {}
    for record in records:
        params, victim = record.spec.attack.params, record.spec.victim.model
        budget = f"{params['steps']} x {params['eot']}"
        for change, settings in CHANGES.items():
            wanted = {"soft": False} | parameters(settings, params["steps"], params["eot"])
            if wanted.items() <= params.items():
                where = (record.spec.data.label, record.eps, record.figures.tasks[0].n)
                found.setdefault(where, {}).setdefault((victim, budget), {})[change] = record
    for (data, eps, n), columns in found.items():
        heads = []
        for (victim, budget), rows in columns.items():
            clean = next(iter(rows.values())).figures.clean
            heads.append(f"{victim} (clean {clean:.3f}), {budget}")
        yield f"\n`{data}`, Linf {eps}, n = {n}\n"
        yield "| change | " + " | ".join(heads) + " |"
        yield "|---" * (1 + len(columns)) + "|"
        for change in CHANGES:
            shown = [
                f"{rows[change].figures.robust:.3f}" if change in rows else "-"
                for rows in columns.values()
            ]
            yield f"| {change} | " + " | ".join(shown) + " |"


if __name__ == "__main__":
    main()
