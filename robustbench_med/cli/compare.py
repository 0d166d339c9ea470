"""`medrobust compare`: which defence, at what cost?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med import parsing
from robustbench_med.cli.options import (
    HOW,
    WHAT,
    WHERE,
    Accept,
    AllowBatchDependent,
    AttackParams,
    Checkpoint,
    Chunk,
    Data,
    DataRoot,
    DefenseParams,
    Device,
    Fold,
    Folds,
    Include,
    ModelParams,
    Models,
    Out,
    Preset,
    Quiet,
    RecipeParams,
    Size,
    Strict,
    WholeRange,
    listed,
    make_display,
)


def compare(
    model: Models = "mail",
    defense: Annotated[
        str | None,
        typer.Option(
            help=(
                "Defences to compare with none, comma-separated; `medrobust defenses` lists them."
                " Default: pgd-at, trades, jpeg, "
                "smoothing, and of rpf, man and robust-mail those that suit the models."
            ),
            rich_help_panel=WHAT,
        ),
    ] = None,
    attack: Annotated[
        str, typer.Option("--attack", "-a", help="Attacks, comma-separated.", rich_help_panel=HOW)
    ] = "pgd",
    data: Data = "phantoms",
    eps: Annotated[
        list[str], typer.Option(help="Radii, as in `run` (default 4/255).", rich_help_panel=HOW)
    ] = [],
    whole_range: WholeRange = None,
    attack_param: AttackParams = [],
    source: Annotated[
        str | None,
        typer.Option(
            help="For --attack transfer: models that adversarials are made on, comma-separated.",
            rich_help_panel=HOW,
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(help="Forward passes per prediction of a random victim.", rich_help_panel=HOW),
    ] = 16,
    seed: Annotated[
        str, typer.Option(help="Seeds of the evaluation, comma-separated.", rich_help_panel=HOW)
    ] = "0",
    train_seed: Annotated[
        str, typer.Option(help="Seeds of the training, comma-separated.", rich_help_panel=WHAT)
    ] = "0",
    limit: Annotated[
        int | None,
        typer.Option(
            help="First n test samples, 0 = all (default: the preset's).", rich_help_panel=WHAT
        ),
    ] = None,
    chunk: Chunk = None,
    allow_batch_dependent: AllowBatchDependent = False,
    preset: Preset = "quick",
    size: Size = None,
    folds: Folds = None,
    fold: Fold = None,
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    recipe: RecipeParams = [],
    checkpoint: Checkpoint = None,
    include: Include = [],
    out: Out = Path("reports"),
    device: Device = "auto",
    batch_size: Annotated[
        str, typer.Option(help="Samples a batch, or auto.", rich_help_panel=WHERE)
    ] = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    strict: Strict = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compute cells again.", rich_help_panel=WHERE)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Compare defences: which one, at what cost, and is it real? Table, paired statistics, verdict
    and Pareto figure.

    Every defence is trained and attacked the same way, adaptively: EOT on random ones, BPDA through
        input transforms. The figure
    of a naive attack stands beside. Writes compare.md, compare.csv, compare.tex, compare_pairs.csv
    and pareto.png.

    [bold]Example[/]

      medrobust compare --model mail --defense pgd-at,trades,rpf,man,robust-mail,jpeg --attack
      fgsm,pgd --data breastmnist+pneumoniamnist
    """
    import shlex
    import time

    from robustbench_med.cli import terminal
    from robustbench_med.parsing import split_radii
    from robustbench_med.reports.comparison.entries import Compared
    from robustbench_med.reports.comparison.write import write
    from robustbench_med.runs import compare as comparison
    from robustbench_med.runs import spec
    from robustbench_med.runs.session import Job

    started = time.perf_counter()
    given = {
        "model": listed(model),
        **({"defense": listed(defense)} if defense is not None else {}),
        "defense_params": parsing.assignments(defense_param),
        "attack": listed(attack),
        "data": listed(data),
        "eps": split_radii(eps) or ["4/255"],
        "whole_range": bool(whole_range),
        "attack_params": parsing.assignments(attack_param),
        "source": listed(source) or [],
        "draws": draws,
        "seed": listed(seed),
        "train_seed": listed(train_seed),
        "limit": limit,
        "chunk": chunk,
        "allow_batch_dependent": allow_batch_dependent or None,
        "preset": preset,
        "size": size,
        "folds": folds,
        "fold": listed(fold) or [],
        "model_params": parsing.assignments(model_param),
        "recipe": parsing.assignments(recipe),
        "checkpoint": checkpoint,
        "include": include,
    }
    display = make_display(quiet)
    job = Job(
        out=out,
        device=device,
        batch_size=batch_size,
        data_root=data_root,
        accept_unverified=accept_unverified,
        strict=strict,
        force=force,
        display=display,
    )
    wanted = parsing.validate(
        spec.RunSpec, {key: value for key, value in given.items() if value is not None}, "compare"
    )
    entries, left_out = comparison.compare(wanted, job)
    command = shlex.join(["medrobust", *sys.argv[1:]])
    seconds = time.perf_counter() - started
    compared = Compared(tuple(entries), command, seconds, tuple(left_out))
    table, page = write(compared, out)
    display.show(terminal.comparison(table, page))
    display.say(
        f"tables and figure: {out}/compare.md, compare.csv, compare.tex, compare_pairs.csv,"
        " pareto.png, pareto.svg"
    )
