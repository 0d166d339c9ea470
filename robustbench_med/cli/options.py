"""Commands whose options are the fields of a specification and of a job, and the options that other
commands share.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from robustbench_med.cli import run_files
from robustbench_med.cli.as_json import AsJson
from robustbench_med.cli.values import ASSIGNMENTS, LISTED, kind_of, value_of
from robustbench_med.errors import UserError
from robustbench_med.progress import Display
from robustbench_med.runs.job import Job
from robustbench_med.runs.options import (
    COMMANDS,
    WHAT,
    WHERE,
    Default,
    FieldOfCommand,
    fields_of,
    flags_of,
    option_of,
)

AGAIN = "again"
"""What the root of a command holds that medrobust gives itself: its own options stand behind those
of a record's command, and win.
"""
MOST_USED = "Most used"
"""The panel on top of a command's help."""


class Command(TyperCommand):
    """A command that shows --help among the options of how to run, and takes an option twice only
    where that means something.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's; a UserError names an option of one value that is given again."""
        if ctx.find_root().obj != AGAIN:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            for option in dict.fromkeys(each for each in order if not _repeats(each)):
                if len(values := _values(option, args)) > 1:
                    raise UserError(
                        f"{option.opts[0]} is given several times, as {' and as '.join(values)}; it"
                        " takes one value"
                    )
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, in its panel."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = WHERE
        return option


def _repeats(option: Any) -> bool:
    return option.param_type_name != "option" or option.multiple or option.count


def _values(option: Any, args: Sequence[str]) -> list[str]:
    """The different values that an option, or the names that a switch, was given."""
    names, found = {*option.opts, *option.secondary_opts}, dict[str, None]()
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names and option.is_flag:
            found[name] = None
        elif name in names:
            found[value if equals else "".join(args[i + 1 : i + 2])] = None
    return list(found)


def help_text(function: Callable[..., Any]) -> str:
    """A command's docstring with every paragraph on one line, for `--help` to break where the
    terminal ends.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(re.sub(r"\n\s*", " ", paragraph) for paragraph in paragraphs)


@dataclass(frozen=True)
class Typed:
    """What was typed, or stood in the run file: the values of the specification's fields that were
    given, the job, and whether results are to be shown as JSON.
    """

    values: dict[str, Any]
    job: Job
    as_json: bool = False


def on_benchmark(typed: Typed, name: str | None) -> Typed:
    """What was typed, with what a benchmark says."""
    from robustbench_med.runs.benchmarks import filled

    return typed if name is None else replace(typed, values=filled(name, typed.values))


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
        _, *own_parameters = inspect.signature(function, eval_str=True).parameters.values()
        own = {each.name: each for each in own_parameters}
        shared = {
            "config": _parameter("config", Config, None),
            "quiet": _parameter("quiet", Quiet, False),
            "as_json": _parameter("as_json", AsJson, False),
        }

        def run(context: typer.Context, config: Path | None, **options: Any) -> Any:
            given = run_files.read(config, command) if config else {}
            for name in (*own, *run_files.SHARED):
                if not _was_typed(context, name):
                    options[name] = given.get(name, options[name])
            typed = _typed(command, context, options, given)
            return function(typed, **{name: options[name] for name in own})

        parameters = [_parameter("context", typer.Context)]
        for name in names:
            panel = MOST_USED if name in most_used else option_of(command, name).panel
            parameters.append(_option_parameter(command, name, fields[name], panel))
        parameters += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.values()]
        parameters += shared.values()
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__module__ = function.__module__
        return run

    return decorated


def _typed(
    command: str, context: typer.Context, options: dict[str, Any], given: Mapping[str, Any]
) -> Typed:
    """The values of the fields: typed, else those of the run file, else the command's own."""
    values: dict[str, Any] = {}
    job: dict[str, Any] = {"display": make_display(options["quiet"])}
    for name, field in fields_of(command).items():
        option = option_of(command, name)
        of_job = name not in COMMANDS[command].model_fields
        if _was_typed(context, name):
            value = value_of(field.type, option, options[name])
        elif name in given:
            value = given[name]
        elif of_job and option.read is not None:
            value = option.read(options[name])
        elif of_job:
            value = options[name]
        elif option.default is not None and option.default is not Default.OF_THE_FIELD:
            value = option.default
        else:
            continue
        (job if of_job else values)[name] = value
    return Typed(values, Job(**job), options["as_json"])


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _option_parameter(
    command: str, name: str, field: FieldOfCommand, panel: str
) -> inspect.Parameter:
    """The parameter that typer makes an option of."""
    option, flags = option_of(command, name), flags_of(command, name)
    default = field.default if option.default is Default.OF_THE_FIELD else option.default
    kind = kind_of(field.type, option)
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
Named = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Victims, comma-separated, as the leaderboard names them (default all).",
    ),
]
Baseline = Annotated[str, _of_table("baseline")]
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
Benchmark = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        metavar="NAME",
        help="Do what a rank on this benchmark needs: its data, radii, attacks and seeds"
        " (`medrobust benchmark list`).",
        rich_help_panel=WHAT,
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
WandB = Annotated[
    str | None,
    typer.Option(
        "--wandb",
        metavar="PROJECT",
        help="Also log to this project of Weights & Biases (extra wandb; WANDB_MODE=offline works"
        " without a network).",
        rich_help_panel=WHERE,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.yaml",
        help="Run file: YAML whose keys are the names of these options; what is typed here wins.",
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
