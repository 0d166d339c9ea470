"""Adding a part is one file and its line in a list: the files of docs/how-to/new-part.md are added
here to a copy of the package, laid out as the wheel lays it.
"""

import re
import shutil
import subprocess
import sys

import pytest
from support.files import ROOT

from robustbench_med.attacks import SCHEME

PAGE = ROOT / "docs" / "how-to" / "new-part.md"
FILES = dict(
    re.findall(r'^```(?:python|yaml) title="(.+?)"\n(.*?)^```', PAGE.read_text(), re.M | re.S)
)
"""The files that the page shows, by path; a card needs no line."""
LINES = {
    "attacks/registry.py": [
        ("    square,\n", "    square,\n    still,\n"),
        ("    square.ENTRY,\n", "    square.ENTRY,\n    still.ENTRY,\n"),
    ],
    "models/registry.py": [
        (
            "MODELS: dict[str, Entry] = {\n",
            'MODELS: dict[str, Entry] = {\n    "constant": Entry(Constant, "Constant", "no paper"),\n',
        ),
        (
            "from robustbench_med.models.drifa_net",
            "from robustbench_med.models.constant import Constant\n"
            "from robustbench_med.models.drifa_net",
        ),
    ],
    "training/objectives/__init__.py": [
        ("import awp, fast_at, free_at, mart", "import awp, fast_at, free_at, gentle, mart"),
        ("free_at.ENTRY)", "free_at.ENTRY, gentle.ENTRY)"),
    ],
}
"""The line of each in its list, and its import."""
RUN = """
import sys
from robustbench_med.attacks import revision
from robustbench_med.cli import main
from robustbench_med.models import registry
from robustbench_med.training import defenses
from robustbench_med.training.spec import Layer

print("from", registry.__file__)
gentle = [Layer(name="gentle", params={})]
print("attack", sorted(revision("still").items()))
print("model", sorted(registry.revisions("constant").items()))
print("defence", sorted(defenses.revisions("constant", gentle).items()))
for name in registry.MODELS.keys() - {"constant", "late"}:
    del registry.MODELS[name]  # what `models` measures of every one takes its time
for command in (["attacks"], ["models"], ["defenses"], ["data", "list"]):
    sys.argv = ["medrobust", *command]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
"""


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the commands print in a package with one part more of each kind."""
    site = tmp_path_factory.mktemp("site")
    package = site / "robustbench_med"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "attacks", "models", "reports")
    shutil.copytree(ROOT / "robustbench_med", package, ignore=ignored)
    for room in ("attacks", "models", "reports", "results"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(ROOT / room, package / room, ignore=ignored)
    for name, text in FILES.items():
        (package / name.removeprefix("robustbench_med/")).write_text(text)
    for name, edits in LINES.items():
        text = (package / name).read_text()
        for before, after in edits:
            assert text.count(before) == 1, (name, before)
            text = text.replace(before, after)
        (package / name).write_text(text)
    environment = {"PYTHONPATH": str(site), "COLUMNS": "300", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=site,
        env={**environment, "MEDROBUST_HOME": str(site / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"from {package}" in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("still", "STILL: an attack that does not move (arXiv 0000.00001)"),
        ("constant", "scale=1.0"),
        ("gentle", "Gentle adversarial training (arXiv 0000.00002)"),
        ("scratchset", "ultrasound"),
    ],
)
def test_a_part_is_a_file_and_its_line(part: str, line: str, listed: str) -> None:
    rows = [row for row in listed.splitlines() if row.split("│")[1:2] and part in row.split("│")[1]]
    assert rows, listed
    assert any(line in row for row in rows), rows


def test_a_new_part_has_its_revisions(listed: str) -> None:
    for part, stems in {
        "attack": "losses still view",
        "model": "constant",
        "defence": "constant losses objectives pgd randomness view",
    }.items():
        revised = [(stem, SCHEME if stem == "randomness" else 1) for stem in stems.split()]
        assert f"{part} {revised}" in listed
