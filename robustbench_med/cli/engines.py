"""`medrobust engines`: which other libraries' attacks are installed, and how to get them."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import Command, make_display
from robustbench_med.errors import UserError, unknown

if TYPE_CHECKING:
    from robustbench_med.attacks.engines.library import Library  # torch behind it takes seconds

engines_app = typer.Typer(
    no_args_is_help=True,
    help="Engines: other libraries' attacks, whether they are installed, how to get them.",
)


@engines_app.command("list", cls=Command)
def engines_list(as_json: AsJson = False) -> None:
    """The engines that can be named with --engine: their versions, how to get them, what they are
    for.
    """
    from robustbench_med.attacks.engines import ENGINES
    from robustbench_med.cli import listings

    if as_json:
        facts = ("name", "installed", "how_to_get", "purpose")
        libraries = ENGINES.values()
        show_json([{fact: getattr(library, fact) for fact in facts} for library in libraries])
    else:
        make_display(False).show(listings.engines(ENGINES.values()))


@engines_app.command("install", cls=Command)
def engines_install(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Engines; without any, all that are missing.", metavar="NAME"),
    ] = None,
) -> None:
    """Install the engines whose stated dependencies are left out, each in the version that
    medrobust is tested with.

    It shows the pip command before it runs it.
    """
    for library in _to_install(names or []):
        if library.installed and not names:
            print(f"{library.package} {library.installed} is installed{_advice(library)}")
        else:
            _install(library)


def _to_install(names: Sequence[str]) -> list[Library]:
    """The libraries of these names, or all that are installed by themselves."""
    from robustbench_med.attacks.engines import ENGINES

    for name in names:
        if name not in ENGINES:
            raise unknown("engine", name, ENGINES)
        if ENGINES[name].pinned is None:
            raise UserError(f"{name} comes with the extra engines: {ENGINES[name].how_to_get}")
    return [ENGINES[name] for name in names] or [each for each in ENGINES.values() if each.pinned]


def _advice(library: Library) -> str:
    """What to do about a version that is not the pinned one."""
    if library.installed == library.pinned:
        return ""
    return (
        f"; medrobust is tested with {library.pinned}, which `medrobust engines install"
        f" {library.name}` installs"
    )


def _install(library: Library) -> None:
    """Runs pip on one library, and says why and how beforehand.

    Raises:
        UserError: there is no pip, or it failed.
    """
    requirement = f"{library.package}=={library.pinned}"
    if find_spec("pip") is None:
        python = shlex.quote(sys.executable)
        raise UserError(
            "this environment has no pip; with uv, type: uv pip install --python"
            f" {python} --no-deps {requirement}"
        )
    command = [sys.executable, "-m", "pip", "install", "--no-deps", requirement]
    print(f"{requirement} without its dependencies: {library.why_alone}")
    print(shlex.join(command), flush=True)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise UserError(f"pip could not install {requirement}: {_reason(done)}")
    importlib.invalidate_caches()
    if library.installed != library.pinned:
        raise UserError(
            f"pip did not put {requirement} into this environment; look at its settings"
            " (PIP_TARGET, PIP_PREFIX, PIP_DRY_RUN, ...)"
        )
    print(f"{requirement} is installed")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last error that pip names, or its last line."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return (errors or lines or [f"exit code {done.returncode}"])[-1]
