"""The command line: its commands put together, and how it ends. Everything heavy is imported inside
the commands, so that --help answers at once.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from robustbench_med.cli import INTERRUPTED, KEPT
from robustbench_med.cli.benchmark import benchmark_app
from robustbench_med.cli.cache import cache_app
from robustbench_med.cli.certify import certify
from robustbench_med.cli.compare import compare
from robustbench_med.cli.cost import cost
from robustbench_med.cli.data import data_app
from robustbench_med.cli.diagnose import diagnose
from robustbench_med.cli.engines import engines_app
from robustbench_med.cli.gate import gate
from robustbench_med.cli.import_keras import import_keras
from robustbench_med.cli.lists import attacks, defenses, models
from robustbench_med.cli.options import Command, help_text
from robustbench_med.cli.plan import plan
from robustbench_med.cli.report import card, claims, leaderboard, merge, report, show, site
from robustbench_med.cli.run import run
from robustbench_med.cli.status import status
from robustbench_med.cli.store import rerun, verify
from robustbench_med.cli.submit import check_entry, submit
from robustbench_med.cli.train import train
from robustbench_med.cli.wrap import wrap
from robustbench_med.errors import Notice, UserError, gathered
from robustbench_med.formats.text import message as plain

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Adversarial robustness of multimodal medical classifiers: attack them, and know whether to"
        " trust the number.\n\nFirst steps: [bold]medrobust run --model robust-mail --attack pgd[/]"
        " (built-in phantoms, no network), then [bold]medrobust run --help[/]."
    ),
)
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
app.add_typer(engines_app, name="engines")


for command in (
    run,
    plan,
    train,
    diagnose,
    compare,
    certify,
    gate,
    cost,
    leaderboard,
    report,
    site,
    card,
    claims,
    merge,
    show,
    models,
    attacks,
    defenses,
    status,
    verify,
    rerun,
    submit,
    check_entry,
    import_keras,
    wrap,
):
    app.command(cls=Command, help=help_text(command))(command)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from robustbench_med import __version__

        print(f"medrobust {__version__}")
        raise typer.Exit


def main() -> None:
    """A command from beginning to end: exit codes as docs/exit-codes.md lists them; errors of ours
    keep their traceback, a user's own file's do not.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal has no sign for is written out
            stream.reconfigure(errors="backslashreplace")
    with gathered() as left_out:
        code, last = _ended()
    for line in (*(f"warning: {text}" for text in left_out), *last):
        print(f"medrobust: {line}", file=sys.stderr)
    sys.exit(code or int(bool(left_out)))


def _ended() -> tuple[int, list[str]]:
    """Runs the command; its exit code, and the line to end with."""
    try:
        with notices():
            _check_date()
            app()
    except UserError as error:
        return error.exit_code, [f"error: {error}"]
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:  # `sys.exit` too, in code of the user's
        own = sys.modules.get("robustbench_med.models.user_file")
        line = own.mishap(error) if own else None
        if line is not None:
            return 2, [f"error: {line}"]
        if isinstance(error, OSError) and error.strerror and error.filename:
            where = plain(os.fsdecode(error.filename))
            return 2, [f"error: cannot use {where}: {error.strerror}"]
        if isinstance(error, MemoryError):
            return 2, ["error: memory does not suffice; ask for less at once"]
        if not isinstance(error, SystemExit):
            raise
        code = int(error.code or 0)
    else:
        code = 0
    return code, [KEPT] if code == INTERRUPTED else []


def _check_date() -> None:
    """Refuses a SOURCE_DATE_EPOCH that NumPy and matplotlib would end with a traceback at."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", said.strip()):
        raise UserError(f"SOURCE_DATE_EPOCH is {said!r}, no whole number of seconds; unset it")


@contextlib.contextmanager
def notices() -> Iterator[None]:
    """Shows a `Notice` as one line, without the place in the code that Python names beside it."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, Notice):
                print(f"warning: {plain(str(message), lines=True)}", file=sys.stderr)
            else:
                usual(plain(str(message), lines=True), category, *place)

        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("always", Notice)
        for library in ("nibabel.global", "PIL"):  # they name no file; what refuses it does
            logging.getLogger(library).setLevel(logging.CRITICAL)
        yield
