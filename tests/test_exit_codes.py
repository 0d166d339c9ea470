"""Exit codes: 0 done, 1 done but something was left out, 2 the input is wrong, 130 interrupted."""

import sys

import pytest
import typer
from test_cli import medrobust, refused

from robustbench_med import cli
from robustbench_med.errors import IncompleteError, UserError, left_out


def command(monkeypatch: pytest.MonkeyPatch, body) -> None:
    """Makes `medrobust models` do something else."""
    app = typer.Typer()
    app.command("models")(body)
    app.callback()(lambda: None)
    monkeypatch.setattr(cli, "app", app)


def test_what_was_left_out_is_named_once_after_everything_else_and_the_exit_code_is_1(monkeypatch) -> None:
    def body() -> None:
        for _ in range(2):
            left_out("late: no such width")
        print("work goes on", file=sys.stderr)

    command(monkeypatch, body)
    assert medrobust("models", check=1).stderr.splitlines() == ["work goes on", "medrobust: warning: late: no such width"]


@pytest.mark.parametrize(("error", "code"), [(UserError, 2), (IncompleteError, 1)])
def test_an_error_stands_last_and_decides_the_exit_code(error, code, monkeypatch) -> None:
    def body() -> None:
        left_out("one")
        raise error("nothing is left")

    command(monkeypatch, body)
    done = medrobust("models", check=code)
    assert done.stderr.splitlines() == ["medrobust: warning: one", "medrobust: error: nothing is left"]
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
