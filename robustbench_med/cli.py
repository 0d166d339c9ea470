"""The command line: one thin function a command. Everything heavy is imported inside, so that --help answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_med.errors import UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Adversarial robustness of multimodal medical classifiers: attack them, and know whether to trust the number.\n\n"
    "First steps: [bold]medrobust run --model robust-mail --attack pgd[/] (built-in phantoms, no network), then "
    "[bold]medrobust run --help[/].",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: which there are, where they come from, where they belong.")
app.add_typer(data_app, name="data")

WHERE, WHAT, HOW = "Where and how to run", "Victims and data", "Threat model and attack"

Models = Annotated[str, typer.Option("--model", "-m", help="Models, comma-separated; `medrobust models` lists them.", rich_help_panel=WHAT)]
Data = Annotated[
    str,
    typer.Option(
        help="Data sets, comma-separated: an id, a pairing a+b, a suite (all20), or a path to a YAML card or suite.", rich_help_panel=WHAT
    ),
]
Preset = Annotated[str, typer.Option(help="Sizes and training recipe: quick (laptop) or release (the authors').", rich_help_panel=WHAT)]
Size = Annotated[int | None, typer.Option(help="Pixels of an image's side, instead of the preset's.", rich_help_panel=WHAT)]
ModelParams = Annotated[
    list[str],
    typer.Option("--model-param", metavar="NAME=VALUE", help="A constructor argument, e.g. width=32. Repeatable.", rich_help_panel=WHAT),
]
RecipeParams = Annotated[
    list[str], typer.Option("--recipe", metavar="NAME=VALUE", help="A training setting, e.g. epochs=30. Repeatable.", rich_help_panel=WHAT)
]
Preprocess = Annotated[
    list[str],
    typer.Option(
        "--preprocess",
        metavar="NAME=VALUE",
        help="From file to pixels: fit=stretch (default), pad or crop; scaling=fixed (default) or minmax. Repeatable.",
        rich_help_panel=WHAT,
    ),
]
DefenseParams = Annotated[
    list[str],
    typer.Option(
        "--defense-param", metavar="NAME=VALUE", help="A parameter of the defence, e.g. steps=7. Repeatable.", rich_help_panel=WHAT
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for records, tables and figures.", rich_help_panel=WHERE)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=WHERE)]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds the data sets on disk.", rich_help_panel=WHERE)]
Accept = Annotated[bool, typer.Option("--accept-unverified", help="Use a file whose md5 is not the published one.", rich_help_panel=WHERE)]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at an unreadable image instead of counting it.", rich_help_panel=WHERE)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and results only.", rich_help_panel=WHERE)]


@app.command()
def run(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Models, comma-separated; `medrobust models` lists them.", rich_help_panel=WHAT)
    ] = None,
    defense: Annotated[
        str | None,
        typer.Option(
            help="Defences, comma-separated (default none), each one name or a chain such as pgd-at+jpeg; `medrobust defenses` lists them.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    attack: Annotated[
        str | None, typer.Option("--attack", "-a", help="Attacks, comma-separated (default pgd).", rich_help_panel=HOW)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data sets, comma-separated: id, pairing a+b, suite (all20), or path to a card or suite (default phantoms).",
            rich_help_panel=WHAT,
        ),
    ] = None,
    eps: Annotated[
        list[str],
        typer.Option(
            help="Radii for pixels in 0..1, comma-separated: 1/255,4/255 (default 4/255); or one a modality: "
            "mri=4/255,xray=0 (0 = trusted). Repeatable.",
            rich_help_panel=HOW,
        ),
    ] = [],
    norm: Annotated[str | None, typer.Option(help="Linf, L2 or both, comma-separated (default Linf).", rich_help_panel=HOW)] = None,
    target_task: Annotated[
        str | None, typer.Option(help="Task to make wrong: joint (default), a task's name or number.", rich_help_panel=HOW)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Aim at a class: random, least-likely, or its number (default: any wrong class).", rich_help_panel=HOW),
    ] = None,
    cross_modal: Annotated[
        bool | None,
        typer.Option(
            "--cross-modal", help="Attack every modality alone, aimed at every task alone: who depends on whom?", rich_help_panel=HOW
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Who computes the attacks: native (default), torchattacks or art; an engine refuses what it cannot do.",
            rich_help_panel=HOW,
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="For --attack transfer: models that adversarials are made on, comma-separated.", rich_help_panel=HOW)
    ] = None,
    batch_draws: Annotated[
        int | None,
        typer.Option(help="Draws of one EOT gradient that share a batch: faster on a GPU, more memory (default 1).", rich_help_panel=HOW),
    ] = None,
    attack_param: Annotated[
        list[str], typer.Option(metavar="NAME=VALUE", help="A parameter of the attacks, e.g. steps=50. Repeatable.", rich_help_panel=HOW)
    ] = [],
    protocol: Annotated[
        str | None,
        typer.Option(
            help="sound (default: fresh draws, EOT against random models) or release (the authors' notebook).", rich_help_panel=HOW
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Forward passes per prediction of a random model (default 16).", rich_help_panel=HOW)
    ] = None,
    control: Annotated[
        bool | None, typer.Option("--control/--no-control", help="Add uniform noise of each radius (default on).", rich_help_panel=HOW)
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Seeds of the evaluation, comma-separated (default 0).", rich_help_panel=HOW)] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Evaluate the first n test samples only (default: the preset's, see `medrobust models`).", rich_help_panel=WHAT),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Sizes and training recipe: quick (default) or release.", rich_help_panel=WHAT)] = None,
    size: Size = None,
    preprocess: Preprocess = [],
    train_seed: Annotated[
        str | None, typer.Option(help="Seeds of the training, comma-separated (default 0).", rich_help_panel=WHAT)
    ] = None,
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    recipe: RecipeParams = [],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (safetensors) of the one model of this run.", rich_help_panel=WHAT)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML run file with these options as keys; options given here win.", rich_help_panel=WHERE)
    ] = None,
    out: Out = Path("reports"),
    device: Device = "auto",
    batch_size: Annotated[str, typer.Option(help="Samples a batch, or auto: halves when memory runs out.", rich_help_panel=WHERE)] = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    strict: Strict = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compute cells again that are already in the store.", rich_help_panel=WHERE)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Attack models and write the leaderboard: clean and robust accuracy with intervals, cost, and one figure.

    Every combination of the lists is one cell. Finished cells are kept, so a run that was interrupted goes on where it stopped.

    [bold]Examples[/]

      medrobust run --model robust-mail --attack pgd

      medrobust run --model mail,robust-mail,late --attack fgsm,pgd --eps 1/255,2/255,4/255 --data breastmnist+pneumoniamnist

      medrobust run --model late --eps mri=4/255,xray=0 --target-task lung     # does the MRI change the X-ray's diagnosis?
    """
    from robustbench_med import reports, runner, spec

    given = {
        "model": _listed(model),
        "defense": _listed(defense),
        "defense_params": spec.assignments(defense_param) or None,
        "attack": _listed(attack),
        "data": _listed(data),
        "eps": spec.split_radii(eps) or None,
        "norm": _listed(norm),
        "target_task": target_task,
        "seed": _listed(seed),
        "train_seed": _listed(train_seed),
        "preset": preset,
        "protocol": protocol,
        "draws": draws,
        "limit": limit,
        "size": size,
        "preprocessing": spec.assignments(preprocess) or None,
        "attack_params": spec.assignments(attack_param) or None,
        "model_params": spec.assignments(model_param) or None,
        "recipe": spec.assignments(recipe) or None,
        "checkpoint": checkpoint,
        "control": control,
        "engine": engine,
        "source": _listed(source),
        "target": target,
        "cross_modal": cross_modal,
        "batch_draws": batch_draws,
    }
    chosen = spec.load_config(config) if config else {}
    chosen |= {key: value for key, value in given.items() if value is not None}
    display = _display(quiet)
    records = runner.run(
        spec.validate(spec.RunSpec, chosen, "run"),
        runner.Job(
            out=out,
            device=device,
            batch_size=batch_size,
            data_root=data_root,
            accept_unverified=accept_unverified,
            strict=strict,
            force=force,
            display=display,
        ),
    )
    display.show(reports.write(out, only=records))
    for line in runner.finished(records, out):
        display.say(line)


