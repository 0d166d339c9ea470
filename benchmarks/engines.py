"""Agreement of the native attacks with torchattacks and ART on a trained victim, as the table of
docs/engines.md.

    python benchmarks/engines.py --data-root ../shared/data --out reports/engines

Victim, radii and budgets are those of tests/support/strength.py; robust accuracy and passes a
sample come from the records. The table between the markers of docs/engines.md is replaced;
`--attack fab,autoattack` measures these rows anew and leaves the others, where the victim comes out
of its training as it did for them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.strength import CASES, MATCHED, SIZE, VICTIM, N, matched_ensembles  # noqa: E402

from robustbench_med.attacks import ENGINES  # noqa: E402
from robustbench_med.progress import Display  # noqa: E402
from robustbench_med.runs.run import run  # noqa: E402
from robustbench_med.runs.session import Job  # noqa: E402
from robustbench_med.runs.spec import RunSpec  # noqa: E402

PAGE = ROOT / "docs" / "engines.md"
START, END = "<!-- measured -->", "<!-- end of measured -->"


def measure(options: argparse.Namespace, before: list[str]) -> list[str]:
    """Lines of the table; rows of attacks that are not asked for as they were `before`."""
    job = Job(
        out=options.out,
        data_root=options.data_root,
        accept_unverified=True,
        display=Display(quiet=False),
    )
    lines = [
        "| attack | norm, radius, budget | native | torchattacks | ART |",
        "|---|---|---|---|---|",
    ]
    for attack, (norm, eps, parameters) in CASES.items():
        if attack not in options.attack:
            lines += [line for line in before if line.startswith(f"| `{attack}` |")]
            continue
        found = {}
        for engine, known in ENGINES.items():
            if attack not in known:
                found[engine] = "-"
                continue
            has = known[attack].__kwdefaults__ or {}
            spec = RunSpec(
                model=["unimodal"],
                model_params=VICTIM["params"],
                recipe=VICTIM["recipe"],
                data=["sartaj-mri"],
                size=SIZE,
                attack=[attack],
                norm=[norm],  # type: ignore[list-item]
                eps=[eps],
                limit=N,
                engine=engine,  # type: ignore[arg-type]
                attack_params={
                    key: value
                    for key, value in (parameters | MATCHED.get((engine, attack), {})).items()
                    if key in has
                },
                control=False,
            )
            with matched_ensembles():
                (record,) = run(spec, job)
            cost = record.cost
            forward, backward = cost.attack_forward_per_sample, cost.attack_backward_per_sample
            passes = f"{forward:.0f} + {backward:.0f}"
            found[engine] = f"{record.figures.robust:.3f} ({passes} passes)"
            print(attack, engine, found[engine], flush=True)
        budget = ", ".join(f"{key} {value}" for key, value in parameters.items())
        budget += "; matched passes" if attack in ("cw", "fab", "autoattack") else ""
        asked = f"{norm} {eps}{', ' + budget if budget else ''}"
        lines.append(
            f"| `{attack}` | {asked} | {found['native']} | {found['torchattacks']} |"
            f" {found['art']} |"
        )
    head = (
        f"unimodal (ResNet-18, width {VICTIM['params']['width']}) on sartaj-mri, {SIZE} px, the"
        f" first {N} test images: robust accuracy (forward + backward passes a sample). Clean"
        f" accuracy {record['figures']['clean']:.3f}."
    )
    if len(options.attack) < len(CASES) and head not in before:
        raise SystemExit(f"this is another victim than the table's: measure all rows\n{head}")
    return [head, "", *lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--attack",
        type=lambda text: text.split(","),
        default=list(CASES),
        help="rows to measure, by default all",
    )
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(END)[1]
    table = "\n".join(measure(parser.parse_args(), page.splitlines()))
    PAGE.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")
    print(f"{table}\n\nwritten into {PAGE}")


if __name__ == "__main__":
    main()
