"""`medrobust cost`: what models cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import (
    Checkpoint,
    Device,
    ModelParams,
    Models,
    Preset,
    Size,
    make_display,
)
from robustbench_med.cli.values import assignments, listed
from robustbench_med.parsing import whole_numbers
from robustbench_med.runs.options import WHAT, WHERE


def cost(
    model: Models = "mail,robust-mail,late,unimodal",
    preset: Preset = "quick",
    size: Size = None,
    modalities: Annotated[
        int, typer.Option(min=1, max=16, help="Number of modalities.", rich_help_panel=WHAT)
    ] = 2,
    classes: Annotated[
        str, typer.Option(help="Classes of each task, comma-separated.", rich_help_panel=WHAT)
    ] = "4,3",
    model_param: ModelParams = [],
    checkpoint: Checkpoint = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Also write model_cost.csv into this folder.", rich_help_panel=WHERE
        ),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Parameters, FLOPs (2 per multiply-accumulate, PyTorch's counter), MACs, latency and peak
    memory, side by side.
    """
    from robustbench_med.cli import listings
    from robustbench_med.reports import write
    from robustbench_med.runs.costs import CostsSpec, costs

    spec = CostsSpec(
        listed(model),
        preset,
        size,
        modalities,
        tuple(whole_numbers(classes, "--classes")),
        assignments(model_param),
        checkpoint,
    )
    rows = [vars(row) for row in costs(spec, device)]
    if as_json:
        show_json(rows)
    else:
        make_display(False).show(listings.costs(rows))
    if out is not None:
        write.costs(rows, out)
