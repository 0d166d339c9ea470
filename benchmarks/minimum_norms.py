"""The native searches for the smallest perturbation beside Foolbox's, on three small networks and
real images, as a table of docs/attacks.md.

    python benchmarks/minimum_norms.py --data-root ../shared/data

Networks, images and budgets are those of tests/attacks/test_foolbox.py. A few minutes on one core.
The table between the markers of docs/attacks.md is replaced.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.minimum_norms import COMPARED, native, of_foolbox  # noqa: E402
from support.small_nets import CASES, victim  # noqa: E402

from robustbench_med.attacks import Streams, Threat, complete, entry_of  # noqa: E402

PAGE = ROOT / "docs" / "attacks.md"
START, END = "<!-- measured -->", "<!-- end of measured -->"
N = 64


def table(data_root: Path | None) -> list[str]:
    """Its lines."""
    lines = [
        "| network, images | search | found, ours / Foolbox | median size, ours / Foolbox |"
        " passes a sample, ours / Foolbox |",
        "|---|---|---|---|---|",
    ]
    for called, case in CASES.items():
        view, x, y = victim(case, N, data_root)
        for compared in COMPARED:
            (ours, taken), (theirs, spent) = (
                search(compared, view, x, y) for search in (native, of_foolbox)
            )
            found = f"{int(ours.isfinite().sum())} / {int(theirs.isfinite().sum())}"
            sizes = f"{size(ours)} / {size(theirs)}"
            passes = f"{taken / N:.0f} / {spent / N:.0f}"
            row = [f"{called}, `{case.data}`", f"`{compared.name}` {compared.norm}", found]
            lines.append(f"| {' | '.join([*row, sizes, passes])} |")
            print(lines[-1], flush=True)
        threat = Threat("L0", (1e5,), (0,), counts="coordinates")
        before = view.passes.forward + view.passes.backward
        streams = Streams.seeded(0, [str(i) for i in range(N)], "sigma-zero")
        search = entry_of("sigma-zero").minimal
        assert search is not None
        alone = search(view, x, y, threat, streams, **complete("sigma-zero", {})).size[0]
        taken = view.passes.forward + view.passes.backward - before
        row = [f"{called}, `{case.data}`", "`sigma-zero` L0", f"{int(alone.isfinite().sum())} / -"]
        lines.append(f"| {' | '.join([*row, f'{size(alone)} / -', f'{taken / N:.0f} / -'])} |")
        print(lines[-1], flush=True)
    return lines


def size(found: Tensor) -> str:
    """The median, where half of the samples are broken."""
    median = float(found.median())
    return f"{median:.4g}" if median < torch.inf else "not half"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data-root", type=Path)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(END)[1]
    torch.set_num_threads(1)
    lines = "\n".join(table(parser.parse_args().data_root))
    PAGE.write_text(f"{before}{START}\n{lines}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
