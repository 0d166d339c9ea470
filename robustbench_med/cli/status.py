"""`medrobust status`: how far a run is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import Out, make_display
from robustbench_med.runs.options import WHERE

EVERY = 2.0
"""Seconds between two looks of --watch."""


def status(
    out: Out = Path("reports"),
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Look again every two seconds until the run ends.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """How far the last run in a folder is: trainings and cells done, running, failed and waiting,
    who works on what, and the time left; and how far other runs before it came.

    It reads the folder alone: from another terminal or another machine, during a run and after it.
    """
    from dataclasses import asdict

    from rich.live import Live

    from robustbench_med.cli import terminal_status
    from robustbench_med.runs.status import status as read

    found = read(out)
    if as_json:
        show_json(asdict(found))
        return
    display = make_display(False)
    if not watch:
        display.show(terminal_status.shown(found, time.time()))
        return
    with Live(console=display.results, refresh_per_second=1) as live:
        while True:
            live.update(terminal_status.shown(found, time.time()))
            if not found.running:
                return
            time.sleep(EVERY)
            found = read(out)
