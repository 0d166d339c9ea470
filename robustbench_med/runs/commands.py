"""What the commands of records and sidecars share: they run again as they stand, from any
folder.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from robustbench_med.data import Dataset
from robustbench_med.naming import MODULE, NO_BASELINE, is_address, is_box, is_own, label
from robustbench_med.parameters import only, split
from robustbench_med.runs.job import Job
from robustbench_med.runs.options import OPTIONS, fields_of, flags_of, option_of
from robustbench_med.runs.registration import included, only_here
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.threats import parameters_of
from robustbench_med.training import defenses
from robustbench_med.training.presets import preset, preset_parameters, usual_recipe
from robustbench_med.training.spec import Recipe, TrainSpec


def written(command: str, values: Mapping[str, Any]) -> list[str]:
    """The options of a command for these values of its fields, in the order of the table; what has
    its default is left out, unless it is to be explicit.
    """
    known = fields_of(command)
    words = []
    for name in (name for name in OPTIONS if name in values and name in known):
        value, option = values[name], option_of(command, name)
        if option.explicit or value != known[name].default:
            words += _words(flags_of(command, name), value, repeatable=option.repeatable)
    return words


def _words(flags: tuple[str, ...], value: object, *, repeatable: bool) -> list[str]:
    if isinstance(value, bool):
        return [flags[0] if value else flags[1]]
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, Mapping):
        values = [f"{name}={_as_yaml(each)}" for name, each in value.items()]
    elif isinstance(value, list):
        texts = [str(each) for each in value]
        values = texts if repeatable or not texts else [",".join(texts)]
    else:
        values = [str(value)]
    return [word for text in values for word in (flags[0], text)]


def _as_yaml(value: object) -> str:
    """A parameter's value, as an assignment is read."""
    return value if isinstance(value, str) else json.dumps(value)


def model_option(model: str) -> str:
    """What `--model` or `--source` takes, a file of the user's by its whole path."""
    if is_box(model):
        return model if is_address(model) else str(Path(model).resolve())
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


def where(dataset: Dataset) -> dict[str, Any]:
    """Fields of a job that find a data set's files again."""
    root = None if dataset.data_root is None else dataset.data_root.resolve()
    return {"data_root": root, "accept_unverified": dataset.unverified}


def command_line(command: str, fields: Mapping[str, Any], names: Collection[str]) -> str:
    """A command with these values of its fields; the call where it holds objects that no file
    makes.

    Args:
        names: attacks, losses, defences and models in it; the files that register those of the
            user's are included.
    """
    objects = only_here({*names, *fields.get("data", ())})
    if objects:
        return _call(command, fields, objects)
    return shlex.join(
        ["medrobust", command, *written(command, {**fields, "include": included(names)})]
    )


def training_command(spec: TrainSpec, dataset: Dataset) -> str:
    """The command line that trains this spec, from any folder: the preset, and what differs from
    it.
    """
    parts = [layer.name for layer in spec.defense]
    fields: dict[str, Any] = {
        "model": [model_option(spec.model)],
        "defense": ["+".join(parts) or "none"],
        "data": [data_option(dataset.given or spec.data)],
        "preset": spec.preset,
        "train_seed": [spec.seed],
        **_fold_fields(spec.fold),
        "size": None if spec.size == preset(spec.preset)["size"] else spec.size,
        "preprocessing": spec.preprocessing,
        "model_params": _differing(spec.params, preset_parameters(spec.model, spec.preset)),
        "recipe": _differing_recipe(spec),
        "defense_params": _differing_defenses(spec),
        "checkpoint": None if spec.start is None else spec.start.resolve(),
        "checkpoint_part": spec.start_reading.part,
        "checkpoint_map": list(spec.start_reading.map),
        "half": spec.half,
        "force": True,
        **where(dataset),
    }
    return command_line("train", fields, {spec.model, *parts})