@app.command()
def compare(
    model: Models = "mail",
    defense: Annotated[
        str, typer.Option(help="Defences to compare with none, comma-separated; `medrobust defenses` lists them.", rich_help_panel=WHAT)
    ] = "none,pgd-at,trades,rpf,man,robust-mail,jpeg,smoothing",
    attack: Annotated[str, typer.Option("--attack", "-a", help="Attacks, comma-separated.", rich_help_panel=HOW)] = "pgd",
    data: Data = "phantoms",
    eps: Annotated[list[str], typer.Option(help="Radii, as in `run` (default 4/255).", rich_help_panel=HOW)] = [],
    attack_param: Annotated[
        list[str], typer.Option(metavar="NAME=VALUE", help="A parameter of the attacks. Repeatable.", rich_help_panel=HOW)
    ] = [],
    draws: Annotated[int, typer.Option(help="Forward passes per prediction of a random victim.", rich_help_panel=HOW)] = 16,
    seed: Annotated[str, typer.Option(help="Seeds of the evaluation, comma-separated.", rich_help_panel=HOW)] = "0",
    train_seed: Annotated[str, typer.Option(help="Seeds of the training, comma-separated.", rich_help_panel=WHAT)] = "0",
    limit: Annotated[int | None, typer.Option(help="First n test samples, 0 = all (default: the preset's).", rich_help_panel=WHAT)] = None,
    preset: Preset = "quick",
    size: Size = None,
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    recipe: RecipeParams = [],
    out: Out = Path("reports"),
    device: Device = "auto",
    batch_size: Annotated[str, typer.Option(help="Samples a batch, or auto.", rich_help_panel=WHERE)] = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    strict: Strict = False,
    force: Annotated[bool, typer.Option("--force", help="Compute cells again.", rich_help_panel=WHERE)] = False,
    quiet: Quiet = False,
) -> None:
    """Compare defences: which one, at what cost, and is it real? Table, paired statistics, verdict and Pareto figure.

    Every defence is trained and attacked the same way, adaptively: EOT on random ones, BPDA through input transforms. The figure
    of a naive attack stands beside. Writes compare.md, compare.csv, compare.tex, compare_pairs.csv and pareto.png.

    [bold]Example[/]

      medrobust compare --model mail --defense pgd-at,trades,rpf,man,robust-mail,jpeg --attack fgsm,pgd --data breastmnist+pneumoniamnist
    """
    import shlex
    import time

    from robustbench_med import comparison, runner, spec
    from robustbench_med.reports import terminal
    from robustbench_med.reports.compare import write

    started = time.perf_counter()
    given = {
        "model": _listed(model),
        "defense": _listed(defense),
        "defense_params": spec.assignments(defense_param),
        "attack": _listed(attack),
        "data": _listed(data),
        "eps": spec.split_radii(eps) or ["4/255"],
        "attack_params": spec.assignments(attack_param),
        "draws": draws,
        "seed": _listed(seed),
        "train_seed": _listed(train_seed),
        "limit": limit,
        "preset": preset,
        "size": size,
        "model_params": spec.assignments(model_param),
        "recipe": spec.assignments(recipe),
    }
    display = _display(quiet)
    job = runner.Job(
        out=out,
        device=device,
        batch_size=batch_size,
        data_root=data_root,
        accept_unverified=accept_unverified,
        strict=strict,
        force=force,
        display=display,
    )
    entries = comparison.compare(spec.validate(spec.RunSpec, given, "compare"), job)
    command = shlex.join(["medrobust", *sys.argv[1:]])
    text = write([vars(e) for e in entries], out, command=command, seconds=time.perf_counter() - started)
    display.show(terminal.page(text.rpartition("\n![")[0]))
    display.say(f"tables and figure: {out}/compare.md, compare.csv, compare.tex, compare_pairs.csv, pareto.png")


