"""Agreement of the native attacks with torchattacks and ART on a trained victim, as the table of docs/engines.md.

    python benchmarks/engines.py --data sartaj-mri --data-root ../shared/data --out reports/engines

Every attack runs at one radius and one budget through each engine that has it; robust accuracy and passes a sample come from the
records. The table between the markers of docs/engines.md is replaced.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from robustbench_med.attacks import ENGINES
from robustbench_med.progress import Display
from robustbench_med.runner import Job, run
from robustbench_med.spec import RunSpec

PAGE = Path(__file__).parents[1] / "docs" / "engines.md"
START, END = "<!-- measured -->", "<!-- end of measured -->"
BUDGETS: dict[str, tuple[str, str, dict[str, Any]]] = {  # attack: norm, radius, parameters
    "fgsm": ("Linf", "2/255", {}),
    "bim": ("Linf", "1/255", {"steps": 10, "step_size": 0.25}),
    "pgd": ("Linf", "1/255", {"steps": 10, "step_size": 0.25}),
    "mim": ("Linf", "1/255", {"steps": 10, "step_size": 0.25}),
    "apgd": ("Linf", "1/255", {"steps": 20}),
    "cw": ("L2", "0.25", {"c": 10}),
    "fab": ("Linf", "1/255", {"steps": 10}),
    "square": ("Linf", "4/255", {"queries": 150}),
    "autoattack": ("Linf", "2/255", {"version": "standard"}),
}

MATCHED: dict[tuple[str, str], dict[str, Any]] = {  # ART searches along every step: its passes are what the others get
    ("cw", "native"): {"steps": 100, "search": 8},
    ("cw", "torchattacks"): {"steps": 800},
    ("cw", "art"): {"steps": 30, "search": 4},
}


def measure(options: argparse.Namespace) -> list[str]:
    """Lines of the table."""
    job = Job(out=options.out, data_root=options.data_root, accept_unverified=True, display=Display(quiet=False))
    lines = ["| attack | norm, radius, budget | native | torchattacks | ART |", "|---|---|---|---|---|"]
    for attack, (norm, eps, parameters) in BUDGETS.items():
        found = {}
        for engine, known in ENGINES.items():
            if attack not in known:
                found[engine] = "-"
                continue
            has = known[attack].__kwdefaults__ or {}
            spec = RunSpec(
                model=[options.model],
                data=[options.data],
                attack=[attack],
                norm=[norm],  # type: ignore[list-item]
                eps=[eps],
                limit=options.limit,
                engine=engine,  # type: ignore[arg-type]
                attack_params={key: value for key, value in (parameters | MATCHED.get((attack, engine), {})).items() if key in has},
                control=False,
            )
            (record,) = run(spec, job)
            cost = record["cost"]
            passes = f"{cost['attack_forward_per_sample']:.0f} + {cost['attack_backward_per_sample']:.0f}"
            found[engine] = f"{record['figures']['robust']:.3f} ({passes} passes)"
            print(attack, engine, found[engine], flush=True)
        budget = ", ".join(f"{key} {value}" for key, value in parameters.items()) + ("; matched passes" if attack == "cw" else "")
        asked = f"{norm} {eps}{', ' + budget if budget else ''}"
        lines.append(f"| `{attack}` | {asked} | {found['native']} | {found['torchattacks']} | {found['art']} |")
    head = (
        f"{options.model} on {options.data}, the first {options.limit} test images: robust accuracy (forward + backward passes a sample). "
        f"Clean accuracy {record['figures']['clean']:.3f}."
    )
    return [head, "", *lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--model", default="unimodal")
    parser.add_argument("--data", default="sartaj-mri")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--out", type=Path, required=True)
    table = "\n".join(measure(options := parser.parse_args()))
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")
    print(f"{table}\n\nwritten into {PAGE}, records in {options.out}")


if __name__ == "__main__":
    main()
