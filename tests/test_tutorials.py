"""The tutorials: notebooks that run as they stand, with one bar a call that ends."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.cli import medrobust
from support.files import ROOT, SHARED_DATA

README = ROOT / "README.md"
TUTORIALS = ROOT / "docs" / "tutorials"
ON_REAL_IMAGES = "my-classifier"
NAMES = sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))


SHORTEN = "from support.short import shorten, unsynced\nshorten(), unsynced();"
"""The cell before a notebook's own: what follows each attack is as short as in other tests."""


def run(name: str, folder: Path) -> list[dict[str, Any]]:
    """The outputs of a notebook that was run in a folder of its own."""
    nbformat = pytest.importorskip("nbformat", reason="notebooks run with the extra dev")
    client = pytest.importorskip("nbclient", reason="notebooks run with the extra dev")
    notebook = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SHORTEN))
    place = {"metadata": {"path": str(folder)}}
    client.NotebookClient(notebook, timeout=1200, resources=place).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_there_are_five_and_the_site_has_them() -> None:
    assert len(NAMES) == 5
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(f"tutorials/{name}.md" in navigation for name in NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs_as_it_stands(name: str, tmp_path: Path, monkeypatch) -> None:
    if name == ON_REAL_IMAGES:
        if not (SHARED_DATA / "breastmnist.npz").exists():
            pytest.skip(f"no BreastMNIST in {SHARED_DATA}")
        monkeypatch.setenv("MEDROBUST_DATA", str(SHARED_DATA))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    outputs = run(name, tmp_path)
    streams = "".join(output.get("text", "") for output in outputs)
    assert "ipywidgets" not in streams
    assert "Traceback" not in streams
    bars = [output for output in outputs if output.output_type == "display_data"]
    assert all("done" in output["data"]["text/plain"] for output in bars if is_bar(output))
    if name == "readme-tour":
        assert robust_of(outputs, "late") == of_the_command_line(tmp_path / "reports")
        ours = float(robust_of(outputs, "robust-mail")[0])
        assert ours == pytest.approx(of_the_readme(), abs=0.02)


def is_bar(output: Any) -> bool:
    return re.match(r"[\[\d]", output["data"].get("text/plain", "")) is not None


def robust_of(outputs: list[Any], model: str) -> list[str]:
    """Robust accuracy of a model in the first table that has it, radii ascending."""
    tables = [o["data"]["text/plain"] for o in outputs if o.output_type == "execute_result"]
    row = rf" {model} +phantoms +Linf +(\d+)/255 +\d+ +[\d.]+ +([\d.]+)"
    rows = next(found for table in tables if (found := re.findall(row, table)))
    return [robust for _, robust in sorted(rows, key=lambda row: int(row[0]))]


def of_the_command_line(out: Path) -> list[str]:
    """The same of `late`, from the command line, which reads what the notebook has measured."""
    radii = ["1/255", "4/255", "8/255"]
    options = ["--model", "late", "--attack", "pgd", "--eps", ",".join(radii), "--out", out]
    done = medrobust("run", *options)
    said = done.stdout + done.stderr
    found = [re.search(rf"late pgd {radius} .*: done before", said) for radius in radii]
    assert all(found), said
    cells = pd.read_csv(out / "cells.csv").query("model == 'late' and attack == 'pgd'")
    return [f"{robust:.3f}" for robust in cells.sort_values("eps")["robust"]]


def of_the_readme() -> float:
    """What PGD leaves of Robust-MAIL at 4/255 in the README's tour."""
    said = re.findall(r"robust-mail pgd 4/255 on phantoms: robust ([\d.]+)", README.read_text())
    return float(said[0])