@app.command()
def train(
    model: Models,
    defense: Annotated[
        str, typer.Option(help="One defence or a chain, e.g. trades+awp; `medrobust defenses` lists them.", rich_help_panel=WHAT)
    ] = "none",
    data: Data = "phantoms",
    preset: Preset = "quick",
    seed: Annotated[int, typer.Option(help="Seed of initialisation, batches and noise.", rich_help_panel=WHAT)] = 0,
    size: Size = None,
    preprocess: Preprocess = [],
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    recipe: RecipeParams = [],
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.", rich_help_panel=WHAT)] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also copy weights and sidecar into this folder.", rich_help_panel=WHERE)
    ] = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    strict: Strict = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train although there is a checkpoint, in the cache or the zoo.", rich_help_panel=WHERE)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train victims and keep their checkpoints; an interrupted training goes on where it stopped.

    `run` does the same on first use. Weights are safetensors; a JSON sidecar tells how they came about.
    """
    from robustbench_med import runner, spec

    runner.train(
        _listed(model) or [],
        _listed(data) or [],
        spec.validate(
            spec.TrainOptions,
            {
                "preset": preset,
                "defense": defense,
                "defense_params": spec.assignments(defense_param),
                "seed": seed,
                "size": size,
                "preprocessing": spec.assignments(preprocess),
                "params": spec.assignments(model_param),
                "recipe": spec.assignments(recipe),
                "half": half,
            },
            "train",
        ),
        runner.Job(
            out=out,
            device=device,
            data_root=data_root,
            accept_unverified=accept_unverified,
            strict=strict,
            force=force,
            display=_display(quiet),
        ),
    )


@app.command()
def diagnose(
    model: Models,
    data: Data = "phantoms",
    eps: Annotated[
        list[str], typer.Option(help="Radius for pixels in 0..1 (default 4/255); or one a modality: mri=4/255,xray=0.", rich_help_panel=HOW)
    ] = [],
    norm: Annotated[str, typer.Option(help="Linf or L2.", rich_help_panel=HOW)] = "Linf",
    target_task: Annotated[str, typer.Option(help="Task to make wrong: joint, a task's name or number.", rich_help_panel=HOW)] = "joint",
    source: Annotated[
        str | None, typer.Option(help="Sibling models for the transfer sign, comma-separated; none: it is left out.", rich_help_panel=HOW)
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps of PGD; twice as many are tried too.", rich_help_panel=HOW)] = 20,
    queries: Annotated[int, typer.Option(min=2, help="Queries of the square attack.", rich_help_panel=HOW)] = 500,
    limit: Annotated[int, typer.Option(min=1, help="First n test samples.", rich_help_panel=WHAT)] = 32,
    preset: Preset = "quick",
    size: Size = None,
    out: Out = Path("reports"),
    device: Device = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    quiet: Quiet = False,
) -> None:
    """Look for signs that an attack failed: can this victim's robust accuracy be trusted?

    Runs PGD, noise, square, more steps, more draws, other losses and radii against each other. A short version of this runs after
    every cell of `run` (columns `trust` of the tables). Signs and thresholds are explained in docs/trust.md.
    """
    from robustbench_med import runner, spec
    from robustbench_med.reports import terminal

    wanted = {
        "model": _listed(model),
        "data": _listed(data),
        "eps": spec.split_radii(eps) or None,
        "norm": norm,
        "target_task": target_task,
        "source": _listed(source),
        "limit": limit,
        "preset": preset,
        "size": size,
    }
    display = _display(quiet)
    rows = runner.diagnose(
        spec.validate(spec.RunSpec, {key: value for key, value in wanted.items() if value is not None}, "diagnose"),
        runner.Job(out=out, device=device, data_root=data_root, accept_unverified=accept_unverified, display=display),
        steps=steps,
        queries=queries,
    )
    display.show(terminal.diagnostics(rows))


@app.command()
def cost(
    model: Models = "mail,robust-mail,late,unimodal",
    preset: Preset = "quick",
    size: Size = None,
    modalities: Annotated[int, typer.Option(min=1, max=16, help="Number of modalities.", rich_help_panel=WHAT)] = 2,
    classes: Annotated[str, typer.Option(help="Classes of each task, comma-separated.", rich_help_panel=WHAT)] = "4,3",
    model_param: ModelParams = [],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write model_cost.csv into this folder.", rich_help_panel=WHERE)
    ] = None,
    device: Device = "auto",
) -> None:
    """Parameters, FLOPs (2 per multiply-accumulate, PyTorch's counter), MACs, latency and peak memory, side by side."""
    from robustbench_med import inventory, reports, spec

    rows = inventory.costs(
        _listed(model) or [], preset, size, modalities, spec.whole_numbers(classes, "--classes"), spec.assignments(model_param), device
    )
    _display(False).show(reports.terminal.costs(rows))
    if out is not None:
        reports.write_costs(rows, out)


@app.command()
def leaderboard(out: Out = Path("reports")) -> None:
    """Write leaderboard.csv, records.csv, cost.csv and the figures again from the records in a folder."""
    from robustbench_med import reports

    _display(False).show(reports.write(out))


@app.command()
def report(
    out: Out = Path("reports"),
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write leaderboard.html, one file that opens without a network.")] = True,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Write figures/ and gallery/.")] = True,
    quiet: Quiet = False,
) -> None:
    """Write everything again that can be made of the records in a folder: tables, figures, examples, and the leaderboard page.

    CSV tables go beside records/, Markdown and LaTeX ones into paper/, figures (PNG, SVG) into figures/, examples into gallery/.
    docs/columns.md tells what the columns mean.
    """
    from robustbench_med import reports

    display = _display(quiet)
    for path in reports.write_all(out, page=html, pictures=figures):
        display.say(str(path))


