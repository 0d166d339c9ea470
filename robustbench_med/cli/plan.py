"""`medrobust plan`: what a run would do and how long it would take."""

from __future__ import annotations

from robustbench_med.cli.as_json import show_json
from robustbench_med.cli.options import Benchmark, Typed, on_benchmark, takes
from robustbench_med.parsing import validate
from robustbench_med.runs.spec import RunSpec

MOST_USED = ("model", "defense", "data", "attack", "eps", "norm", "limit", "preset", "out")


@takes("plan", most_used=MOST_USED)
def plan(typed: Typed, benchmark: Benchmark = None) -> None:
    """What `run` would do with the same options: cells done and to do, trainings, passes, memory,
    disk, and how long it would take. Nothing is trained and nothing attacked.

    Times are learned from records of the same victim and attack in --out; else a few passes of each
    victim shape are timed on this device (kept for the next plan), which bounds them from above:
    samples leave an attack early.

    [bold]Example[/]

      medrobust plan --model late,mail --defense none,pgd-at --attack fgsm,pgd,autoattack --eps
      1/255,4/255 --train-seed 0,1,2 --jobs 4
    """
    show_plan(on_benchmark(typed, benchmark))


def show_plan(typed: Typed) -> None:
    """Shows the plan of a run."""
    from robustbench_med.cli import terminal_plan
    from robustbench_med.runs.plan import plan as plan_run

    planned = plan_run(validate(RunSpec, typed.values, "run"), typed.job)
    if typed.as_json:
        show_json(terminal_plan.plain(planned))
    else:
        typed.job.display.show(terminal_plan.shown(planned))
