"""Broken and honest victims under the product's own attacks: what each row reports, the word that
says how far it can be trusted, and what an attack that knows the defect leaves. The table of
docs/trust.md.

    python benchmarks/trust.py --data-root ../shared/data --out OUT
    python benchmarks/trust.py --data-root ../shared/data --out OUT --victims HalfDead cosine
    python benchmarks/trust.py --data-root ../shared/data --out OUT --table          # what is there
    python benchmarks/trust.py --data-root ../shared/data --out OUT --table --write

The victims are those of tests/support/broken; their networks are trained once, in seconds, and kept
below `$MEDROBUST_HOME`. Records lie in OUT, and one that is there is not measured again. The table
has the victims of which OUT holds something; `--write` puts it between the markers of
docs/trust.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.broken.catalogue import VICTIMS, Listed  # noqa: E402
from support.broken.training import pairing  # noqa: E402

from robustbench_med import evaluate, leaderboard  # noqa: E402
from robustbench_med.errors import UserError  # noqa: E402
from robustbench_med.naming import label  # noqa: E402
from robustbench_med.paths import write_atomically  # noqa: E402

PAGE = ROOT / "docs" / "trust.md"
START, END = "<!-- broken victims -->", "<!-- end of broken victims -->"
EPS = "8/255"
ATTACKS = ("pgd", "apgd", "autoattack", "adaptive")
WEAK: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 7, "step_size": 0.05},
    "fab": {"steps": 1},
    "apgd": {"steps": 3},
}
"""Attacks too weak for the plain network, whose rows must not look like those of a strong one."""
WEAKLY_ATTACKED = "plain"
BELIEVED = "challenged"
"""The word that says that a figure may be trusted."""
TOLERANCE = 0.03
"""How much higher than the truth a trusted figure may be."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="folder of the files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--victims", nargs="*", default=list(VICTIMS), choices=list(VICTIMS))
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--n", type=int, default=64, help="test images")
    parser.add_argument("--max-passes", type=int, default=1000, help="of adaptive, a sample")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help="put the table into docs/trust.md")
    options = parser.parse_args()
    if not options.table:
        for name in options.victims:
            measure(VICTIMS[name], options)
            print("\n".join(table(options, [VICTIMS[name]])), flush=True)
    lines = list(table(options, VICTIMS.values()))
    print("\n".join(lines))
    if options.write:
        write(lines)


def measure(listed: Listed, options: argparse.Namespace) -> None:
    """Every cell of a victim that is not there yet, and what the attack that knows it leaves."""
    data = pairing(listed.data, options.data_root)
    common = {
        "out": options.out,
        "data": listed.data,
        "data_root": options.data_root,
        "accept_unverified": True,
        "size": data.size,
        "checkpoint": listed.checkpoint(data, options.out / "weights"),
        "allow_batch_dependent": listed.batch_dependent,
        "limit": options.n,
        "eps": EPS,
        "control": False,
    }
    for attack in options.attacks:
        effort = {"max_passes": options.max_passes} if attack == "adaptive" else {}
        evaluate(listed.model, attack, **common, **effort)
    if listed.name == WEAKLY_ATTACKED:
        for attack, parameters in WEAK.items():
            evaluate(listed.model, attack, **common, attack_params=parameters)
    truths = known(options.out)
    key = f"{listed.name} {options.n}"
    if key not in truths:
        truths[key] = listed.truth(data, data.splits["test"].head(options.n))
        text = json.dumps(truths, indent=1)
        write_atomically(options.out / "knowing.json", lambda path: path.write_text(text))


def known(out: Path) -> dict[str, float]:
    """What knowing attacks left, by victim and number of images."""
    path = out / "knowing.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def table(options: argparse.Namespace, wanted: Any) -> Iterator[str]:
    """Lines of Markdown: a row a victim, a column an attack."""
    try:
        board = leaderboard(options.out).cells
    except UserError:  # nothing is there
        return
    truths = known(options.out)
    yield (
        f"Robust accuracy in % (Linf {EPS}, the first {options.n} test images) and the word in"
        " `trust`. **!**: the word says that the figure may be trusted, and it lies more than"
        f" {100 * TOLERANCE:.0f} points above the lowest of the row."
    )
    yield ""
    yield "| cause | victim | defect | " + " | ".join(ATTACKS) + " | attack that knows it |"
    yield "|---" * (4 + len(ATTACKS)) + "|"
    for listed in wanted:
        rows = board[(board.model == label(listed.model)) & (board.n == options.n)]
        if rows.empty:
            continue
        truth = truths.get(f"{listed.name} {options.n}")
        lowest = min([*rows.robust, *([] if truth is None else [truth])])
        cells = [shown(rows[rows.attack == name], lowest) for name in ATTACKS]
        cause = "honest" if listed.honest else str(listed.row or "-")
        last = "-" if truth is None else f"{100 * truth:.1f}"
        yield f"| {cause} | `{listed.name}` | {listed.defect} | {' | '.join(cells)} | {last} |"


def shown(rows: pd.DataFrame, lowest: float) -> str:
    """The figures of one attack with their words; of several parameters the lowest last."""
    marked = []
    for _, row in rows.sort_values("robust", ascending=False).iterrows():
        lies = word(row) == BELIEVED and row.robust > lowest + TOLERANCE
        marked.append(f"{100 * row.robust:.1f} {word(row)}" + (" **!**" if lies else ""))
    return "; ".join(marked) or "-"


def word(row: pd.Series) -> str:
    """How far a row of the leaderboard can be trusted, all rows of its victim read together."""
    return str(row.trust)


def write(lines: list[str]) -> None:
    """Puts the table between the markers of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE} has no markers {START} and {END}")
    text = "\n".join([before + START, *lines, END]) + after
    write_atomically(PAGE, lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
