"""`medrobust engines`: what is shown before pip runs, what is said when it cannot, and what stands in
the environment afterwards. The version of torchattacks is written in its engine alone.
"""

import re
import shlex
import subprocess
import sys
import tomllib
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli import medrobust, refused
from support.files import ROOT

from robustbench_med.attacks import RefusedError, engines
from robustbench_med.attacks.engines import art, foolbox, torchattacks
from robustbench_med.cli import engines as command

PINNED = f"torchattacks=={torchattacks.LIBRARY.pinned}"
PIP = [sys.executable, "-m", "pip", "install", "--no-deps", PINNED]


@pytest.fixture
def pip(monkeypatch) -> list[list[str]]:
    """The commands that would have run, and nothing installed."""
    ran = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(command.subprocess, "run", run)
    return ran


def absent(monkeypatch, library=torchattacks.LIBRARY) -> None:
    """Takes a library's package away from what is known to be installed."""
    gone = replace(library, package="medrobust-no-such-package")
    monkeypatch.setitem(engines.ENGINES, library.name, gone)


def test_the_exact_command_and_its_reason_are_shown_and_run(pip) -> None:
    shown = medrobust("engines", "install", "torchattacks").stdout
    assert pip == [PIP]
    assert shlex.join(PIP) in shown.splitlines()
    assert "requests 2.25" in shown
    assert "torchvision" in shown


def test_without_names_what_is_missing_is_installed_and_nothing_else(pip, monkeypatch) -> None:
    shown = medrobust("engines", "install").stdout
    assert pip == []
    assert shown == f"torchattacks {torchattacks.LIBRARY.installed} is installed\n"
    absent(monkeypatch)
    said = refused(medrobust("engines", "install", check=2))
    assert [words[:-1] for words in pip] == [PIP[:-1]]
    assert "did not put" in said  # the pip of this test installs nothing, as PIP_DRY_RUN has it


def test_another_version_stays_and_the_command_for_the_tested_one_is_said(pip, monkeypatch) -> None:
    newer = replace(torchattacks.LIBRARY, pinned="99.0")
    monkeypatch.setitem(engines.ENGINES, "torchattacks", newer)
    shown = medrobust("engines", "install").stdout
    assert pip == []
    assert "tested with 99.0, which `medrobust engines install torchattacks` installs" in shown


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torchatack", "unknown engine 'torchatack'; did you mean torchattacks?"),
        ("art", "pip install 'medrobust[engines]'"),
    ],
)
def test_a_name_that_cannot_be_installed_so_is_one_line(name, says, pip) -> None:
    assert says in refused(medrobust("engines", "install", name, check=2))
    assert pip == []


def test_without_pip_it_says_what_to_type(pip, monkeypatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    line = refused(medrobust("engines", "install", "torchattacks", check=2))
    assert line.endswith(f"uv pip install --python {sys.executable} --no-deps {PINNED}")
    assert pip == []


def test_what_pip_fails_of_is_one_line_and_exit_code_2(monkeypatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_IGNORE_INSTALLED", "1")
    monkeypatch.setenv("PIP_DRY_RUN", "1")
    done = medrobust("engines", "install", "torchattacks", check=2)
    assert (
        refused(done)
        == f"medrobust: error: pip could not install {PINNED}: ERROR: No matching distribution found"
        f" for {PINNED}"
    )
    assert shlex.join(PIP) in done.stdout.splitlines()


def test_the_wheel_alone_lands_in_the_environment_and_none_of_its_demands(
    tmp_path, monkeypatch
) -> None:
    wheel(tmp_path / "wheels")
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    (site / "tests.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages"))
        + "".join(f"\nimport {name[:-3]}; {name[:-3]}.install()" for name in editable())
        + "\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_IGNORE_INSTALLED", "1")
    done = subprocess.run(
        [python, "-m", "robustbench_med.cli", "engines", "install", "torchattacks"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{python} -m pip install --no-deps {PINNED}" in done.stdout.splitlines()
    assert {path.name for path in site.iterdir() if path.name != "tests.pth"} == {
        "torchattacks",
        f"torchattacks-{torchattacks.LIBRARY.pinned}.dist-info",
    }


def editable() -> list[str]:
    """The files that make a checkout importable where it is installed editable."""
    folders = [Path(path) for path in sys.path if path.endswith("site-packages")]
    return [path.name for folder in folders for path in folder.glob("__editable___medrobust*.py")]


def wheel(folder: Path) -> None:
    """A wheel of the pinned name and version that demands what torchattacks does."""
    folder.mkdir()
    info = f"torchattacks-{torchattacks.LIBRARY.pinned}.dist-info"
    version = torchattacks.LIBRARY.pinned
    metadata = f"Metadata-Version: 2.1\nName: torchattacks\nVersion: {version}\nRequires-Dist: requests (~=2.25.1)\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / f"torchattacks-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr("torchattacks/__init__.py", "")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")


def test_list_tells_version_or_absent_and_how_to_get_it(monkeypatch) -> None:
    absent(monkeypatch, art.LIBRARY)
    monkeypatch.setenv("COLUMNS", "200")
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:4]]
        for line in medrobust("engines", "list").stdout.splitlines()
        if len(cells := line.split("│")) > 3
    }
    assert rows == {
        "torchattacks": [torchattacks.LIBRARY.installed, "medrobust engines install"],
        "art": ["absent", "pip install 'medrobust[engines]'"],
        "foolbox": [foolbox.LIBRARY.installed, "pip install 'medrobust[engines]'"],
    }


