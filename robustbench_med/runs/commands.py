"""What the commands of records and sidecars share: they run again as they stand, from any
folder.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

from robustbench_med.data import Dataset
from robustbench_med.naming import is_own, label
from robustbench_med.parameters import only, split
from robustbench_med.runs.registration import included
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.threats import parameters_of
from robustbench_med.training import defenses as defense
from robustbench_med.training.presets import preset, preset_parameters, usual_recipe
from robustbench_med.training.spec import Recipe, TrainSpec


def model_option(model: str) -> str:
    """What `--model` or `--source` takes, a file of the user's by its whole path."""
    if not is_own(model):
        return model
    file, _, function = model.rpartition(":")
    return f"{Path(file).resolve()}:{function}"


def data_option(given: str) -> str:
    """What `--data` takes, cards by their whole path."""
    return "+".join(
        str(Path(part).resolve()) if part.endswith((".yaml", ".yml")) else part
        for part in given.split("+")
    )


def where(dataset: Dataset) -> list[str]:
    """Options that find a data set's files again."""
    root = [] if dataset.data_root is None else ["--data-root", str(dataset.data_root.resolve())]
    return [*root, *(["--accept-unverified"] if dataset.unverified else [])]


def includes(names: Collection[str]) -> list[str]:
    """Options that register attacks, losses, defences and models of the user's again."""
    return [part for path in included(names) for part in ("--include", str(path))]


def training_command(spec: TrainSpec, dataset: Dataset) -> str:
    """The command line that trains this spec, from any folder: the preset, and what differs from
    it.
    """
    data = data_option(dataset.given or spec.data)
    parts = [
        "medrobust",
        "train",
        "--model",
        model_option(spec.model),
        "--data",
        data,
        "--preset",
        spec.preset,
        "--seed",
        str(spec.seed),
    ]
    chosen = preset(spec.preset)
    usual = Recipe.model_validate(usual_recipe(spec.model, spec.preset, spec.defense))
    if spec.start is not None:
        parts += ["--checkpoint", str(spec.start.resolve())]
    if spec.defense:
        parts += ["--defense", "+".join(layer.name for layer in spec.defense)]
    for layer in spec.defense:
        own = defense.parameters(layer.name) | chosen.get("defenses", {}).get(layer.name, {}).get(
            "params", {}
        )
        parts += [
            part
            for k, v in layer.params.items()
            if v != own[k]
            for part in ("--defense-param", f"{k}={v}")
        ]
    if spec.fold is not None:
        parts += ["--folds", str(spec.fold[1]), "--fold", str(spec.fold[0])]
    if spec.size != chosen["size"]:
        parts += ["--size", str(spec.size)]
    defaults = preset_parameters(spec.model, spec.preset)
    for name, value in spec.params.items():
        if value != defaults.get(name):
            parts += ["--model-param", f"{name}={json.dumps(value)}"]
    for name, value in spec.preprocessing.model_dump(exclude_defaults=True).items():
        parts += ["--preprocess", f"{name}={value}"]
    for name, value in spec.recipe:
        if value != getattr(usual, name) and not (value is None and name in ("steps", "epochs")):
            parts += [
                "--recipe",
                f"{name}={value if isinstance(value, str) else json.dumps(value)}",
            ]
    own = includes({spec.model, *(layer.name for layer in spec.defense)})
    return shlex.join(
        [*parts, *own, *where(dataset), *(["--half"] if spec.half else []), "--force"]
    )


def command_of(cell: Cell, spec: RunSpec, n: int, dataset: Dataset) -> str:
    """The command line that makes one cell's record again, from any folder."""
    parts = ["medrobust", "run"]
    options: dict[str, Any] = {
        "model": model_option(cell.model),
        "defense": None if cell.defense == "none" else cell.defense,
        "data": data_option(cell.data),
        "attack": cell.attack,
        "eps": cell.eps,
        "norm": cell.norm,
        "target-task": cell.target_task,
        "target": spec.target,
        "engine": spec.engine if spec.engine != "native" else None,
        "source": ",".join(map(model_option, spec.source)) if cell.attack == "transfer" else None,
        "protocol": spec.protocol,
        "draws": spec.draws,
        "seed": cell.seed,
        "train-seed": cell.train_seed,
        "folds": cell.fold[1] if cell.fold else None,
        "fold": cell.fold[0] if cell.fold else None,
        "preset": spec.preset,
        "size": spec.size,
        "limit": n,
        "chunk": spec.chunk if spec.chunk != RunSpec.model_fields["chunk"].default else None,
        "batch-draws": spec.batch_draws if spec.batch_draws > 1 else None,
        "checkpoint": spec.checkpoint.resolve() if spec.checkpoint is not None else None,
    }
    for name, value in options.items():
        if value is not None:
            parts += [f"--{name}", str(value)]
    victims = [
        label(model) for model in (cell.model, *(spec.source if cell.attack == "transfer" else ()))
    ]
    known = parameters_of(cell.attack, spec, stochastic=False)
    for option, given in (
        ("preprocess", spec.preprocessing.model_dump(exclude_defaults=True)),
        (
            "attack-param",
            {
                key: value
                for key, value in only(spec.attack_params, [cell.attack]).items()
                if split(key)[1] in known
            },
        ),
        ("model-param", only(spec.model_params, victims)),
        ("recipe", only(spec.recipe, victims)),
        (
            "defense-param",
            only(spec.defense_params, [part.strip() for part in cell.defense.split("+")]),
        ),
    ):
        for name, value in given.items():
            parts += [
                f"--{option}",
                f"{name}={value if isinstance(value, str) else json.dumps(value)}",
            ]
    loss = str(known.get("loss"))
    own = {
        cell.model,
        *spec.source,
        cell.attack,
        loss,
        *(name.strip() for name in cell.defense.split("+")),
    }
    flags = {
        "whole-range": spec.whole_range,
        "allow-batch-dependent": spec.allow_batch_dependent,
        "no-control": True,
    }
    wanted = [f"--{name}" for name, given in flags.items() if given]
    return shlex.join([*parts, *includes(own), *where(dataset), *wanted])
