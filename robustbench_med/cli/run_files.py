"""Run files: YAML whose keys are the options of a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robustbench_med.cli.values import ASSIGNMENTS, LISTED, finite, kind_of, value_of
from robustbench_med.errors import UserError, nearest
from robustbench_med.parsing import DECIMAL
from robustbench_med.runs.options import COMMANDS, fields_of, flags_of, option_of

LOGGERS = {"mlflow": str | None, "tensorboard": Path | None, "wandb": str | None}
BESIDE: dict[str, dict[str, Any]] = {
    "run": {"benchmark": str | None, **LOGGERS, "dry_run": bool},
    "plan": {"benchmark": str | None},
    "gate": {
        **dict.fromkeys(("min_", "max_"), dict[str, float] | list[str]),
        "on": str,
        "trust": str,
        "min_samples": int,
        **dict.fromkeys(("junit", "sarif"), Path | None),
    },
    **dict.fromkeys(("train", "compare", "certify"), LOGGERS),
}
"""Options of a command that are no field of its specification, and their types."""
SHARED: dict[str, Any] = {"quiet": bool, "as_json": bool}
"""Those that every command has besides."""


def read(path: Path, command: str) -> dict[str, Any]:
    """What a run file gives, by the name of the field or option.

    Args:
        path: a YAML mapping.
        command: whose options its keys are: `--data-root` is `data_root` or `data-root`.

    Raises:
        UserError: it cannot be read, has a key that the command does not take, or one twice.
    """
    known = keys(command)
    values: dict[str, Any] = {}
    for key, value in _loaded(path).items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UserError(f"{path}: {_unknown(str(key), command)}")
        field, turned_off = known[name]
        if field in values:
            raise UserError(f"{path}: {key!r} says again what another key says; give one of them")
        try:
            values[field] = _read(command, field, value, turned_off)
        except (UserError, ValueError) as error:
            raise UserError(f"{path}: {key}: {_reason(error)}") from error
    return values


def keys(command: str) -> dict[str, tuple[str, bool]]:
    """Every key of a command's run file, with _ for -: what it fills, and whether it turns a switch
    off. The names of fields that the options of parameters fill (`model_params`) are keys too.
    """
    found: dict[str, tuple[str, bool]] = {}
    for field, of_command in fields_of(command).items():
        flags = [flag for flag in flags_of(command, field) if flag.startswith("--")]
        off = flags[1:] if kind_of(of_command.type, option_of(command, field)) is bool else []
        for flag in flags:
            found[flag.removeprefix("--").replace("-", "_")] = field, flag in off
        found.setdefault(field, (field, False))
    for name in (*BESIDE.get(command, {}), *SHARED):
        found[name.removeprefix("as_").removesuffix("_")] = name, False
    return found


def _loaded(path: Path) -> Mapping[Any, Any]:
    """The mapping of a YAML file, each key in it once."""
    from robustbench_med.formats import yaml_file

    loaded, written = yaml_file.load_mapping(path, "the run file")
    for key, times in Counter(written).items():
        if times > 1:
            raise UserError(f"{path} has the key {key!r} {times} times; give it once")
    return loaded


def _unknown(key: str, command: str) -> str:
    """What is wrong with a key that a command does not take."""
    name = key.replace("-", "_")
    others = [other for other in COMMANDS if name in keys(other)]
    if others:
        return f"`{key}` is no option of {command}, only of {', '.join(others)}"
    return f"unknown key {key!r}; {nearest(name, keys(command))}"


def _read(command: str, field: str, value: Any, turned_off: bool) -> Any:
    """The value of a field or of an option besides: text is read as it would be typed."""
    known = fields_of(command)
    if field not in known:
        return TypeAdapter(type_beside(command, field)).validate_python(value)
    annotation, option = known[field].type, option_of(command, field)
    kind = kind_of(annotation, option)
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"it is a switch: true or false, got {value!r}")
        return value != turned_off
    if kind == ASSIGNMENTS:
        if isinstance(value, Mapping):
            return _numbers(value)
        lines = [value] if isinstance(value, str) else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise UserError(f"expected a mapping such as {{steps: 50}}, got {value!r}")
        return value_of(annotation, option, lines)
    if isinstance(value, str) and (kind == LISTED or option.read is not None):
        return value_of(annotation, option, value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if field in COMMANDS[command].model_fields:
        return value  # the specification checks it
    return TypeAdapter(annotation).validate_python(value)


def type_beside(command: str, name: str) -> Any:
    """The type of an option that is no field."""
    return {**BESIDE.get(command, {}), **SHARED}[name]


def _numbers(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Parameters, in which 1e-3 is a number, as it is where it is typed; YAML takes it for text."""
    read: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            read[str(key)] = _numbers(value)
        elif isinstance(value, str) and "e" in value.lower() and DECIMAL.fullmatch(value):
            read[str(key)] = finite(value, str(key))
        else:
            read[str(key)] = value
    return read


def _reason(error: Exception) -> str:
    """What is wrong with a value, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{first['msg']} (got {first['input']!r})"
    return str(error)
