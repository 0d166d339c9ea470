"""The shipped board: docs/results.md and README.md say what the entries in results/ say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import medrobust
from support.files import ROOT

PAGES = ("README.md", "docs/results.md")
NUMBERS = r"Python 3\.\d+|torch 2\.\d+\.\d+|arXiv \d{4}\.\d{5}"
"""Of versions and papers."""


def test_the_pages_say_what_the_entries_say() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "results.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_leaderboard_of_the_entries_is_the_table_of_the_page(tmp_path: Path) -> None:
    medrobust("leaderboard", "--from", ROOT / "results", "--out", tmp_path)
    table = (tmp_path / "paper" / "leaderboard.md").read_text(encoding="utf-8").strip()
    assert table in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_typed_by_hand(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for made in (r"<!-- measured: .*?<!-- end of measured -->", r"```.*?```", r"`[^`\n]*`"):
        text = re.sub(made, "", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(NUMBERS, "", text))
    assert not re.findall(r".*\d\.\d.*", text)
