"""`medrobust cache`: what lies below medrobust's home and can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import Command, make_display
from robustbench_med.errors import UserError

cache_app = typer.Typer(
    no_args_is_help=True,
    help="Trained weights, decoded images and answers of black boxes that are kept: how large they"
    " are, and what may go.",
)
Stores = Annotated[
    list[Path],
    typer.Option(
        "--store",
        metavar="DIR",
        help="A folder of records whose weights go last. Repeatable.",
    ),
]


@cache_app.command("list", cls=Command)
def cache_list(store: Stores = [], as_json: AsJson = False) -> None:
    """What is kept, in the order in which it would go: what no record of the named folders needs,
    the longest unused first.
    """
    from dataclasses import asdict

    from robustbench_med.cli import listings
    from robustbench_med.runs import cached

    found = cached.entries(store)
    if as_json:
        show_json([asdict(entry) for entry in found])
    else:
        make_display(False).show(listings.cache(found))


@cache_app.command("prune", cls=Command)
def cache_prune(
    max_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="What may be left, such as 20G; else what is not needed goes."
        ),
    ] = None,
    store: Stores = [],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take weights, decoded images and answers of black boxes away: first what no record of the
    named folders needs, the longest unused first. All of it is made again when it is needed (a
    black box is asked again); downloads are not touched.

    [bold]Example[/]: medrobust cache prune --max-size 20G --store reports
    """
    from dataclasses import asdict

    from robustbench_med.cli import listings
    from robustbench_med.runs import cached

    if max_size is None and not store:
        raise UserError("say what may be left, --max-size 20G, or whose weights stay, --store DIR")
    most = None if max_size is None else cached.size_of(max_size)
    gone = cached.prune(store, most, dry_run=dry_run)
    if as_json:
        show_json([asdict(entry) for entry in gone])
        return
    display = make_display(False)
    if gone:
        display.show(listings.cache(gone))
    verb = "would go" if dry_run else "went"
    display.show(f"{len(gone)} {verb}, {listings.size(sum(entry.bytes for entry in gone))}")
