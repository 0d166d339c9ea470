"""`medrobust certify`: radii within which no attack, known or unknown, changes a smoothed
prediction.
"""

from __future__ import annotations

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
    Chunk,
    Data,
    DataRoot,
    DefenseParams,
    Device,
    Include,
    ModelParams,
    Models,
    Out,
    Preprocess,
    Preset,
    Quiet,
    RecipeParams,
    Size,
    Strict,
    WholeRange,
    listed,
    make_display,
)
from robustbench_med.runs import run


def certify(
    model: Models = "late",
    defense: Annotated[
        str,
        typer.Option(
            help=(
                "Smoothed defences, comma-separated: smoothing, input-noise, or chains that begin"
                " with them."
            ),
            rich_help_panel=WHAT,
        ),
    ] = "smoothing",
    data: Data = "phantoms",
    sigma: Annotated[
        str | None,
        typer.Option(
            help=(
                "Standard deviations of the noise, comma-separated, for pixels in 0..1 (default:"
                " the defence's)."
            ),
            rich_help_panel=HOW,
        ),
    ] = None,
    n0: Annotated[
        int, typer.Option(min=1, help="Draws that choose the class.", rich_help_panel=HOW)
    ] = 100,
    n: Annotated[
        int, typer.Option(min=1, help="Draws that bound its probability.", rich_help_panel=HOW)
    ] = 1000,
    alpha: Annotated[
        float,
        typer.Option(help="Chance that a certificate is wrong, in (0, 1).", rich_help_panel=HOW),
    ] = 0.001,
    per_modality: Annotated[
        bool,
        typer.Option(
            "--per-modality/--joint-only",
            help="Also certify each modality alone, the others trusted.",
            rich_help_panel=HOW,
        ),
    ] = True,
    seed: Annotated[
        str, typer.Option(help="Seeds of the draws, comma-separated.", rich_help_panel=HOW)
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
    preprocess: Preprocess = [],
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    whole_range: WholeRange = None,
    recipe: RecipeParams = [],
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
        bool, typer.Option("--force", help="Compute certificates again.", rich_help_panel=WHERE)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Certify smoothed victims (Cohen et al., arXiv 1902.02918): L2 radii no attack can beat,
    abstentions, certified accuracy curve.

    Noise on all modalities certifies their joint L2 size, and so any one of them; noise on one
    modality alone certifies that one while the others are trusted. Every --sigma trains a victim of
    its own (but --defense input-noise, which does not train with it). Writes certified.csv
    (curves), certified_tasks.csv, certified.png and certificates/, from which `medrobust report`
    makes all tables again.

    [bold]Example[/]

      medrobust certify --model late --defense smoothing --sigma 0.12,0.25,0.5 --data
      breastmnist+pneumoniamnist
    """
    from robustbench_med.cli import terminal
    from robustbench_med.errors import UserError
    from robustbench_med.parameters import split
    from robustbench_med.reports import certified
    from robustbench_med.runs import certify as certification
    from robustbench_med.runs import spec
    from robustbench_med.runs.session import Job

    if not 0 < alpha < 1:
        raise UserError(f"--alpha must lie in (0, 1), got {alpha:g}")
    defense_params = parsing.assignments(defense_param)
    if sigma is not None and any(split(key)[1] == "sigma" for key in defense_params):
        raise UserError("--sigma and --defense-param sigma=... say the same; give one of them")
    given = {
        "model": listed(model),
        "defense": listed(defense),
        "defense_params": defense_params,
        "whole_range": bool(whole_range),
        "data": listed(data),
        "seed": listed(seed),
        "train_seed": listed(train_seed),
        "limit": limit,
        "chunk": chunk,
        "allow_batch_dependent": allow_batch_dependent or None,
        "preset": preset,
        "size": size,
        "preprocessing": parsing.assignments(preprocess),
        "model_params": parsing.assignments(model_param),
        "recipe": parsing.assignments(recipe),
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
        spec.RunSpec, {key: value for key, value in given.items() if value is not None}, "certify"
    )
    sigmas = [] if sigma is None else parsing.positive_numbers(sigma, "--sigma")
    records = certification.certify(
        wanted, job, sigmas=sigmas, n0=n0, n=n, alpha=alpha, per_modality=per_modality
    )
    certified.write(out)
    display.show(terminal.certificates(certified.by_task(records)))
    if any(record.synthetic for record in records):
        display.say(run.SYNTHETIC)
    display.say(
        f"each certificate holds with probability {1 - alpha:g}; a radius is the L2 size of the"
        f" change of all noised modalities together.\ntables and figure: {out}/certified.csv,"
        " certified_tasks.csv, certified.png, certificates/"
    )
