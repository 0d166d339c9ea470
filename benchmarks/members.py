"""What attacks leave standing against the passes they take, and what each adds to the rounds of an
adaptive attack: which of them `--attack adaptive` should be made of.

    python benchmarks/members.py --data-root ../shared/data --out OUT

Small networks on real images and phantoms, one modality, at radii where an FMN of 400 steps breaks
half of the samples. Every attack runs at several numbers of steps; passes are forward and backward
ones together. Writes OUT/members.csv and OUT/members.png, and prints the table of docs/engines.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import NullFormatter
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.minimum_norms import names  # noqa: E402
from support.small_nets import Case, victim  # noqa: E402

from robustbench_med.attacks import ATTACKS, Streams, Threat, View, complete, entry_of  # noqa: E402
from robustbench_med.attacks.threat import Norm  # noqa: E402
from robustbench_med.naming import NORMS  # noqa: E402

CASES = {
    "sartaj-mri": Case("sartaj-mri", 8),
    "sartaj-mri, adversarially trained": Case("sartaj-mri", 16, far=0.5),
    "pneumoniamnist, adversarially trained": Case("pneumoniamnist", 16, far=1.0, scale=10.0),
    "phantoms": Case("phantoms", 8),
}
MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "apgd ce": ("apgd", {"loss": "ce"}),
    "apgd margin": ("apgd", {"loss": "margin"}),
    "apgd pma": ("apgd", {"loss": "pma"}),
    "apgd dlr": ("apgd", {"loss": "dlr"}),
    "apgd-t": ("apgd-t", {}),
    "malt": ("malt", {}),
    "pgd margin": ("pgd", {"loss": "margin"}),
    "pgd ce": ("pgd", {"loss": "ce"}),
    "fab": ("fab", {}),
    "ddn": ("ddn", {}),
    "fmn": ("fmn", {}),
    "sigma-zero": ("sigma-zero", {}),
}
STEPS = (10, 25, 50, 100)
BOX = 100
"""Steps at which they are compared as members."""


def radius_of(view: View, x: Tensor, y: Tensor, norm: Norm) -> float:
    """Half of the samples have an FMN perturbation below it."""
    search = entry_of("fmn").minimal
    assert search is not None
    threat, given = Threat(norm, (1e5,), (0,)), complete("fmn", {"steps": 400})
    size = search(view, x, y, threat, streams(x, "fmn"), **given).size[0]
    middle = float(size.median())
    return max(round(middle), 1) if norm == "L0" else middle


def streams(x: Tensor, name: str) -> Streams:
    return Streams.seeded(0, names(x), name)


def attacked(
    view: View, x: Tensor, y: Tensor, threat: Threat, name: str, given: dict[str, Any]
) -> tuple[Tensor, float]:
    """Which samples still stand (B,), and passes a sample."""
    before = view.passes.forward + view.passes.backward
    found = ATTACKS[name](view, x, y, threat, streams(x, name), **complete(name, given))
    taken = (view.passes.forward + view.passes.backward - before) / len(x)
    view.check(found, x, threat)
    return view.standing(found, y, threat) > 0, taken


def curves(data_root: Path | None, n: int) -> Iterator[dict[str, Any]]:
    """A row for each victim, norm, attack and number of steps."""
    for called, case in CASES.items():
        view, x, y = victim(case, n, data_root)
        for norm in NORMS:
            threat = Threat(norm, (radius_of(view, x, y, norm),), (0,))
            for label, (name, given) in MEMBERS.items():
                if norm not in entry_of(name).norms:
                    continue
                for steps in STEPS:
                    stands, passes = attacked(view, x, y, threat, name, {**given, "steps": steps})
                    print(f"{called}, {norm}: {label}, {steps} steps", flush=True)
                    yield {
                        "victim": called,
                        "norm": norm,
                        "radius": threat.radii[0],
                        "attack": label,
                        "steps": steps,
                        "passes": passes,
                        "left": float(stands.float().mean()),
                        "stands": "".join(str(int(each)) for each in stands),
                    }


def standing_of(stands: str) -> np.ndarray:
    """A string of 0 and 1 as a mask (B,)."""
    return np.array(list(stands)) == "1"


def in_turn(found: pd.DataFrame) -> pd.DataFrame:
    """Of each victim and norm the three attacks that break most a pass one after another: each time
    the one that breaks the most of those that still stand, over its passes.
    """
    rows = []
    for (called, norm), group in found[found.steps == BOX].groupby(["victim", "norm"], sort=False):
        rest = {row.attack: (standing_of(row.stands), row.passes) for row in group.itertuples()}
        left = np.ones(len(next(iter(rest.values()))[0]), dtype=bool)
        for place in (1, 2, 3):
            took = {name: int((left & ~stands).sum()) for name, (stands, _) in rest.items()}
            pace = {name: took[name] / passes for name, (_, passes) in rest.items()}
            best = max(pace, key=pace.__getitem__)
            if took[best] == 0:
                break
            stands, passes = rest.pop(best)
            left &= stands
            rows.append([called, norm, place, best, took[best], int(left.sum()), passes])
    columns = ["victim", "norm", "place", "attack", "took", "left", "passes"]
    return pd.DataFrame(rows, columns=columns)


def table(found: pd.DataFrame) -> list[str]:
    """What is left and the passes a sample, as markdown."""
    lines = ["| victim | norm, radius | " + " | ".join(MEMBERS) + " |"]
    lines.append("|---" * (2 + len(MEMBERS)) + "|")
    at = found[found.steps == BOX]
    for (called, norm, radius), group in at.groupby(["victim", "norm", "radius"], sort=False):
        cells = {row.attack: f"{row.left:.3f} ({row.passes:.0f})" for row in group.itertuples()}
        row = [called, f"{norm} {radius:.3g}", *(cells.get(name, "-") for name in MEMBERS)]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def figure(found: pd.DataFrame, file: Path) -> None:
    """Passes a sample against what is left, a panel for each victim and norm."""
    victims = list(dict.fromkeys(found.victim))
    _, panels = plt.subplots(
        len(victims), len(NORMS), figsize=(14, 3 * len(victims)), sharey=True, layout="constrained"
    )
    colours = dict(zip(MEMBERS, plt.get_cmap("tab20").colors, strict=False))  # type: ignore[attr-defined]
    for row, called in zip(panels, victims, strict=True):
        for panel, norm in zip(row, NORMS, strict=True):
            here = found[(found.victim == called) & (found.norm == norm)]
            for label, curve in here.groupby("attack", sort=False):
                panel.plot(
                    curve.passes, curve.left, marker="o", ms=3, color=colours[label], label=label
                )
            panel.set_xscale("log")
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.set_title(f"{called}\n{norm} {here.radius.iloc[0]:.3g}", fontsize=9)
    for panel in panels[-1]:
        panel.set_xlabel("passes a sample")
    for row in panels:
        row[0].set_ylabel("share left")
    labels = [plt.Line2D([], [], color=colours[name], marker="o", ms=4) for name in MEMBERS]
    panels[0, -1].figure.legend(labels, list(MEMBERS), loc="outside right center")
    plt.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=64, help="samples of each victim")
    parser.add_argument("--table", action="store_true", help="of what is there already")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "members.csv"
    if not arguments.table:
        pd.DataFrame(curves(arguments.data_root, arguments.n)).to_csv(file, index=False)
    found = pd.read_csv(file, dtype={"stands": str})
    figure(found, arguments.out / "members.png")
    print("\n".join(table(found)))
    print(in_turn(found).to_string(index=False))


if __name__ == "__main__":
    main()
