"""The documentation: its examples run, and its site builds without warnings and fetches nothing."""

import re
import runpy
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from support import examples
from support.browser import needs_browser
from support.files import ROOT

import robustbench_med

HOW_TO = ROOT / "docs" / "how-to"


def test_the_how_to_pages_are_all_run_here() -> None:
    pages = set(examples.HOW_TO)
    of_recipes = {"new-part"}  # its files are added to a copy of the package in test_recipes.py
    assert {page.stem for page in HOW_TO.glob("*.md")} == pages | of_recipes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("own-attack", "r-fgsm"),
        ("own-data", ""),
        ("own-defence", "contrast"),
        ("own-loss", ""),
        ("own-report", "backward"),
    ],
)
def test_the_examples_of_a_how_to_page_run_as_a_file(
    name: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "page.py").write_text(examples.of_page(f"how-to/{name}.md"))
    monkeypatch.chdir(tmp_path)
    runpy.run_path("page.py", run_name="__main__")
    assert shown in capsys.readouterr().out


@pytest.mark.slow
def test_the_examples_of_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = examples.of_docstrings()
    of_stores = ("evaluate", "leaderboard", "report", "card", "status")  # each reads what is there
    others = [name for name in found if name not in (*of_stores, "merge")]
    for machine in ("machine-a", "machine-b"):
        eps = "2/255" if machine == "machine-a" else "4/255"
        robustbench_med.evaluate("late", "fgsm", eps=eps, limit=4, out=machine, quiet=True)
    for name in (*of_stores, "merge", *others):
        (file := tmp_path / f"of_{name}.py").write_text(f"{examples.GIVEN}{found[name]}\n")
        runpy.run_path(str(file))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the site needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_reference_holds_every_command_and_every_public_name(site: Path) -> None:
    commands = (site / "reference" / "cli.html").read_text()
    listed = subprocess.run(
        [sys.executable, "-m", "robustbench_med.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = re.findall(r"^│ ([a-z]+) +[A-Z]", listed, re.M)
    assert len(names) > 10
    for name in (*names, "data-fetch"):
        assert f'id="medrobust-{name}"' in commands, name
    assert (
        "..."
        not in re.sub(r"<pre.*?</pre>", "", commands, flags=re.S)
        .partition('id="medrobust-run"')[0]
        .rpartition("Commands")[2]
    )
    api = (site / "reference" / "api.html").read_text()
    for name in {*robustbench_med.__all__} - {"__version__"}:
        assert re.search(rf'id="(?:robustbench_med|models)\.[a-z._]+\.{name}"', api), name


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@needs_browser
@pytest.mark.slow
def test_the_site_asks_nobody_but_its_own_server_and_opens_from_disk(site: Path, browser) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_address[1]}/"
    fetched, errors = [], []
    page = browser.new_page()
    page.set_default_timeout(120_000)  # milliseconds a busy machine may take
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    pages = [
        path.relative_to(site).as_posix()
        for path in sorted(site.rglob("*.html"))
        if path.name != "404.html"
    ]
    for name in pages:
        page.goto(home + name)
        assert page.locator("h1").count() == 1, name
    assert errors == []
    page.goto((site / "index.html").as_uri())
    page.locator("nav.md-nav--primary a", has_text="Quickstart").first.click()
    assert page.locator("h1").inner_text().startswith("Quickstart")
    page.close()
    server.shutdown()
    assert {
        url for url in fetched if not url.startswith((home, "file:", "data:", "blob:"))
    } == set()
