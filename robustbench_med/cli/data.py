"""`medrobust data`: which sets there are, how to get them, whether their splits can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import Command, DataRoot, Quiet, files, make_display

data_app = typer.Typer(
    no_args_is_help=True,
    help="Data sets: which there are, where they come from, where they belong.",
)


@data_app.command("list", cls=Command)
def data_list(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """The data sets that can be named, and which of them are on disk."""
    from robustbench_med.cli import listings
    from robustbench_med.data import catalogue

    if as_json:
        show_json(catalogue(data_root))
    else:
        make_display(False).show(listings.datasets(catalogue(data_root)))


@data_app.command("show", cls=Command)
def data_show(
    name: Annotated[str, typer.Argument(help="An id, a path to a YAML card, or a pairing a+b.")],
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """One data set: source, licence, classes, counts, known defects, where to put it, how to cite
    it; whether its modalities are paired, of one patient, or by index.
    """
    from robustbench_med.cli import listings
    from robustbench_med.data import of_pairing

    found = of_pairing(name, data_root)
    if as_json:
        show_json(found[0] if len(found) == 1 else found)
    else:
        display = make_display(False)
        for each in found:
            display.show(listings.dataset(each))


@data_app.command("new", cls=Command)
def data_new(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the images.")],
    table: Annotated[
        Path | None, typer.Option(help="A CSV file in it that names images, labels, patients.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Column of the patient.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the class.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Column of the part or site a row belongs to.")
    ] = None,
    train_on: Annotated[
        str, typer.Option(help="Values of --split to train on, comma-separated.")
    ] = "",
    test_on: Annotated[str, typer.Option(help="Values of --split to test on.")] = "",
    modality: Annotated[str, typer.Option(help="What the images are called.")] = "image",
    card: Annotated[
        Path | None, typer.Option(help="Where the card goes. [default: FOLDER.yaml, beside it]")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the card of a folder as it is: class folders, or a table beside the images. Looks,
    guesses, comments what it saw, and shows what `data verify` says of it. Columns such as sex,
    age, scanner or site become subgroups, by which figures are given.

    [bold]Examples[/]

      medrobust data new scans

      medrobust data new scans --table labels.csv --patient ID --label diagnosis

      medrobust data new scans --table labels.csv --split site --train-on A,B --test-on C
    """
    from robustbench_med.cli import listings
    from robustbench_med.data import card as read_card
    from robustbench_med.data.new import Given, draft
    from robustbench_med.data.verify import verify
    from robustbench_med.errors import UserError
    from robustbench_med.paths import write_text

    def listed(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())

    display, path = make_display(quiet), card or Path(f"{folder.resolve()}.yaml")
    if path.exists():
        raise UserError(f"{path} is there already; remove it, or give --card another name")
    given = Given(table, patient, label, split, listed(train_on), listed(test_on), modality)
    text = draft(folder, given).text()
    write_text(path, text)
    try:
        report = verify(read_card(str(path)), files(display, folder), look=False)
    except UserError as error:
        raise UserError(f"{path} is written, but cannot be read yet: {error}") from error
    display.show(text)
    display.show(listings.verification(report))
    display.say(f"next: medrobust run --model unimodal --data {path} --data-root {folder}")


@data_app.command("suites", cls=Command)
def data_suites(as_json: AsJson = False) -> None:
    """The suites that can be named with --data, and the pairings they stand for; a YAML file of
    yours can be one too.
    """
    from robustbench_med.cli import listings
    from robustbench_med.data import suites

    known = [found for name in suites.names() if (found := suites.suite(name))]
    if as_json:
        show_json([each.model_dump() for each in known])
    else:
        make_display(False).show(listings.suites(known))


@data_app.command("fetch", cls=Command)
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="Ids, or paths to YAML cards.")],
    size: Annotated[
        int, typer.Option(help="Pixels needed: MedMNIST has files of 28, 64, 128 and 224.")
    ] = 28,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download open data sets, checked against the published md5; an interrupted download goes on
    where it stopped.

    For a set behind an account it says how to get it, and exits with code 2.
    """
    from robustbench_med.data import card
    from robustbench_med.data.source import fetch

    display = make_display(quiet)
    found = []
    for name in names:
        found.append({"name": name, "path": fetch(card(name), size, files(display))})
        if not as_json:
            display.show(str(found[-1]["path"]))
    if as_json:
        show_json(found)


@data_app.command("import", cls=Command)
def data_import(
    name: Annotated[
        str, typer.Argument(help="The id of the data set, or a path to its YAML card.")
    ],
    paths: Annotated[
        list[Path], typer.Argument(help="The zip archives (and CSV files) you downloaded.")
    ],
    data_root: DataRoot = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Unpack what you downloaded by hand to where it belongs; hostile, broken and wrong archives
    are refused whole.

    [bold]Example[/]: medrobust data import busi archive.zip && medrobust data verify busi
    """
    from robustbench_med.data import card
    from robustbench_med.data.archive import import_files

    display = make_display(quiet)
    path = import_files(card(name), paths, files(display, data_root))
    if as_json:
        show_json({"name": name, "path": path})
    else:
        display.show(str(path))


@data_app.command("verify", cls=Command)
def data_verify(
    name: Annotated[str, typer.Argument(help="An id, or a path to a YAML card.")],
    seed: Annotated[
        int, typer.Option(help="Seed of the split, where none is published.", min=0, max=2**63 - 1)
    ] = 0,
    look: Annotated[
        bool,
        typer.Option(
            "--look/--no-look",
            help="Also find images that look alike (100,000 images: half a minute; quadratic).",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    data_root: DataRoot = None,
    quiet: Quiet = False,
) -> None:
    """Count, read every file, and look for leaks: a group, a copy or a look-alike in two of train,
    val and test.

    Exit code 1 when the split leaks, 0 when it does not. A file whose md5 is not the published one
    is read and noted.
    """
    import json

    from robustbench_med.cli import listings
    from robustbench_med.data import card
    from robustbench_med.data.verify import verify

    display = make_display(quiet or as_json)
    report = verify(
        card(name), files(display, data_root, accept_unverified=True), seed=seed, look=look
    )
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        display.show(listings.verification(report))
    raise typer.Exit(code=1 if report["leaks"] else 0)
