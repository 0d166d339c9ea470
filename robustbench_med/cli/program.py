"""The command line: its commands put together, and how it ends. Everything heavy is imported inside
the commands, so that --help answers at once.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from robustbench_med.cli.certify import certify
from robustbench_med.cli.compare import compare
from robustbench_med.cli.cost import cost
from robustbench_med.cli.data import data_app
from robustbench_med.cli.diagnose import diagnose
from robustbench_med.cli.import_keras import import_keras
from robustbench_med.cli.lists import attacks, defenses, models
from robustbench_med.cli.options import Command, help_text
from robustbench_med.cli.report import card, claims, leaderboard, merge, report, show
from robustbench_med.cli.run import run
from robustbench_med.cli.store import INTERRUPTED, rerun, verify
from robustbench_med.cli.train import train
from robustbench_med.errors import Notice, UserError, gathered

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Adversarial robustness of multimodal medical classifiers: attack them, and know whether to"
        " trust the number.\n\nFirst steps: [bold]medrobust run --model robust-mail --attack pgd[/]"
        " (built-in phantoms, no network), then [bold]medrobust run --help[/]."
    ),
)
app.add_typer(data_app, name="data")


<<<<<<< HEAD
for command in (
    run,
    train,
    diagnose,
    compare,
    certify,
    cost,
    leaderboard,
    report,
    card,
    claims,
    merge,
    show,
    models,
    attacks,
    defenses,
    verify,
    rerun,
    import_keras,
):
    app.command(cls=Command, help=help_text(command))(command)
=======
@app.command()
def run(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help=MODELS, rich_help_panel=WHAT)
    ] = None,
    defense: Defenses = None,
    attack: Annotated[
        str | None,
        typer.Option(
            "--attack", "-a", help="Attacks, comma-separated (default pgd).", rich_help_panel=HOW
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=(
                "Data sets, comma-separated: id, pairing a+b, suite (all20), or path to a card or"
                " suite (default phantoms)."
            ),
            rich_help_panel=WHAT,
        ),
    ] = None,
    eps: Annotated[
        list[str],
        typer.Option(
            help=(
                "Radii for pixels in 0..1, comma-separated: 1/255,4/255 (default 4/255); or one a"
                " modality: "
                "mri=4/255,xray=0 (0 = trusted). Repeatable."
            ),
            rich_help_panel=HOW,
        ),
    ] = [],
    whole_range: WholeRange = None,
    norm: Annotated[
        str | None,
        typer.Option(help="Linf, L2 or both, comma-separated (default Linf).", rich_help_panel=HOW),
    ] = None,
    target_task: Annotated[
        str | None,
        typer.Option(
            help="Task to make wrong: joint (default), a task's name or number.",
            rich_help_panel=HOW,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Aim at a class: random, least-likely, or its number (default: any wrong class).",
            rich_help_panel=HOW,
        ),
    ] = None,
    cross_modal: Annotated[
        bool | None,
        typer.Option(
            "--cross-modal",
            help="Attack every modality alone, aimed at every task alone: who depends on whom?",
            rich_help_panel=HOW,
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help=(
                "Who computes the attacks: native (default), torchattacks or art; an engine refuses"
                " what it cannot do."
            ),
            rich_help_panel=HOW,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="For --attack transfer: models that adversarials are made on, comma-separated.",
            rich_help_panel=HOW,
        ),
    ] = None,
    batch_draws: Annotated[
        int | None,
        typer.Option(
            help=(
                "Draws of one EOT gradient that share a batch: faster on a GPU, more memory"
                " (default 1)."
            ),
            rich_help_panel=HOW,
        ),
    ] = None,
    attack_param: AttackParams = [],
    protocol: Annotated[
        str | None,
        typer.Option(
            help=(
                "sound (default: fresh draws, EOT against random models) or release (the authors'"
                " notebook)."
            ),
            rich_help_panel=HOW,
        ),
    ] = None,
    draws: Draws = None,
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Add uniform noise of each radius (default on).",
            rich_help_panel=HOW,
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="Seeds of the evaluation, comma-separated (default 0).", rich_help_panel=HOW
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help=(
                "Evaluate the first n test samples only (default: the preset's, see `medrobust"
                " models`)."
            ),
            rich_help_panel=WHAT,
        ),
    ] = None,
    chunk: Chunk = None,
    allow_batch_dependent: AllowBatchDependent = False,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Sizes and training recipe: quick (default) or release.", rich_help_panel=WHAT
        ),
    ] = None,
    size: Size = None,
    preprocess: Preprocess = [],
    folds: Folds = None,
    fold: Fold = None,
    train_seed: TrainSeeds = None,
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    recipe: RecipeParams = [],
    checkpoint: Checkpoint = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML run file with these options as keys; options given here win.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    include: Include = [],
    out: Out = Path("reports"),
    device: Device = "auto",
    batch_size: Annotated[
        str,
        typer.Option(
            help="Samples a batch, or auto: halves when memory runs out.", rich_help_panel=WHERE
        ),
    ] = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    strict: Strict = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Compute cells again that are already in the store.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    mlflow: MLflow = None,
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
) -> list[Any]:
    """Attack models and write the leaderboard: clean and robust accuracy with intervals, cost, and
    one figure.

    Every combination of the lists is one cell. Finished cells are kept, so a run that was
    interrupted goes on where it stopped.

    [bold]Examples[/]

      medrobust run --model robust-mail --attack pgd

      medrobust run --model mail,robust-mail,late --attack fgsm,pgd --eps 1/255,2/255,4/255 --data
      breastmnist+pneumoniamnist

      medrobust run --model late --eps mri=4/255,xray=0 --target-task lung     # does the MRI change
      the X-ray's diagnosis?
    """
    from robustbench_med.cli import terminal
    from robustbench_med.parsing import split_radii
    from robustbench_med.reports import write
    from robustbench_med.runs import run as runner
    from robustbench_med.runs import spec
    from robustbench_med.runs.session import Job
    from robustbench_med.store import tracking as export

    export.check(mlflow, tensorboard)
    given = {
        "model": listed(model),
        "defense": listed(defense),
        "defense_params": parsing.assignments(defense_param) or None,
        "attack": listed(attack),
        "data": listed(data),
        "eps": split_radii(eps) or None,
        "whole_range": whole_range,
        "norm": listed(norm),
        "target_task": target_task,
        "seed": listed(seed),
        "train_seed": listed(train_seed),
        "chunk": chunk,
        "allow_batch_dependent": allow_batch_dependent or None,
        "preset": preset,
        "protocol": protocol,
        "draws": draws,
        "limit": limit,
        "size": size,
        "preprocessing": parsing.assignments(preprocess) or None,
        "folds": folds,
        "fold": listed(fold),
        "attack_params": parsing.assignments(attack_param) or None,
        "model_params": parsing.assignments(model_param) or None,
        "recipe": parsing.assignments(recipe) or None,
        "checkpoint": checkpoint,
        "control": control,
        "engine": engine,
        "source": listed(source),
        "target": target,
        "cross_modal": cross_modal,
        "batch_draws": batch_draws,
        "include": include or None,
    }
    chosen = spec.load_config(config) if config else {}
    chosen |= {key: value for key, value in given.items() if value is not None}
    display = make_display(quiet)
    records = runner.run(
        parsing.validate(spec.RunSpec, chosen, "run"),
        Job(
            out=out,
            device=device,
            batch_size=batch_size,
            data_root=data_root,
            accept_unverified=accept_unverified,
            strict=strict,
            force=force,
            display=display,
        ),
    )
    display.show(terminal.board(*write.leaderboard(out, only=records)))
    export.write(export.of_run(records, out), mlflow=mlflow, tensorboard=tensorboard)
    for line in runner.finished(records, out):
        display.say(line)
    return records


@app.command()
def train(
    model: Models,
    defense: Annotated[
        str,
        typer.Option(
            help="One defence or a chain, e.g. trades+awp; `medrobust defenses` lists them.",
            rich_help_panel=WHAT,
        ),
    ] = "none",
    data: Data = "phantoms",
    preset: Preset = "quick",
    seed: Annotated[
        int, typer.Option(help="Seed of initialisation, batches and noise.", rich_help_panel=WHAT)
    ] = 0,
    size: Size = None,
    preprocess: Preprocess = [],
    folds: Folds = None,
    fold: Fold = None,
    model_param: ModelParams = [],
    defense_param: DefenseParams = [],
    whole_range: WholeRange = None,
    recipe: RecipeParams = [],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Start from these weights of the one model named: safetensors, or a state_dict as"
                " .pt or .pth."
            ),
            rich_help_panel=WHAT,
        ),
    ] = None,
    half: Annotated[
        bool,
        typer.Option("--half", help="Store the weights in half precision.", rich_help_panel=WHAT),
    ] = False,
    include: Include = [],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Also copy weights and sidecar into this folder.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    accept_unverified: Accept = False,
    strict: Strict = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Train although there is a checkpoint, in the cache or the zoo.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    mlflow: MLflow = None,
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
) -> None:
    """Train victims and keep their checkpoints; an interrupted training goes on where it stopped.

    `run` does the same on first use. Weights are safetensors; a JSON sidecar tells how they came
    about.
    """
    from robustbench_med.runs import spec
    from robustbench_med.runs import train as trainer
    from robustbench_med.runs.session import Job
    from robustbench_med.store import tracking as export

    export.check(mlflow, tensorboard)
    done = trainer.train(
        listed(model) or [],
        listed(data) or [],
        parsing.validate(
            spec.TrainOptions,
            {
                "preset": preset,
                "defense": defense,
                "defense_params": parsing.assignments(defense_param),
                "whole_range": bool(whole_range),
                "seed": seed,
                "size": size,
                "preprocessing": parsing.assignments(preprocess),
                "folds": folds,
                "fold": listed(fold) or [],
                "params": parsing.assignments(model_param),
                "recipe": parsing.assignments(recipe),
                "half": half,
                "checkpoint": checkpoint,
                "include": include,
            },
            "train",
        ),
        Job(
            out=out,
            device=device,
            data_root=data_root,
            accept_unverified=accept_unverified,
            strict=strict,
            force=force,
            display=make_display(quiet),
        ),
    )
    runs = [export.of_training(checkpoint.sidecar, checkpoint.path) for checkpoint in done]
    export.write(runs, mlflow=mlflow, tensorboard=tensorboard)


for command in (diagnose, compare, certify, *COMMANDS, verify, rerun, import_keras):
    app.command()(command)
>>>>>>> w-runs


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from robustbench_med import __version__

        print(f"medrobust {__version__}")
        raise typer.Exit


def main() -> None:
    """The console script: exit codes as docs/exit-codes.md lists them; errors of ours keep their
    traceback, a user's own file's do not.
    """
    with gathered() as left_out:
        code, last = _ended()
    for line in (*(f"warning: {text}" for text in left_out), *last):
        print(f"medrobust: {line}", file=sys.stderr)
    sys.exit(code or int(bool(left_out)))


def _ended() -> tuple[int, list[str]]:
    """Runs the command; its exit code, and the line to end with."""
    try:
        with notices():
            app()
    except UserError as error:
        return error.exit_code, [f"error: {error}"]
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:  # `sys.exit` too, in code of the user's
        own = sys.modules.get("robustbench_med.models.user_file")
        line = own.mishap(error) if own else None
        if line is not None:
            return 2, [f"error: {line}"]
        if not isinstance(error, SystemExit):
            raise
        code = int(error.code or 0)
    else:
        code = 0
    kept = (
        "interrupted; finished cells and training steps are kept, the same command goes on from"
        " there"
    )
    return code, [kept] if code == INTERRUPTED else []


@contextlib.contextmanager
def notices() -> Iterator[None]:
    """Shows a `Notice` as one line, without the place in the code that Python names beside it."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, Notice):
                print(f"warning: {message}", file=sys.stderr)
            else:
                usual(message, category, *place)

        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("always", Notice)
        yield
