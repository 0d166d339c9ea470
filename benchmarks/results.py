"""The figures of docs/results.md and README.md, out of the entries in results/.

    python benchmarks/results.py             # after results/make.sh: writes them
    python benchmarks/results.py --check     # ends with 1 where a page says something else
    python benchmarks/results.py --study certified --data-root DATA --out OUT

A study (studies.py) is one or more `medrobust` commands into the folder OUT/STUDY, whose tables
stand below the board. Finished trainings and cells are read, so an interrupted study goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import answer
import pandas as pd
from page import replaced
from studies import Study, studies

from robustbench_med.reports import board as boards
from robustbench_med.reports import certified, paper, style
from robustbench_med.reports.board_tables import boards as tables_of
from robustbench_med.store import entry_files
from robustbench_med.store.store import CERTIFICATES, Certificate, Record, Store

ROOT = Path(__file__).parents[1]
DOCS, ENTRIES, README = ROOT / "docs", ROOT / "results", ROOT / "README.md"
FIGURE = DOCS / "figures" / "results.png"


# --- out of entries -------------------------------------------------------------------------------


def pages(board: pd.DataFrame) -> dict[Path, str]:
    """The pages as they should be: every generated block out of the entries' board and the claims
    beside them, the rest as it is.
    """
    blocks = {
        DOCS / "results.md": {
            "answer": answer.lines(board),
            "board": "\n".join(map(paper.markdown, tables_of(board))).strip().splitlines(),
            "claims": claims(ENTRIES / "claims.md"),
        },
        README: {"real images": answer.lines(board)},
    }
    found = {}
    for path, by_name in blocks.items():
        found[path] = path.read_text(encoding="utf-8")
        for name, lines in by_name.items():
            found[path] = replaced(found[path], name, lines)
    return found


def claims(file: Path) -> list[str]:
    """What `medrobust claims` wrote, one heading lower."""
    text = file.read_text(encoding="utf-8")
    return text.partition("\n\n")[2].strip().replace("## ", "### ").splitlines()


# --- studies --------------------------------------------------------------------------------------


def run(study: Study, folder: Path, data_root: str) -> None:
    """Runs the commands of a study into a folder."""
    for command in study.commands:
        print(f"medrobust {command}", flush=True)
        data = (
            ["--data-root", data_root, "--accept-unverified"] if "--data" in command.split() else []
        )
        where = [*data, "--out", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "robustbench_med.cli", *command.split(), *where],
            check=True,
        )


def section(name: str, study: Study, folder: Path) -> list[str]:
    """One study: its commands, what they cost, its tables, verdict and figures."""
    commands = [f"medrobust {command}" for command in study.commands]
    lines = [f"## {study.title}", "", study.text, "", "```bash", *commands, "```", ""]
    shown = certificates if name == "certified" else compared
    return [*lines, *shown(name, folder)]


def certificates(name: str, folder: Path) -> list[str]:
    """Certified accuracy."""
    store = Store(folder, CERTIFICATES)
    frames = certified.frames(store)
    tables = certified.tables(frames["certified"], frames["certified_tasks"])
    shown = [line for table in tables for line in paper.markdown(table).splitlines()]
    return [cost(store.records()), "", *shown, "", figure(name, folder / "certified.png")]


def compared(name: str, folder: Path) -> list[str]:
    """The tables and the verdict of `medrobust compare`, its headings as bold lines."""
    text = (folder / "compare.md").read_text(encoding="utf-8").partition("\n## ")[2]
    tables, _, rest = text.partition("\n## Verdict")
    lines = [
        f"**{line.removeprefix('## ')}**" if "|" not in line and line else line
        for line in tables.strip().splitlines()
    ]
    verdict = rest.partition("\nWorst case:")[0].strip().splitlines()
    drawn = figure(name, folder / "pareto.png")
    return [cost(Store(folder).records()), "", *lines, "", drawn, "", *verdict]


def figure(name: str, drawn: Path) -> str:
    """A figure of a study, kept beside the page."""
    kept = f"figures/results-{name}.png"
    shutil.copy(drawn, DOCS / kept)
    return f"![{name}]({kept})"


def cost(records: Sequence[Record | Certificate]) -> str:
    """What was measured and how long it took, from the records."""
    trained = {
        r.spec.victim.weights_sha256: r.victim.training for r in records if isinstance(r, Record)
    }
    training = sum(facts.seconds or 0 for facts in trained.values() if facts)
    work = sum(
        (r.cost.seconds if isinstance(r, Record) else r.environment.seconds) or 0 for r in records
    )
    seeds = ", ".join(map(str, sorted({r.spec.victim.train_seed for r in records})))
    took = [f"{training / 60:.0f} minutes of training {len(trained)} victims"] if trained else []
    took.append(f"{work / 60:.0f} minutes of {'attacks' if trained else 'certifying'}")
    devices = " and ".join(sorted({r.environment.device for r in records}))
    return f"{len(records)} cells, training seeds {seeds}: {' and '.join(took)}, on {devices}."


# --- the command ----------------------------------------------------------------------------------


def main() -> None:
    """Writes the pages, or says which of them differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--study", choices=studies(), help="run this study, write its section")
    parser.add_argument("--data-root", help="real images of a study")
    parser.add_argument("--out", type=Path, help="folder of a study's records")
    options = parser.parse_args()
    if options.study:
        if not (options.data_root and options.out):
            parser.error("--study needs --data-root and --out")
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        study, folder = studies()[options.study], options.out / options.study
        run(study, folder, options.data_root)
        page = DOCS / "results.md"
        lines = section(options.study, study, folder)
        page.write_text(replaced(page.read_text(encoding="utf-8"), options.study, lines), "utf-8")
        return
    board = boards.named(boards.frame(entry_files.read(ENTRIES)))
    should = pages(board)
    differ = [path for path, text in should.items() if path.read_text(encoding="utf-8") != text]
    if options.check:
        sys.exit("\n".join(f"{path} is not what results/ says" for path in differ) or 0)
    for path in differ:
        path.write_text(should[path], encoding="utf-8")
    style.save(answer.figure(board), FIGURE)
    print("written:", *(path.relative_to(ROOT) for path in [*differ, FIGURE]))


if __name__ == "__main__":
    main()
