"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

WHERE, WHAT, HOW = "Where and how to run", "Victims and data", "Threat model and attack"

MODELS = (
    "Models, comma-separated: a name (`medrobust models` lists them) or your own,"
    " path/to/file.py:function."
)
Models = Annotated[str, typer.Option("--model", "-m", help=MODELS, rich_help_panel=WHAT)]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Weights of the one model named: safetensors, or a state_dict as .pt or .pth.",
        rich_help_panel=WHAT,
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help=(
            "Data sets, comma-separated: an id, a pairing a+b, a suite (all20), or a path to a YAML"
            " card or suite."
        ),
        rich_help_panel=WHAT,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="Sizes and training recipe: quick (laptop) or release (the authors').",
        rich_help_panel=WHAT,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(help="Pixels of an image's side, instead of the preset's.", rich_help_panel=WHAT),
]
Folds = Annotated[
    int | None,
    typer.Option(
        help=(
            "Grouped cross-validation: n folds over all samples, a victim each, instead of the"
            " usual split."
        ),
        rich_help_panel=WHAT,
    ),
]
Fold = Annotated[
    str | None,
    typer.Option(
        help="Which of the --folds, from 0, comma-separated (default: all).", rich_help_panel=WHAT
    ),
]
ModelParams = Annotated[
    list[str],
    typer.Option(
        "--model-param",
        metavar="NAME=VALUE",
        help=(
            "A constructor argument, e.g. width=32; of one model alone: late.width=32. Repeatable."
        ),
        rich_help_panel=WHAT,
    ),
]
RecipeParams = Annotated[
    list[str],
    typer.Option(
        "--recipe",
        metavar="NAME=VALUE",
        help="A training setting, e.g. epochs=30; of one model alone: late.epochs=30. Repeatable.",
        rich_help_panel=WHAT,
    ),
]
AttackParams = Annotated[
    list[str],
    typer.Option(
        "--attack-param",
        metavar="NAME=VALUE",
        help=(
            "A parameter of the attacks that have it, e.g. steps=50; of one alone: pgd.steps=50."
            " Repeatable."
        ),
        rich_help_panel=HOW,
    ),
]
WholeRange = Annotated[
    bool | None,
    typer.Option(
        "--whole-range",
        help="Take Linf radii above 1, more than the whole range of a pixel (8 is not 8/255).",
        rich_help_panel=HOW,
    ),
]
Preprocess = Annotated[
    list[str],
    typer.Option(
        "--preprocess",
        metavar="NAME=VALUE",
        help=(
            "From file to pixels: fit=stretch (default), pad or crop; scaling=fixed (default) or"
            " minmax. Repeatable."
        ),
        rich_help_panel=WHAT,
    ),
]
Defenses = Annotated[
    str | None,
    typer.Option(
        "--defense",
        help=(
            "Defences, comma-separated (default none), each one name or a chain such as"
            " pgd-at+jpeg; `medrobust defenses` lists them."
        ),
        rich_help_panel=WHAT,
    ),
]
TrainSeeds = Annotated[
    str | None,
    typer.Option(
        "--train-seed",
        help="Seeds of the training, comma-separated (default 0).",
        rich_help_panel=WHAT,
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        "--draws",
        help="Forward passes per prediction of a random model (default 16).",
        rich_help_panel=HOW,
    ),
]
Chunk = Annotated[
    int | None,
    typer.Option(
        "--chunk",
        help=(
            "Samples that stay together where predictions depend on the batch, as of random models"
            " that draw for it as a whole; part of a record's identity, which --batch-size is not"
            " (default 32)."
        ),
        rich_help_panel=HOW,
    ),
]
AllowBatchDependent = Annotated[
    bool,
    typer.Option(
        "--allow-batch-dependent",
        help=(
            "Evaluate a model whose prediction for an image depends on its neighbours in the batch;"
            " marked, its trust fails."
        ),
        rich_help_panel=HOW,
    ),
]
DefenseParams = Annotated[
    list[str],
    typer.Option(
        "--defense-param",
        metavar="NAME=VALUE",
        help="A parameter of the defences, e.g. steps=7; of one alone: pgd-at.steps=7. Repeatable.",
        rich_help_panel=WHAT,
    ),
]
Include = Annotated[
    list[Path],
    typer.Option(
        "--include",
        metavar="FILE",
        help=(
            "A Python file of yours that registers attacks, losses or defences; it is run."
            " Repeatable."
        ),
        rich_help_panel=WHERE,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", help="Folder for records, tables and figures.", rich_help_panel=WHERE
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=WHERE)]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data sets on disk.", rich_help_panel=WHERE),
]
Accept = Annotated[
    bool,
    typer.Option(
        "--accept-unverified",
        help="Use a file whose md5 is not the published one.",
        rich_help_panel=WHERE,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Stop at an unreadable image instead of counting it.",
        rich_help_panel=WHERE,
    ),
]
MLflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        help="Also log to this MLflow server or folder (extra mlflow).",
        rich_help_panel=WHERE,
    ),
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Also write TensorBoard events here (extra tensorboard).",
        rich_help_panel=WHERE,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Warnings and results only.", rich_help_panel=WHERE)
]


def listed(text: str | None) -> list[Any] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def make_display(quiet: bool) -> Any:
    from robustbench_med.progress import Display

    return Display(quiet=quiet)


def files(display: Any, data_root: Path | None = None, *, accept_unverified: bool = False) -> Any:
    from robustbench_med.data import Files

    return Files(data_root, accept_unverified, say=display.say, progress=display.lazy_bar)
