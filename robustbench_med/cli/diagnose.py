"""`medrobust diagnose`: signs that an attack failed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med import parsing
from robustbench_med.cli.options import (
    HOW,
    WHAT,
    Accept,
    AllowBatchDependent,
    Checkpoint,
    Chunk,
    Data,
    DataRoot,
    DefenseParams,
    Defenses,
    Device,
    Draws,
    Fold,
    Folds,
    Include,
    ModelParams,
    Models,
    Out,
    Preprocess,
    Preset,
    Quiet,
    RecipeParams,
    Size,
    TrainSeeds,
    WholeRange,
    listed,
    make_display,
)


def diagnose(
    model: Models,
    defense: Defenses = None,
    data: Data = "phantoms",
    eps: Annotated[
        list[str],
        typer.Option(
            help="Radius for pixels in 0..1 (default 4/255); or one a modality: mri=4/255,xray=0.",
            rich_help_panel=HOW,
        ),
    ] = [],
    whole_range: WholeRange = None,
    norm: Annotated[str, typer.Option(help="Linf or L2.", rich_help_panel=HOW)] = "Linf",
    target_task: Annotated[
        str,
        typer.Option(
            help="Task to make wrong: joint, a task's name or number.", rich_help_panel=HOW
        ),
    ] = "joint",
    source: Annotated[
        str | None,
        typer.Option(
            help=(
                "Undefended models for the transfer sign, comma-separated; none: it is not looked"
                " for."
            ),
            rich_help_panel=HOW,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(min=2, help="Steps of PGD; twice as many are tried too.", rich_help_panel=HOW),
    ] = 20,
    queries: Annotated[
        int, typer.Option(min=2, help="Queries of the square attack.", rich_help_panel=HOW)
    ] = 500,
    eot: Annotated[
        int,
        typer.Option(
            min=1,
            help=(
                "Draws per gradient against a random model; 1 and 32 (or twice as many) are tried"
                " too."
            ),
            rich_help_panel=HOW,
        ),
    ] = 4,
    draws: Draws = None,
    limit: Annotated[
        int, typer.Option(min=1, help="First n test samples.", rich_help_panel=WHAT)
    ] = 32,
    chunk: Chunk = None,
    allow_batch_dependent: AllowBatchDependent = False,
    preset: Preset = "quick",
    size: Size = None,
    preprocess: Preprocess = [],
    folds: Folds = None,
    fold: Fold = None,
    train_seed: TrainSeeds = None,
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    recipe: RecipeParams = [],
    checkpoint: Checkpoint = None,
    include: Include = [],
    out: Out = Path("reports"),
    device: Device = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    quiet: Quiet = False,
) -> None:
    """Look for signs that an attack failed: can this victim's robust accuracy be trusted?

    Runs PGD, noise, square, more steps, more draws, other losses and radii against each other,
    always under the sound protocol. A short version of this runs after every cell of `run` (columns
    `trust` of the tables). Signs and thresholds are explained in docs/trust.md.

    The victim is the one `run` would take: the same --defense, --recipe, --train-seed, --size and
    so on name the same weights.

    [bold]Examples[/]

      medrobust diagnose --model robust-mail --source mail                # do attacks made on plain
      MAIL do better?

      medrobust diagnose --model late --defense jpeg,pni --source late    # each defence attacked
      adaptively: BPDA, EOT
    """
    from robustbench_med.cli import terminal
    from robustbench_med.parsing import split_radii
    from robustbench_med.runs.diagnose import diagnose as signs_of
    from robustbench_med.runs.session import Job
    from robustbench_med.runs.spec import DiagnoseSpec

    wanted = {
        "model": listed(model),
        "defense": listed(defense),
        "defense_params": parsing.assignments(defense_param) or None,
        "data": listed(data),
        "eps": split_radii(eps) or None,
        "whole_range": whole_range,
        "norm": norm,
        "target_task": target_task,
        "source": listed(source),
        "steps": steps,
        "queries": queries,
        "eot": eot,
        "draws": draws,
        "limit": limit,
        "chunk": chunk,
        "allow_batch_dependent": allow_batch_dependent or None,
        "preset": preset,
        "size": size,
        "preprocessing": parsing.assignments(preprocess) or None,
        "folds": folds,
        "fold": listed(fold),
        "train_seed": listed(train_seed),
        "model_params": parsing.assignments(model_param) or None,
        "recipe": parsing.assignments(recipe) or None,
        "checkpoint": checkpoint,
        "include": include or None,
    }
    display = make_display(quiet)
    rows = signs_of(
        parsing.validate(
            DiagnoseSpec,
            {key: value for key, value in wanted.items() if value is not None},
            "diagnose",
        ),
        Job(
            out=out,
            device=device,
            data_root=data_root,
            accept_unverified=accept_unverified,
            display=display,
        ),
    )
    display.show(terminal.diagnostics(rows))
