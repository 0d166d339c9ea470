"""Commands whose options are the fields of a specification and of a job, and the options that other
commands share.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand

from robustbench_med.cli.values import assignments, listed
from robustbench_med.dataspec import Preprocessing
from robustbench_med.progress import Display
from robustbench_med.runs.job import Job
from robustbench_med.runs.options import (
    COMMANDS,
    WHERE,
    Default,
    FieldOfCommand,
    Option,
    fields_of,
    flags_of,
    option_of,
)

MOST_USED = "Most used"
"""The panel on top of a command's help."""


class Command(TyperCommand):
    """A command that shows --help among the options of how to run."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, in its panel."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = WHERE
        return option


def help_text(function: Callable[..., Any]) -> str:
    """A command's docstring with every paragraph on one line, for `--help` to break where the
    terminal ends.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(re.sub(r"\n\s*", " ", paragraph) for paragraph in paragraphs)


@dataclass(frozen=True)
class Typed:
    """What was typed: the values of the specification's fields that were given, and the job."""

    values: dict[str, Any]
    job: Job


def takes(
    command: str, *, most_used: Sequence[str]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command the options of its specification and of its job (`runs/options.py`).

    Args:
        command: its name.
        most_used: fields whose options `--help` shows first, in this order.

    Returns:
        A decorator of `function(typed: Typed, **options of its own)`.
    """
    fields = fields_of(command)
    first = [*most_used, *(name for name in COMMANDS[command].model_fields if name in fields)]
    names = list(dict.fromkeys([*first, *fields]))

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        def run(context: typer.Context, quiet: bool, **options: Any) -> Any:
            extras = {parameter.name: options.pop(parameter.name) for parameter in own}
            return function(_typed(command, context, options, quiet=quiet), **extras)

        parameters = [_parameter("context", typer.Context)]
        for name in names:
            panel = MOST_USED if name in most_used else option_of(command, name).panel
            parameters.append(_option_parameter(command, name, fields[name], panel))
        parameters += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parameters.append(_parameter("quiet", Quiet, False))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__module__ = function.__module__
        return run

    return decorated


def _typed(command: str, context: typer.Context, options: dict[str, Any], *, quiet: bool) -> Typed:
    """The values of the fields, read from what typer read."""
    values: dict[str, Any] = {}
    job: dict[str, Any] = {"display": make_display(quiet)}
    for name, field in fields_of(command).items():
        option = option_of(command, name)
        if name not in COMMANDS[command].model_fields:
            job[name] = options[name]
        elif _was_typed(context, name):
            values[name] = _read(field.type, option, options[name])
        elif option.default is not None and option.default is not Default.OF_THE_FIELD:
            values[name] = option.default
    return Typed(values, Job(**job))


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _option_parameter(
    command: str, name: str, field: FieldOfCommand, panel: str
) -> inspect.Parameter:
    """The parameter that typer makes an option of."""
    option, flags = option_of(command, name), flags_of(command, name)
    default = field.default if option.default is Default.OF_THE_FIELD else option.default
    kind = _kind(field.type, option)
    if kind is bool:
        flags = ("/".join(flags),)
    declared = typer.Option(
        *flags, help=option.help, metavar=option.metavar or _metavar(kind), rich_help_panel=panel
    )
    if field.required and option.default is Default.OF_THE_FIELD:
        return _parameter(name, Annotated[_type(kind), declared])
    shown = _shown(kind, default)
    kind = _type(kind) if shown is not None else _type(kind) | None
    return _parameter(name, Annotated[kind, declared], shown)


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


ASSIGNMENTS, LISTED = "assignments", "listed"
"""Kinds of options that are no types of Python's: NAME=VALUE, repeatable; parted at commas."""


def _kind(annotation: Any, option: Option) -> Any:
    """What an option reads: a type, a list of one (repeatable), `ASSIGNMENTS` or `LISTED`."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    kind = kinds[0] if type(None) in get_args(annotation) else annotation
    if get_origin(kind) is dict or kind is Preprocessing:
        return ASSIGNMENTS
    if get_origin(kind) is list:
        return kind if option.repeatable else LISTED
    return str if get_origin(kind) is Literal else kind


def _type(kind: Any) -> Any:
    return {ASSIGNMENTS: list[str], LISTED: str}.get(kind, kind)


def _metavar(kind: Any) -> str | None:
    return "NAME=VALUE" if kind == ASSIGNMENTS else None


def _shown(kind: Any, default: Any) -> Any:
    """A field's default as it would be typed; nothing of an empty list."""
    if kind == ASSIGNMENTS:
        return []
    if kind == LISTED:
        return ",".join(map(str, default or [])) or None
    return default


def _read(annotation: Any, option: Option, value: Any) -> Any:
    """The value of a field from what was typed."""
    kind = _kind(annotation, option)
    if option.read is not None:
        return option.read(value)
    if kind == ASSIGNMENTS:
        return assignments(value)
    return listed(value) if kind == LISTED else value


def _of_table(name: str) -> Any:
    """An option of the table for commands that have no specification."""
    option = option_of("", name)
    return typer.Option(
        *flags_of("", name), help=option.help, metavar=option.metavar, rich_help_panel=option.panel
    )


Models = Annotated[str, _of_table("model")]
Checkpoint = Annotated[Path | None, _of_table("checkpoint")]
Preset = Annotated[str, _of_table("preset")]
Size = Annotated[int | None, _of_table("size")]
Out = Annotated[Path, _of_table("out")]
Device = Annotated[str, _of_table("device")]
DataRoot = Annotated[Path | None, _of_table("data_root")]
ModelParams = Annotated[
    list[str],
    typer.Option(
        *flags_of("", "model_params"),
        metavar="NAME=VALUE",
        help=option_of("", "model_params").help,
        rich_help_panel=option_of("", "model_params").panel,
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


def make_display(quiet: bool) -> Display:
    """What a command shows."""
    return Display(quiet=quiet)


def files(
    display: Display, data_root: Path | None = None, *, accept_unverified: bool = False
) -> Any:
    """Access to the files of data sets."""
    from robustbench_med.data import Files

    return Files(data_root, accept_unverified, say=display.say, progress=display.lazy_bar)
