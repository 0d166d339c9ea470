"""The wheel where there is neither a checkout nor a constraints file, and what is made for
installing elsewhere: the lock, the image, the check for known vulnerabilities.
"""

import csv
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from support.files import ROOT

from robustbench_med.attacks.engines import ENGINES

HOME = os.environ.get("HOME", "")
"""Where pip's settings and cache lie; tests have another."""


def held(package: str) -> str:
    """A package's line in constraints.txt, `name==version`."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def command(*words: object, cwd: Path, **environment: object) -> str:
    """What a command that succeeds prints."""
    env = {key: str(value) for key, value in (os.environ | environment).items()}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_measures_where_nothing_but_torch_is_held(tmp_path: Path) -> None:
    """All else is the newest there is, and the folder's name has spaces and an umlaut."""
    place = tmp_path / "Klinik für Radiologie"
    place.mkdir()
    command(sys.executable, "-m", "build", "--outdir", place, ROOT, cwd=place, HOME=HOME)
    command(sys.executable, "-m", "venv", "venv", cwd=place)
    (wheel,) = place.glob("*.whl")
    python, medrobust = place / "venv/bin/python", place / "venv/bin/medrobust"
    install = [python, "-m", "pip", "install", "-q", "--no-compile"]  # most is never imported
    command(*install, held("torch"), f"{wheel}[engines]", cwd=place, HOME=HOME)
    command(python, "-m", "pip", "check", cwd=place)
    version = command(medrobust, "--version", cwd=place)
    assert version == command(python, "-m", "robustbench_med.cli", "--version", cwd=place)

    work, home = place / "work", place / "home"
    work.mkdir()
    attack = ["--attack", "pgd", "--attack-param", "steps=5", "--eps", "16/255", "--limit", 8]
    command(medrobust, "run", "--model", "late", *attack, cwd=work, MEDROBUST_HOME=home)
    command(medrobust, "report", cwd=work, MEDROBUST_HOME=home)
    with open(work / "reports/cells.csv", newline="") as file:
        rows = {row["attack"]: row for row in csv.DictReader(file) if row["attack"]}
    assert rows.keys() == {"noise", "pgd"}
    assert float(rows["pgd"]["robust"]) < float(rows["noise"]["robust"]) == 1
    assert "late" in (work / "reports/leaderboard.html").read_text()


def pins(text: str) -> dict[str, str]:
    """Versions by name in a file of lines that start with `name==version`."""
    found = re.findall(r"^([\w.-]+)==(\S+)", text, re.M)
    return {canonicalize_name(name): version for name, version in found}


def test_the_lock_holds_the_tested_versions_and_a_hash_of_each() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    hashed = re.findall(r"^([\w.-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.M)
    locked = pins(lock)
    assert len(hashed) == len(locked) > 40
    assert locked.pop("torchattacks") == ENGINES["torchattacks"].pinned
    del locked["setuptools"]  # pip counts it among its own tools, and names it in no list
    assert locked.items() <= pins((ROOT / "constraints.txt").read_text()).items()


def test_the_image_holds_the_tested_torch() -> None:
    torch = re.search(r"^ARG TORCH=(\S+)$", (ROOT / "Containerfile").read_text(), re.M)
    assert torch is not None
    assert held("torch") == f"torch=={torch[1]}"


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([{"name": "idna", "version": "3.10", "vulns": []}], 0, "no known vulnerability in 1"),
        (
            [
                {
                    "name": "idna",
                    "version": "2.10",
                    "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"]}],
                },
                {"name": "ours", "skip_reason": "not found"},
            ],
            1,
            "idna 2.10: PYSEC-2024-60, fixed in 3.7",
        ),
        ([{"name": "idna", "skip_reason": "not found"}], 3, "does not know 1 of 1"),
        (None, 3, ""),
    ],
    ids=["none known", "one known", "a service that knows no package", "no answer"],
)
def test_what_is_not_known_to_a_database_is_not_called_safe(found, code, said, capsys) -> None:
    audit = runpy.run_path(str(ROOT / ".ci/audit"))
    assert audit["verdict"]("pypi", found) == code
    assert said in capsys.readouterr().out
