"""Commands that write and check entries of a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import DataRoot, Device, Named, Out, Quiet, make_display
from robustbench_med.cli.values import listed


def submit(
    out: Out = Path("reports"),
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the entries go.")] = Path(
        "results"
    ),
    about: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Who hands them in, papers, what they report, where weights are"
            " (CONTRIBUTING.md shows one).",
        ),
    ] = None,
    model: Named = None,
    accept_unverified: Annotated[
        bool,
        typer.Option(
            "--accept-unverified",
            help="Also write those whose data are not the published files: marked, without a rank.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write entries of a leaderboard out of a folder of records: one small JSON a victim, without
    pixels.

    What is not whole is refused, with the reason: naive attacks, a failed trust without a note,
    weights nobody can get, data that are not the published files. `medrobust leaderboard --from
    FOLDER` makes the table and the page of entries.

    [bold]Example[/]: medrobust submit --out reports --to results --about mine.yaml
    """
    from robustbench_med.errors import IncompleteError, left_out
    from robustbench_med.reports.submit import submit as write_entries

    found = write_entries(
        out,
        to,
        about=about,
        models=listed(model or ""),
        accept_unverified=accept_unverified,
    )
    if as_json:
        show_json({"written": found.written, "refused": found.refused})
    else:
        for path in found.written:
            print(path)
    if not found.written:
        raise IncompleteError("; ".join(found.refused))
    for line in found.refused:
        left_out(line)


def check_entry(
    paths: Annotated[list[Path], typer.Argument(help="Entries: JSON files.")],
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute",
            help="Compute one cell of each entry on phantoms again whose weights are at hand; it"
            " must agree within 2 points.",
        ),
    ] = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    quiet: Quiet = False,
) -> None:
    """Check entries before they join a leaderboard: schema, hashes, figures that fit each other,
    and one cell computed again.

    Exit code 0 when all are whole, 2 with the first fault of the first that is not.

    [bold]Example[/]: medrobust check-entry results/*.json --recompute
    """
    from robustbench_med.errors import UserError
    from robustbench_med.runs.entries import recompute as compute_again
    from robustbench_med.runs.entries import weights_at_hand
    from robustbench_med.runs.job import Job
    from robustbench_med.store import entry_files
    from robustbench_med.store.entry_checks import faults

    display = make_display(quiet)
    job = Job(device=device, data_root=data_root, display=display)
    for path in paths:
        entry = entry_files.read_one(path)
        if found := faults(entry):
            raise UserError(f"{path}: {'; '.join(found)}")
        display.show(f"{entry.id}: schema and figures fit")
        if recompute and entry.data.name == "phantoms" and weights_at_hand(entry):
            display.show(compute_again(entry, job))
