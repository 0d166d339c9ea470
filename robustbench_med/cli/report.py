"""Commands that show what was measured: a folder of records as tables, figures, cards and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import Baseline, Named, Out, Quiet, make_display
from robustbench_med.cli.values import listed

SHOWN = ("cost.md", "per-class.md", "cross-modal.md", "missing.md")
"""Tables of `report` that the terminal shows; the leaderboard has a command of its own."""


def leaderboard(
    out: Out = Path("reports"),
    entries: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Make them of a folder of entries (`medrobust submit`) instead.",
        ),
    ] = None,
    cells: Annotated[
        bool, typer.Option("--cells", help="Show a row an attack, as in cells.csv.")
    ] = False,
    baseline: Baseline = "late",
    as_json: AsJson = False,
) -> None:
    """Write leaderboard.csv, cells.csv, records.csv, cost.csv and the figures again from the
    records in a folder.

    The leaderboard has a row a victim and threat: the worst case over all attacks that were run,
    ranked where they hold the reference set of a benchmark (`medrobust benchmark list`).

    [bold]Examples[/]

      medrobust leaderboard --out reports

      medrobust leaderboard --from results/ --out board     # the shipped entries
    """
    from robustbench_med.cli import as_json as results
    from robustbench_med.cli import terminal_board
    from robustbench_med.reports import write

    found = (
        write.leaderboard(out, baseline=baseline)
        if entries is None
        else write.from_entries(entries, out)
    )
    if as_json:
        show_json(results.board(found))
    else:
        make_display(False).show(terminal_board.shown(found, attacks=cells))


def report(
    out: Out = Path("reports"),
    html: Annotated[
        bool,
        typer.Option(
            "--html/--no-html",
            help="Write leaderboard.html, one file that opens without a network.",
        ),
    ] = True,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Write figures/ and gallery/.")
    ] = True,
    baseline: Baseline = "late",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write everything again that can be made of the records and certificates in a folder: tables,
    figures, examples, the page.

    CSV tables go beside records/, Markdown and LaTeX ones into paper/, figures (PNG, SVG) into
    figures/, examples into gallery/. Costs, the accuracy of every class and the cross-modal matrix
    are shown too. docs/columns.md tells what the columns mean.
    """
    from robustbench_med.cli import terminal
    from robustbench_med.reports import write

    display = make_display(quiet)
    with_packages()
    paths = write.everything(out, html=html, pictures=figures, baseline=baseline)
    if as_json:
        show_json({"files": paths, "warnings": write.warnings(out)})
        return
    for path in paths:
        display.say(str(path))
        if path.name in SHOWN and not quiet:
            display.show(terminal.page(path.read_text(encoding="utf-8")))
    for text in write.warnings(out):
        display.warn(text)