@app.command()
def claims(
    out: Out = Path("reports"),
    file: Annotated[
        list[Path], typer.Option("--file", "-f", help="YAML file with claims of your own; repeatable. docs/claims.md shows the format.")
    ] = [],
) -> None:
    """Check published claims against what was measured here: reproduced, not reproduced, or not testable here.

    Reads the records in a folder and the model_cost.csv that `medrobust cost --out` wrote there; writes claims.csv and claims.md.
    """
    from robustbench_med import reports

    _display(False).show(reports.write_claims(out, file))


@app.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(help="Folders whose records are copied.")],
    out: Out = Path("reports"),
) -> None:
    """Join the records of several machines in one folder and report conflicts; exit code 1 when there are any.

    A record is never changed: where two folders hold the same cell with different figures, that of --out stays.
    """
    from robustbench_med.merge import merge as join
    from robustbench_med.reports import terminal

    result = join(sources, out)
    _display(False).show(terminal.merged(result, str(out)))
    if result.conflicts:
        raise typer.Exit(1)


@app.command()
def show(
    record: Annotated[str, typer.Argument(help="First characters of a record's hash (column `record` of records.csv).")],
    out: Out = Path("reports"),
    as_json: Annotated[bool, typer.Option("--json", help="The whole record as JSON.")] = False,
    gallery: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw its examples: clean, attacked, amplified difference.")
    ] = None,
) -> None:
    """Everything about one record: figures with intervals, cost, versions, and the command that makes it again."""
    import json

    from robustbench_med import reports
    from robustbench_med.reports import terminal
    from robustbench_med.store import Store

    found = Store(out).find(record)
    if gallery is not None:
        reports.write_gallery(out, found, gallery)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _display(False).show(terminal.record(found))