def command_of(chain: Sequence[Cell], spec: RunSpec, n: int, dataset: Dataset) -> str:
    """The command line that makes a cell's record again, from any folder.

    Args:
        chain: the cell, behind those of its chain that come before it, whose records are made too.
    """
    cell, attacks = chain[-1], list(dict.fromkeys(each.attack for each in chain))
    source = spec.source if "transfer" in attacks else []
    victims = [label(model) for model in (cell.model, *source)]
    defense = [part.strip() for part in cell.defense.split("+")]
    attack_params = [parameters_of(attack, spec, stochastic=False) for attack in attacks]
    losses = [str(params.get("loss")) for params in attack_params]
    fields = {
        **dict(spec),
        "model": [model_option(cell.model)],
        "defense": [cell.defense],
        "data": [data_option(cell.data)],
        "attack": attacks,
        "eps": list(dict.fromkeys(each.eps for each in chain)),
        "norm": [cell.norm],
        "l0_counts": spec.l0_counts if cell.norm == "L0" else "pixels",
        "target_task": cell.target_task,
        "cross_modal": False,
        "control": False,
        "carry": spec.carry and len(chain) > 1,
        "cascade": spec.cascade and len(chain) > 1,
        "source": [model_option(model) for model in source],
        "seed": [cell.seed],
        "train_seed": [cell.train_seed],
        **_fold_fields(cell.fold),
        "limit": n,
        "checkpoint": None if spec.checkpoint is None else spec.checkpoint.resolve(),
        "contract": None if spec.contract is None else spec.contract.resolve(),
        "attack_params": {
            key: value
            for key, value in only(spec.attack_params, attacks).items()
            if any(split(key)[1] in params for params in attack_params)
        }
        if cell.severity is None
        else {"severity": cell.severity},
        "baseline": spec.baseline if cell.severity is None else NO_BASELINE,
        "model_params": only(spec.model_params, victims),
        "recipe": only(spec.recipe, victims),
        "defense_params": only(spec.defense_params, defense),
        **where(dataset),
    }
    names = {cell.model, *spec.source, *attacks, *losses, *defense}
    return command_line("run", fields, names)


def comparison_command(spec: RunSpec, job: Job) -> str:
    """The command line of a comparison, from any folder; what a run file said is spelled out."""
    fields = {
        **dict(spec),
        "model": [model_option(model) for model in spec.model],
        "source": [model_option(model) for model in spec.source],
        "data": [data_option(data) for data in spec.data],
        "checkpoint": None if spec.checkpoint is None else spec.checkpoint.resolve(),
        "contract": None if spec.contract is None else spec.contract.resolve(),
        "data_root": None if job.data_root is None else job.data_root.resolve(),
        "accept_unverified": job.accept_unverified,
    }
    if "defense" not in spec.model_fields_set:
        del fields["defense"]  # those that suit the models
    losses = [str(value) for key, value in spec.attack_params.items() if split(key)[1] == "loss"]
    parts = [part.strip() for defense in spec.defense for part in defense.split("+")]
    names = {*spec.model, *spec.source, *spec.attack, *losses, *parts}
    return command_line("compare", fields, names)


CALLS = {"run": "evaluate"}
"""What a command is called in Python, where that is another name."""


def _call(command: str, fields: Mapping[str, Any], objects: Collection[str]) -> str:
    """The call that makes the same with the same objects; <name> stands for each of them."""
    known, words = fields_of(command), []
    for name in (name for name in OPTIONS if name in fields and name in known):
        value, option = fields[name], option_of(command, name)
        if name in ("include", "data_root") or not (
            option.explicit or option.default is None or value != known[name].default
        ):
            continue
        words.append(f"{name}={_shown(value, objects)}")
    return f"{MODULE}{CALLS.get(command, command)}({', '.join(words)})"


def _shown(value: Any, objects: Collection[str]) -> str:
    if isinstance(value, list):
        shown = [_shown(each, objects) for each in value]
        return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    if isinstance(value, Mapping):
        pairs = [f"{key!r}: {_shown(each, objects)}" for key, each in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, BaseModel):
        return repr(value.model_dump(exclude_defaults=True))
    if isinstance(value, Path):
        return repr(str(value))
    return f"<{value}>" if isinstance(value, str) and value in objects else repr(value)


def _fold_fields(fold: tuple[int, int] | None) -> dict[str, Any]:
    return {} if fold is None else {"folds": fold[1], "fold": [fold[0]]}


def _differing(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != usual.get(name)}


def _differing_recipe(spec: TrainSpec) -> dict[str, Any]:
    """Settings that are not the preset's; the length that is not set needs no saying."""
    usual = Recipe.model_validate(usual_recipe(spec.model, spec.preset, spec.defense))
    return {
        name: value
        for name, value in _differing(dict(spec.recipe), dict(usual)).items()
        if value is not None or name not in ("steps", "epochs")
    }


def _differing_defenses(spec: TrainSpec) -> dict[str, Any]:
    """Parameters that are neither the defence's nor the preset's."""
    presets = preset(spec.preset).get("defenses", {})
    differing: dict[str, Any] = {}
    for layer in spec.defense:
        usual = defenses.parameters(layer.name) | presets.get(layer.name, {}).get("params", {})
        differing |= _differing(layer.params, usual)
    return differing
