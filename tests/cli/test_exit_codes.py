"""Exit codes: 0 done, 1 done but something was left out, 2 the input is wrong, 130 interrupted."""

import os
import subprocess
import sys

import pytest
import typer
from support.cli import medrobust, refused
from support.files import ROOT
from support.records import fill, record

from robustbench_med.cli import KEPT
from robustbench_med.cli import program as cli
from robustbench_med.errors import IncompleteError, UserError, left_out
from robustbench_med.store.store import Store


def command(monkeypatch: pytest.MonkeyPatch, body) -> None:
    """Makes `medrobust models` do something else."""
    app = typer.Typer()
    app.command("models")(body)
    app.callback()(lambda: None)
    monkeypatch.setattr(cli, "app", app)


def test_what_was_left_out_is_named_once_after_everything_else_and_the_exit_code_is_1(
    monkeypatch,
) -> None:
    def body() -> None:
        for _ in range(2):
            left_out("late: no such width")
        print("work goes on", file=sys.stderr)

    command(monkeypatch, body)
    assert medrobust("models", check=1).stderr.splitlines() == [
        "work goes on",
        "medrobust: warning: late: no such width",
    ]


@pytest.mark.parametrize(("error", "code"), [(UserError, 2), (IncompleteError, 1)])
def test_an_error_stands_last_and_decides_the_exit_code(error, code, monkeypatch) -> None:
    def body() -> None:
        left_out("one")
        raise error("nothing is left")

    command(monkeypatch, body)
    done = medrobust("models", check=code)
    assert done.stderr.splitlines() == [
        "medrobust: warning: one",
        "medrobust: error: nothing is left",
    ]
    assert refused(done)


def test_in_python_it_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="late: no such width"):
        left_out("late: no such width")


def test_an_interrupt_ends_with_130_and_an_error_of_ours_keeps_its_traceback(monkeypatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    command(monkeypatch, interrupted)
    assert medrobust("models", check=130).stderr.count("\n") == 1

    def broken() -> None:
        raise AssertionError("ours")

    command(monkeypatch, broken)
    with pytest.raises(AssertionError, match="ours"):
        medrobust("models")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_before_the_command_is_imported_is_that_line_too(name: str) -> None:
    code = f"""
import os, signal, sys
from robustbench_med.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it

class Finder:
    def find_spec(self, module, *_):
        if module == "robustbench_med.cli.program":
            os.kill(os.getpid(), signal.{name})

sys.meta_path.insert(0, Finder())
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"medrobust: {KEPT}\n"


WRONG: dict[str, list[object]] = {
    "run": ["--model", "lat"],
    "train": ["--model", "lat"],
    "plan": ["--model", "lat"],
    "status": [],
    "cache list": ["--quik"],
    "cache prune": ["--max-size", "20 parsecs"],
    "diagnose": ["--model", "lat"],
    "compare": ["--model", "lat"],
    "gate": ["--model", "late"],
    "certify": ["--model", "lat"],
    "cost": ["--model", "lat"],
    "leaderboard": [],
    "submit": [],
    "check-entry": ["nowhere.json"],
    "benchmark list": ["--quik"],
    "benchmark show": ["phantoms"],
    "report": [],
    "site": [],
    "card": [],
    "claims": [],
    "merge": ["nowhere"],
    "show": ["0123"],
    "models": ["--preset", "quik"],
    "attacks": ["--quik"],
    "defenses": ["--quik"],
    "verify": [],
    "rerun": ["--stale"],
    "import-keras": ["nowhere.keras", "--model", "late"],
    "wrap": ["nowhere.ts"],
    "engines list": ["--quik"],
    "engines install": ["torchatack"],
    "data list": ["--quik"],
    "data suites": ["--quik"],
    "data show": ["breast"],
    "data new": ["nowhere"],
    "data fetch": ["breast"],
    "data import": ["breast", "nowhere.zip"],
    "data verify": ["breast"],
}
"""By command, an input that is wrong; in an empty folder."""


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_input_is_2_for_every_command(command, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = medrobust(*command.split(), *WRONG[command], check=2)
    assert "Traceback" not in done.stderr
    assert "rror" in done.stderr
    assert done.stdout == ""


def test_the_walk_above_takes_every_command_and_the_docs_name_each() -> None:
    named = (ROOT / "docs" / "exit-codes.md").read_text()
    commands = typer.main.get_command(cli.app).commands
    groups = {"benchmark", "cache", "data", "engines"}
    walked = {name for name in commands if name not in groups} | {
        f"{group} {name}" for group in groups for name in commands[group].commands
    }
    assert walked == set(WRONG)
    assert {name for name in commands if f"`{name}`" not in named and name != "data"} == set()


@pytest.mark.parametrize(
    "command",
    [["models"], ["attacks"], ["defenses"], ["engines", "list"], ["data", "list"], ["--version"], ["cost", "--model", "late", "--size", 16],
     ["leaderboard"], ["claims"], ["card"], ["report", "--no-figures", "--no-html"], ["verify"], ["rerun", "--stale"],
     ["show", record().hash], ["merge", "reports", "--out", "all"]],
    ids=lambda command: command[0],
)  # fmt: skip
def test_what_is_done_is_0_whatever_the_verdict_on_trust(command, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Store(tmp_path / "reports"), record(trust="failed"))
    assert medrobust(*command).returncode == 0


@pytest.mark.parametrize(
    "command",
    [["leaderboard"], ["claims"], ["card"], ["report", "--no-figures", "--no-html"], ["verify"], ["show", record().hash],
     ["merge", "good", "--out", "reports"]],
    ids=lambda command: command[0],
)  # fmt: skip
def test_what_was_left_out_is_1(command, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Store(tmp_path / "reports"), record())
    fill(Store(tmp_path / "good"), record())
    (tmp_path / "reports" / "records" / "x.json").mkdir()
    done = medrobust(*command, check=1)
    assert "x.json" in done.stderr + done.stdout
    assert "error" not in done.stderr


@pytest.mark.parametrize("text", ["model: " + "[" * 3000 + "]" * 3000, "{" * 3000])
def test_a_file_nested_without_end_is_one_line(text, tmp_path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert "cannot read the run file" in refused(
        medrobust("run", "--config", tmp_path / "run.yaml", check=2)
    )


def test_a_network_that_cannot_be_built_is_said_before_the_first_training(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--size", 16, "--recipe", "steps=2", "--limit", 4, "--attack", "fgsm"]
    done = medrobust(
        "run",
        "--model",
        "late,mail",
        "--model-param",
        "late.width=8",
        "--model-param",
        "mail.width=4",
        *small,
        check=2,
    )
    assert "mail" in refused(done)
    assert not list((tmp_path / "reports").rglob("*.json"))