@app.command()
def models(preset: Preset = "quick") -> None:
    """The models that can be named, with parameters, FLOPs, whether they are random, and their papers."""
    from robustbench_med import inventory
    from robustbench_med.reports import terminal

    rows, description = inventory.list_models(preset)
    _display(False).show(terminal.models(rows, preset, description))


@app.command()
def attacks() -> None:
    """The attacks that can be named, with their parameters, defaults and papers."""
    from robustbench_med.attacks import describe
    from robustbench_med.reports import terminal

    _display(False).show(terminal.attacks(describe()))


@app.command()
def defenses() -> None:
    """The defences that can be named with --defense, alone or joined by +, with their parameters, defaults and papers."""
    from robustbench_med.defense import describe
    from robustbench_med.reports import terminal

    _display(False).show(terminal.defenses(describe()))


@data_app.command("list")
def data_list(data_root: DataRoot = None) -> None:
    """The data sets that can be named, and which of them are on disk."""
    from robustbench_med.data import catalogue
    from robustbench_med.reports import terminal

    _display(False).show(terminal.datasets(catalogue(data_root)))


@data_app.command("show")
def data_show(name: Annotated[str, typer.Argument(help="An id, or a path to a YAML card.")], data_root: DataRoot = None) -> None:
    """One data set: source, licence, classes, counts, known defects, where to put it, how to cite it."""
    from robustbench_med.data import card, facts
    from robustbench_med.reports import terminal

    _display(False).show(terminal.dataset(facts(card(name), data_root)))


