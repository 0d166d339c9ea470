"""A folder for any static host: the leaderboard of entries, the entries, and the documentation."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from robustbench_med.errors import UserError
from robustbench_med.paths import writable_folder, write_text
from robustbench_med.reports import board, floors, page, paper
from robustbench_med.reports.board_tables import boards
from robustbench_med.reports.tables import csv
from robustbench_med.store import entry_files

DOCUMENTATION = "documentation"


def write(entries: Path, out: Path, docs: Path | None = None) -> list[Path]:
    """Writes index.html, leaderboard.csv, leaderboard.md and leaderboard.tex of a folder of
    entries, the entries below entries/, and the documentation below documentation/; every link in
    it is relative.

    Args:
        docs: the mkdocs.yml that the documentation is built of; None: no documentation.

    Returns:
        The files, but for those of the documentation, which its index.html stands for.

    Raises:
        UserError: no entry can be read, mkdocs is missing, or the documentation cannot be built.
    """
    found = entry_files.read(entries)
    writable_folder(out)
    built = [] if docs is None else [_documentation(docs, out / DOCUMENTATION)]
    ranked = board.frame(found)
    tables = list(boards(ranked))
    files = {
        "index.html": page.of_entries(
            found, documentation=f"{DOCUMENTATION}/index.html" if built else ""
        ),
        "leaderboard.csv": csv(floors.with_floors(ranked)),
        "leaderboard.md": "\n".join(map(paper.markdown, tables)),
        "leaderboard.tex": paper.document(tables),
    }
    for name, text in files.items():
        write_text(out / name, text)
    kept = entry_files.write(found, out / "entries")
    for path in set((out / "entries").glob("*.json")) - set(kept):
        path.unlink()  # of an earlier board
    return [*(out / name for name in files), *kept, *built]


def _documentation(docs: Path, out: Path) -> Path:
    if not docs.is_file():
        raise UserError(f"--docs {docs}: there is no such file; a copy of the repository has one")
    if find_spec("mkdocs") is None:
        raise UserError("--docs needs mkdocs: pip install 'medrobust[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", str(docs)]
    command += ["--site-dir", str(out.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UserError(f"--docs {docs}: mkdocs cannot build it: {last}")
    return out / "index.html"
