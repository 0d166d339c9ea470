"""The tutorials: notebooks that run as they stand, with one bar a call that ends."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.files import ROOT, SHARED_DATA

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
        assert rows_of_the_readme() == robust_of(outputs)


def is_bar(output: Any) -> bool:
    return re.match(r"[\[\d]", output["data"].get("text/plain", "")) is not None


def rows_of_the_readme() -> list[str]:
    """Robust accuracy of `late` under PGD in the README's table."""
    (line,) = re.findall(r"^\| `late` \|(.+)\|$", (ROOT / "README.md").read_text(), re.M)
    return [cell.split()[0] for cell in line.split("|")[1:]]


def robust_of(outputs: list[Any]) -> list[str]:
    """The same in the first table of the notebook, radii ascending."""
    shown = next(o["data"]["text/plain"] for o in outputs if o.output_type == "execute_result")
    rows = re.findall(r" late +phantoms +Linf +(\d+)/255 +\d+ +[\d.]+ +([\d.]+)", shown)
    return [robust for _, robust in sorted(rows, key=lambda row: int(row[0]))]