@data_app.command("suites")
def data_suites() -> None:
    """The suites that can be named with --data, and the pairings they stand for; a YAML file of yours can be one too."""
    from robustbench_med.data import suites
    from robustbench_med.reports import terminal

    _display(False).show(terminal.suites([found for name in suites.names() if (found := suites.suite(name))]))


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="Ids, or paths to YAML cards.")],
    size: Annotated[int, typer.Option(help="Pixels needed: MedMNIST has files of 28, 64, 128 and 224.")] = 28,
    quiet: Quiet = False,
) -> None:
    """Download open data sets, checked against the published md5; an interrupted download goes on where it stopped.

    For a set behind an account it says how to get it, and exits with code 2.
    """
    from robustbench_med.data import card
    from robustbench_med.data.source import fetch

    display = _display(quiet)
    for name in names:
        display.show(str(fetch(card(name), size, _files(display))))


@data_app.command("import")
def data_import(
    name: Annotated[str, typer.Argument(help="The id of the data set, or a path to its YAML card.")],
    paths: Annotated[list[Path], typer.Argument(help="The zip archives (and CSV files) you downloaded.")],
    data_root: DataRoot = None,
    quiet: Quiet = False,
) -> None:
    """Unpack what you downloaded by hand to where it belongs; hostile, broken and wrong archives are refused whole.

    [bold]Example[/]: medrobust data import busi archive.zip && medrobust data verify busi
    """
    from robustbench_med.data import card
    from robustbench_med.data.archive import import_files

    display = _display(quiet)
    display.show(str(import_files(card(name), paths, _files(display, data_root))))


@data_app.command("verify")
def data_verify(
    name: Annotated[str, typer.Argument(help="An id, or a path to a YAML card.")],
    seed: Annotated[int, typer.Option(help="Seed of the split, where none is published.")] = 0,
    look: Annotated[bool, typer.Option("--look/--no-look", help="Also find images that look alike (quadratic in their number).")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    data_root: DataRoot = None,
    quiet: Quiet = False,
) -> None:
    """Count, read every file, and look for leaks: a group, a copy or a look-alike in two of train, val and test.

    Exit code 1 when the split leaks, 0 when it does not. A file whose md5 is not the published one is read and noted.
    """
    import json

    from robustbench_med.data import card
    from robustbench_med.data.verify import verify
    from robustbench_med.reports import terminal

    display = _display(quiet or as_json)
    report = verify(card(name), _files(display, data_root, accept_unverified=True), seed=seed, look=look)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        display.show(terminal.verification(report))
    raise typer.Exit(code=1 if report["leaks"] else 0)


def _listed(text: str | None) -> list[Any] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _display(quiet: bool) -> Any:
    from robustbench_med.progress import Display

    return Display(quiet=quiet)


def _files(display: Any, data_root: Path | None = None, *, accept_unverified: bool = False) -> Any:
    from robustbench_med.data import Files

    return Files(data_root, accept_unverified, say=display.say, progress=display.lazy_bar)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        from robustbench_med import __version__

        print(f"medrobust {__version__}")
        raise typer.Exit


def main() -> None:
    """The console script: bad input is one line and exit code 2; errors of ours keep their traceback."""
    try:
        app()
    except UserError as error:
        print(f"medrobust: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("medrobust: interrupted; finished cells and training steps are kept, the same command goes on from there", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
