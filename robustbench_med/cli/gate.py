"""`medrobust gate`: a yes or no for pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_med.cli.as_json import show_json
from robustbench_med.cli.options import Typed, takes
from robustbench_med.parsing import validate
from robustbench_med.runs.spec import RunSpec

BOUNDS = "Bounds"
MOST_USED = ("model", "defense", "data", "attack", "eps", "norm", "limit", "checkpoint", "out")


Least = Annotated[
    list[str],
    typer.Option(
        "--min",
        metavar="NAME=NUMBER",
        help="A figure is at least so much: clean, robust, robust_balanced, corruption;"
        " sensitivity, specificity, ppv, npv, auroc, auprc of a class (@CLASS); robust_ before"
        " them: under attack; 95 behind them: at the threshold that finds 95 %. Repeatable.",
        rich_help_panel=BOUNDS,
    ),
]
Most = Annotated[
    list[str],
    typer.Option(
        "--max",
        metavar="NAME=NUMBER",
        help="A figure is at most so much: ece, brier, confidence_wrong of a task (@TASK),"
        " robust_ before them: under attack; mce, relative_mce. Repeatable.",
        rich_help_panel=BOUNDS,
    ),
]
On = Annotated[
    str,
    typer.Option(
        help="interval: bounds are asked of the worse end of the 95 % interval; point: of the"
        " figure.",
        rich_help_panel=BOUNDS,
    ),
]
Trusted = Annotated[
    str,
    typer.Option(
        help="The least word of trust that a robust figure needs: failed, doubtful,"
        " unchallenged or challenged.",
        rich_help_panel=BOUNDS,
    ),
]
MinSamples = Annotated[
    int, typer.Option(help="Test samples that a victim needs.", rich_help_panel=BOUNDS)
]
JUnit = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.xml",
        help="Where JUnit XML goes (default OUT/gate.xml).",
        rich_help_panel=BOUNDS,
    ),
]
Sarif = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.sarif",
        help="Where SARIF goes (default OUT/gate.sarif).",
        rich_help_panel=BOUNDS,
    ),
]


@takes("gate", most_used=MOST_USED)
def gate(
    typed: Typed,
    min_: Least = [],
    max_: Most = [],
    on: On = "interval",
    trust: Trusted = "unchallenged",
    min_samples: MinSamples = 16,
    junit: JUnit = None,
    sarif: Sarif = None,
) -> None:
    """Ask bounds of a model's figures, for a pipeline: runs what is missing, shows one table, and
    ends with 0 (all hold), 1 (one fails), 2 (the input is wrong) or 3 (no answer).

    No answer: the bounds would hold, but trust is below --trust, a cell failed, or there are fewer
    samples than --min-samples. A bound that fails is 1 whatever the trust: a better attack only
    lowers a robust figure.

    [bold]Examples[/]

      medrobust gate --model late --attack adaptive --eps 2/255 --min robust=0.6 --max ece=0.1

      medrobust gate --config gate.yaml
    """
    from robustbench_med.cli import terminal_gate
    from robustbench_med.runs import gate as gating

    bounds = gating.bounds_of(min_, max_)
    terms = gating.terms_of(on, trust, min_samples)
    spec = validate(RunSpec, typed.values, "gate")
    verdict = gating.gate(spec, typed.job, bounds, terms, (junit, sarif))
    if typed.as_json:
        rows: Any = [vars(row) for row in verdict.rows]
        show_json({"code": verdict.code, "rows": rows})
    else:
        typed.job.display.show(terminal_gate.shown(verdict))
    if verdict.code:
        raise typer.Exit(verdict.code)