@pytest.mark.parametrize("library", engines.ENGINES.values(), ids=lambda library: library.name)
def test_an_engine_that_is_missing_is_refused_with_what_to_type(library, monkeypatch) -> None:
    typed = {
        "torchattacks": "medrobust engines install",
        "art": "pip install 'medrobust[engines]'",
        "foolbox": "pip install 'medrobust[engines]'",
    }[library.name]
    assert library.missing is None
    absent(monkeypatch, library)
    reason = engines.ENGINES[library.name].missing
    assert reason == f"medrobust-no-such-package is not installed; type: {typed}"
    packages = {"torchattacks": "torchattacks", "art": "art.attacks", "foolbox": "foolbox"}
    package = packages[library.name]
    monkeypatch.setitem(sys.modules, package, None)
    module = {"torchattacks": torchattacks, "art": art, "foolbox": foolbox}[library.name]
    with pytest.raises(RefusedError, match=f"cannot be imported .*: {re.escape(typed)}$"):
        module.load()


def test_a_run_with_an_engine_that_is_missing_says_what_to_type(
    drawn_root, tmp_path, monkeypatch
) -> None:
    from support.cli import small_run

    absent(monkeypatch)
    words = small_run(drawn_root, tmp_path, "--engine", "torchattacks", model="late", attack="fgsm")
    assert "type: medrobust engines install" in refused(medrobust(*words, check=2))


def test_the_pinned_version_stands_in_one_place_and_is_the_one_tested() -> None:
    assert torchattacks.LIBRARY.installed == torchattacks.LIBRARY.pinned
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    demanded = [line for each in lists for line in each]
    locked = (ROOT / "constraints.txt").read_text()
    for package in ("torchattacks", "torchvision", "medmnist"):
        assert not [line for line in demanded if line.startswith(package)]
        assert f"{package}==" not in locked
    docs = (ROOT / "docs" / "engines.md").read_text()
    assert f"python -m pip install --no-deps {PINNED}\n" in docs
    assert set(re.findall(r"torchattacks[ =]+([\d.]+\d)", docs)) == {torchattacks.LIBRARY.pinned}


def test_the_readmes_two_commands_chain_it() -> None:
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)[:2]
    for block, extras, last in zip(
        blocks,
        ("engines", "engines,dev"),
        ("medrobust run --model robust-mail --attack pgd", "pytest"),
        strict=True,
    ):
        (line,) = block.splitlines()
        steps = line.split(" && ")
        assert steps[0] == "python3 -m venv .venv"
        assert steps[1] == f".venv/bin/pip install -q -c constraints.txt -e '.[{extras}]'"
        assert steps[2:] == [".venv/bin/medrobust engines install", f".venv/bin/{last}"]


def test_pip_check_names_nothing_but_what_torchattacks_states() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    stated = f"torchattacks {torchattacks.LIBRARY.pinned} "
    assert [line for line in done.stdout.splitlines() if not line.startswith(stated)] == []
    assert done.stdout
