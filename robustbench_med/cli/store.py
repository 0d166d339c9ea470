"""Commands that look after a folder of records: what of it can be believed, and what a newer
version has to make again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_med.cli import INTERRUPTED
from robustbench_med.cli.as_json import AsJson, board, show_json
from robustbench_med.cli.options import AGAIN, DataRoot, Device, Out, Quiet, make_display
from robustbench_med.errors import UserError, left_out
from robustbench_med.runs.options import WHERE

USAGE: Any = typer.BadParameter.__base__
"""What typer raises at an option that there is not, or that cannot be read."""


def verify(
    out: Out = Path("reports"),
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A robustness card (robustness-card.html or .pdf): hold it against the folder"
            " instead.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="The list as JSON: path, reason, and whether it is only stale."
        ),
    ] = False,
) -> None:
    """List everything in a folder that cannot be believed: altered, damaged, of an older identity,
    left over. Exit code 1 if any is.

    Reads every file whole, whatever was remembered of it. Nothing is changed. With --card the
    question is whether a robustness card says what the folder gives, from the same files.
    """
    import json

    if card is not None:
        _verify_card(card, out, as_json=as_json)
        return

    from robustbench_med.store.merge import KINDS
    from robustbench_med.store.store import Store

    stores: list[Store[Any]] = [Store(out, kind) for kind in KINDS]
    looked = [store.look(fresh=True) for store in stores]
    misfits = [
        misfit
        for store, (_, found) in zip(stores, looked, strict=True)
        for misfit in (*found, *store.leftovers())
    ]
    good = sum(len(found) for found, _ in looked)
    if not misfits and not good:
        raise UserError(f"{out} holds no records or certificates")
    if as_json:
        print(
            json.dumps(
                [
                    {"path": str(m.path), "reason": m.reason, "stale": m.stale is not None}
                    for m in misfits
                ],
                indent=1,
            )
        )
    else:
        for misfit in misfits:
            print(misfit)
        print(f"{good} records and certificates fit, {len(misfits)} files do not")
    if misfits:
        raise typer.Exit(1)


def _verify_card(card: Path, out: Path, *, as_json: bool) -> None:
    """Shows what speaks against a robustness card; exit code 1 where something does."""
    from robustbench_med.cli.as_json import show_json
    from robustbench_med.reports.robustness import write

    against = write.verify(card, out)
    if as_json:
        show_json([{"path": card, "reason": reason} for reason in against])
    else:
        for reason in against:
            print(f"{card}: {reason}")
        fits = "says what the store gives" if not against else "does not fit the store"
        print(f"{card} {fits} ({out})")
    if against:
        raise typer.Exit(1)


def rerun(
    context: typer.Context,
    stale: Annotated[
        bool,
        typer.Option("--stale", help="The records of an older identity.", rich_help_panel=WHERE),
    ] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="The cells that failed.", rich_help_panel=WHERE)
    ] = False,
    hash_: Annotated[
        str | None,
        typer.Option(
            "--hash",
            metavar="HASH",
            help="The one record or failed cell whose hash begins so.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    out: Out = Path("reports"),
    device: Device = "auto",
    data_root: DataRoot = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make records of an older identity, or cells that failed, again, each by its own command; the
    old one goes once the new one is there.

    What cannot be made again is named and kept: exit code 1. Run it where the files lie that the
    commands name, as they name them.
    """
    from robustbench_med.cli import terminal_board
    from robustbench_med.reports import write
    from robustbench_med.runs import renewal

    if not (stale or failed or hash_):
        raise UserError(
            "say which records: medrobust rerun --stale makes those of an older identity again,"
            " --failed the cells that failed, --hash HASH one of either"
        )
    more = ["--out", str(out), "--device", device, *(["--quiet"] if quiet else [])]
    more += [] if data_root is None else ["--data-root", str(data_root)]
    run, display = again(context, more), make_display(quiet)
    done = []
    if stale:
        done.append(renewal.renew(out, run, display))
        display.say(f"{done[-1].made} of {done[-1].asked} records of an older identity made again")
    if failed:
        done.append(renewal.retry(out, run, display))
        display.say(f"{done[-1].made} of {done[-1].asked} cells that failed made again")
    if hash_:
        done.append(renewal.renew_one(hash_, out, run, display))
    all_done = renewal.together(done)
    for line in all_done.failed:
        left_out(line)
    shown = write.leaderboard(out) if all_done.made else None
    if as_json:
        show_json({**asdict(all_done), **({} if shown is None else board(shown))})
    elif shown is not None:
        display.show(terminal_board.shown(shown))


def again(context: typer.Context, more: Sequence[str]) -> Callable[[list[str]], object]:
    """`medrobust` in this process, with these options behind those of the command."""
    medrobust = context.find_root().command

    def run(arguments: list[str]) -> object:
        try:
            made = medrobust.main(
                [*arguments, *more], prog_name="medrobust", standalone_mode=False, obj=AGAIN
            )
        except USAGE as error:
            raise UserError(error.format_message()) from error
        if made == INTERRUPTED:
            raise KeyboardInterrupt
        return made

    return run
