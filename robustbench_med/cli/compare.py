"""`medrobust compare`: which defence, at what cost?"""

from __future__ import annotations

from pathlib import Path

from robustbench_med.cli.as_json import show_json
from robustbench_med.cli.options import MLflow, TensorBoard, Typed, WandB, takes
from robustbench_med.parsing import validate
from robustbench_med.runs.spec import RunSpec

MOST_USED = ("model", "defense", "data", "attack", "eps", "norm", "limit", "preset", "seed", "out")


@takes("compare", most_used=MOST_USED)
def compare(
    typed: Typed, mlflow: MLflow = None, tensorboard: TensorBoard = None, wandb: WandB = None
) -> None:
    """Compare defences: which one, at what cost, and is it real? Table, paired statistics, verdict
    and Pareto figure.

    Every defence is trained and attacked the same way, adaptively: EOT on random ones, BPDA through
    input transforms. The figure of a naive attack stands beside. Writes compare.md, compare.csv,
    compare.tex, compare_pairs.csv and pareto.png.

    [bold]Example[/]

      medrobust compare --model mail --defense pgd-at,trades,rpf,man,robust-mail,jpeg --attack
      fgsm,pgd --data breastmnist+pneumoniamnist
    """
    import time

    from robustbench_med.cli import as_json, terminal
    from robustbench_med.reports.comparison.entries import Compared
    from robustbench_med.reports.comparison.write import write
    from robustbench_med.runs.commands import comparison_command
    from robustbench_med.runs.compare import compare as compare_all
    from robustbench_med.runs.tracked import tracked
    from robustbench_med.store import loggers

    log = loggers.loggers_of(mlflow=mlflow, tensorboard=tensorboard, wandb=wandb)
    loggers.check(log)
    started = time.perf_counter()
    out, display = typed.job.out or Path("reports"), typed.job.display
    spec = validate(RunSpec, typed.values, "compare")
    entries, left_out = compare_all(spec, typed.job)
    command, seconds = comparison_command(spec, typed.job), time.perf_counter() - started
    judged, page = write(Compared(tuple(entries), command, seconds, tuple(left_out)), out)
    if typed.as_json:
        show_json(as_json.comparison(judged, left_out))
    else:
        display.show(terminal.comparison(judged.table, page))
    records = [record for entry in entries for record in (*entry.records, *entry.naive)]
    loggers.write(tracked(records, out), log)
    display.say(
        f"tables and figure: {out}/compare.md, compare.csv, compare.tex, compare_pairs.csv,"
        " pareto.png, pareto.svg"
    )
