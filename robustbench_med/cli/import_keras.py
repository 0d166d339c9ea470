"""The command that brings weights from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import ModelParams, make_display
from robustbench_med.cli.values import assignments
from robustbench_med.runs.options import WHAT, WHERE

Weights = Annotated[
    Path,
    typer.Argument(help="model.keras, .weights.h5, legacy .h5, or the .npz of docs/keras.md."),
]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help="mail, robust-mail or drifa-net.", rich_help_panel=WHAT),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The safetensors file to write.", rich_help_panel=WHERE),
]
Mapping = Annotated[
    Path | None,
    typer.Option(
        help="YAML that says which array is which, for files with other names; see docs/keras.md.",
        rich_help_panel=WHAT,
    ),
]
Listed = Annotated[
    bool,
    typer.Option(
        "--list", help="Only list the file's arrays with their shapes.", rich_help_panel=WHAT
    ),
]


def import_keras(
    file: Weights,
    model: Model = "mail",
    out: Out = None,
    mapping: Mapping = None,
    model_param: ModelParams = [],
    show: Listed = False,
    as_json: AsJson = False,
) -> None:
    """Weights of the authors' Keras networks as a checkpoint for `run --checkpoint`. Needs no
    TensorFlow.

    Every parameter of the network is assigned and every array of the file accounted for, or nothing
    is written.

    [bold]Example[/]

      medrobust import-keras best1_model_cer_skin_lung.keras --model mail --out mail.safetensors
    """
    import shlex
    from dataclasses import asdict

    from robustbench_med import parameters
    from robustbench_med.errors import UserError
    from robustbench_med.naming import label
    from robustbench_med.training import keras

    display = make_display(False)
    if show:
        shapes = {name: array.shape for name, array in keras.read(file).arrays.items()}
        if as_json:
            show_json(shapes)
        else:
            for name, shape in shapes.items():
                print(name, *shape)
        return
    if out is None:
        raise UserError("name the file to write with --out weights.safetensors")
    params = assignments(model_param)
    parameters.check_owners(params, [label(model)], "model")
    done = keras.convert(
        file, model, out, mapping=mapping, params=parameters.of(params, label(model))
    )
    options = [
        part for name, value in done.params.items() for part in ("--model-param", f"{name}={value}")
    ]
    victim = ["--model", model, "--checkpoint", str(out), "--preset", "release", *options]
    command = shlex.join(["medrobust", "run", *victim])
    if as_json:
        show_json({"path": out, **asdict(done), "command": command})
        return
    for reason, n in done.left.items():
        display.say(f"not taken: {n} arrays {reason}")
    display.say(f"{out}: {model}, channels {done.channels}, classes {done.class_counts}")
    display.say(f"use: {command}")