def site(
    entries: Annotated[
        Path, typer.Option("--from", metavar="FOLDER", help="Entries (`medrobust submit`).")
    ] = Path("results"),
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the site goes.")
    ] = Path("public"),
    docs: Annotated[
        Path | None,
        typer.Option(
            metavar="mkdocs.yml",
            help="Build the documentation of this file too; needs the extra `docs`.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a site that any static host serves: the leaderboard of a folder of entries, its CSV,
    Markdown and LaTeX, the entries, and the documentation.

    [bold]Example[/]: medrobust site --from results --docs mkdocs.yml --out public
    """
    from robustbench_med.reports import site as sites

    written = sites.write(entries, out, docs)
    if as_json:
        show_json({"files": written})
        return
    for path in written:
        print(path)


def with_packages() -> None:
    """Tables of installed packages are there too, where there are any."""
    from importlib.metadata import entry_points

    if entry_points(group="medrobust.reports"):
        from robustbench_med.runs import packages

        packages.load()


def card(
    out: Out = Path("reports"),
    model: Named = None,
    checkpoints: Annotated[
        list[Path],
        typer.Option(
            metavar="FOLDER",
            help="Where weights of your own and their JSON sidecars lie. Repeatable.",
        ),
    ] = [],
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Also write the robustness card of one page, as HTML and PDF, for a validation"
            " file.",
        ),
    ] = False,
    about: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="What no record knows, for --robustness: intended_use, users, patients, not_for,"
            " device, version, manufacturer, contact, notes.",
        ),
    ] = None,
    baseline: Baseline = "late",
    as_json: AsJson = False,
) -> None:
    """Write a model card (Markdown, as the Hugging Face hub reads it) and a robustness card for
    every victim in a folder.

    They go to cards/NAME-WEIGHTS/README.md and ROBUSTNESS.md, made of the records and the
    checkpoint's sidecar alone; with --robustness the page of a validation file beside them,
    robustness-card.html and .pdf, which `medrobust verify --card` holds against the store.

    [bold]Example[/]: medrobust card --robustness --about device.yaml --out reports
    """
    from robustbench_med.errors import UserError
    from robustbench_med.models.registry import MODELS
    from robustbench_med.reports import write
    from robustbench_med.reports.robustness import write as robustness_cards
    from robustbench_med.training.checkpoints import find_sidecar

    if about is not None and not robustness:
        raise UserError("--about is for the robustness card; add --robustness")
    papers = {name: entry.paper for name, entry in MODELS.items()}
    names = listed(model or "")
    with_packages()
    pages = (
        robustness_cards.cards(out, said=about, models=names, baseline=baseline)
        if robustness
        else []
    )
    paths = write.cards(out, find_sidecar, papers, models=names, checkpoints=checkpoints) + pages
    if as_json:
        show_json(list(paths))
        return
    for path in paths:
        print(path)


def claims(
    out: Out = Path("reports"),
    file: Annotated[
        list[Path],
        typer.Option(
            "--file",
            "-f",
            help="YAML file with claims of your own; repeatable. docs/claims.md shows the format.",
        ),
    ] = [],
    as_json: AsJson = False,
) -> None:
    """Check published claims against what was measured here: reproduced, not reproduced, or not
    testable here.

    Reads the records in a folder and the model_cost.csv that `medrobust cost --out` wrote there;
    writes claims.csv and claims.md.
    """
    from robustbench_med.cli import terminal
    from robustbench_med.reports import write

    findings = write.claims(out, file)
    if as_json:
        show_json([finding.model_dump(mode="json") for finding in findings])
    else:
        make_display(False).show(terminal.claims(findings))


def merge(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders whose records and certificates are copied.")
    ],
    out: Out = Path("reports"),
    anonymous: Annotated[
        bool,
        typer.Option(
            "--anonymous",
            help="Copies to be shared: samples named by HMAC with a key that stays in your"
            " configuration, no images, no paths.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join the records and certificates of several machines in one folder and report conflicts;
    exit code 1 when there are any.

    None is ever changed: where two folders hold the same one with different figures, that of --out
    stays. A source that holds a file that cannot be believed is refused before anything is copied
    (exit code 2; `medrobust verify --out SOURCE` lists what is wrong).

    [bold]Example[/]: medrobust merge reports --anonymous --out shared
    """
    import dataclasses

    from robustbench_med.cli import terminal
    from robustbench_med.store.anonymous import key_path
    from robustbench_med.store.merge import merge as join

    result = join(sources, out, anonymous=anonymous)
    if as_json:
        show_json(dataclasses.asdict(result))
    else:
        make_display(False).show(terminal.merged(result, str(out)))
        if anonymous:
            print(f"names are made with the key {key_path()}, which is not to be shared")
    if result.conflicts:
        raise typer.Exit(1)


def show(
    record: Annotated[
        str,
        typer.Argument(
            help="First characters of a record's hash (column `record` of records.csv)."
        ),
    ],
    out: Out = Path("reports"),
    as_json: Annotated[bool, typer.Option("--json", help="The whole record as JSON.")] = False,
    gallery: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw its examples: clean, attacked, amplified difference."
        ),
    ] = None,
) -> None:
    """Everything about one record: figures with intervals, cost, versions, and the command that
    makes it again.
    """
    import json

    from robustbench_med.cli import terminal_records
    from robustbench_med.reports import floors, under_training, write
    from robustbench_med.store.store import Store

    store = Store(out)
    measured = store.find(record)
    records = floors.read_all(store)
    (shown,) = (each for each in records if each.hash == measured.hash)
    doubts = under_training.of_family([shown], under_training.under_trained(records))
    if gallery is not None:
        write.gallery(out, measured, gallery)
    if as_json:
        print(json.dumps(measured.plain(), indent=1))
    else:
        make_display(False).show(terminal_records.record(shown, doubts))
