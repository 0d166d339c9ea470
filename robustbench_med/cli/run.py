"""`medrobust run`: attack models."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_med.cli.as_json import show_json
from robustbench_med.cli.options import (
    Benchmark,
    MLflow,
    TensorBoard,
    Typed,
    WandB,
    on_benchmark,
    takes,
)
from robustbench_med.cli.plan import show_plan
from robustbench_med.parsing import validate
from robustbench_med.runs.options import WHERE
from robustbench_med.runs.spec import RunSpec

if TYPE_CHECKING:
    from robustbench_med.reports.write import Shown

MOST_USED = (
    "model",
    "defense",
    "data",
    "attack",
    "eps",
    "norm",
    "limit",
    "preset",
    "seed",
    "out",
)


@takes("run", most_used=MOST_USED)
def run(
    typed: Typed,
    benchmark: Benchmark = None,
    mlflow: MLflow = None,
    tensorboard: TensorBoard = None,
    wandb: WandB = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would be done, as `medrobust plan`.", rich_help_panel=WHERE
        ),
    ] = False,
) -> list[Any]:
    """Attack models and write the leaderboard: clean and robust accuracy with intervals, cost, and
    one figure.

    Every combination of the lists is one cell. Finished cells are kept, so a run that was
    interrupted goes on where it stopped.

    [bold]Examples[/]

      medrobust run --model robust-mail --attack pgd

      medrobust run --model robust-mail --attack adaptive     # on until the answer stands

      medrobust run --model mail,robust-mail,late --attack fgsm,pgd --eps 1/255,2/255,4/255 --data
      breastmnist+pneumoniamnist

      medrobust run --benchmark phantoms-v1 --model late     # what a rank on the leaderboard needs

      medrobust run --model late --eps mri=4/255,xray=0 --target-task lung
    """
    from robustbench_med.reports import write
    from robustbench_med.runs.run import finished
    from robustbench_med.runs.run import run as run_grid
    from robustbench_med.runs.tracked import tracked
    from robustbench_med.store import loggers

    typed = on_benchmark(typed, benchmark)
    if dry_run:
        show_plan(typed)
        return []
    log = loggers.loggers_of(mlflow=mlflow, tensorboard=tensorboard, wandb=wandb)
    loggers.check(log)
    out, display = typed.job.out or Path("reports"), typed.job.display
    spec = validate(RunSpec, typed.values, "run")
    records = run_grid(spec, typed.job)
    if typed.job.detach and (job := handed_to(out)) is not None:
        show_handed(typed, out, job)
        return []
    if not records:
        display.say(f"no victim of this grid falls to shard {typed.job.shard}")
        return records
    found = write.leaderboard(out, only=records, baseline=spec.baseline)
    loggers.write(tracked(records, out), log)
    show_board(typed, found, finished(records, out), spec.model)
    return records


def show_board(typed: Typed, found: Shown, lines: Iterable[str], models: Sequence[str]) -> None:
    """What a run leaves: its rows of the leaderboard, where the rest lies, the next command."""
    from robustbench_med.cli import as_json, terminal_board

    display = typed.job.display
    if typed.as_json:
        show_json(as_json.board(found))
    else:
        display.show(terminal_board.shown(found))
    if not typed.as_json and len(found.missing):
        display.show(terminal_board.missing(found.missing))
    if not typed.as_json and len(found.findings):
        display.show(terminal_board.findings(found.findings))
    for line in (*lines, *terminal_board.ending(found.board, models)):
        display.say(line)


def handed_to(out: Path) -> str | None:
    """Which job of a scheduler has the work of the run that this process began in a folder."""
    from robustbench_med.owners import me
    from robustbench_med.store import ledger

    own = [each.handed_to for each in ledger.last(out) if each.owner == me()]
    return own[-1] if own else None


def show_handed(typed: Typed, out: Path, job: str) -> None:
    """Shows which job of a scheduler has the work, and how to ask after it."""
    from rich.text import Text

    command = f"medrobust status --out {shlex.quote(str(out))}"
    if typed.as_json:
        show_json({"job": job, "out": str(out), "status": command})
    else:
        typed.job.display.show(
            Text(
                f"{job} has the work: `{command}` tells how far it is; once it is done the same"
                " command without --detach writes the tables"
            )
        )
