"""`medrobust diagnose`: signs that an attack failed."""

from __future__ import annotations

from robustbench_med.cli.as_json import show_json
from robustbench_med.cli.options import Typed, takes
from robustbench_med.parsing import validate
from robustbench_med.runs.spec import DiagnoseSpec

MOST_USED = ("model", "defense", "data", "eps", "norm", "source", "limit", "preset", "seed", "out")


@takes("diagnose", most_used=MOST_USED)
def diagnose(typed: Typed) -> None:
    """Look for signs that an attack failed: can this victim's robust accuracy be trusted?

    Runs PGD, noise, square, more steps, more draws, other losses and radii against each other,
    always under the sound protocol. A short version of this runs after every cell of `run`. What it
    finds is kept in the folder, and tables hold it against the rows of the same victim and threat
    (column `trust`). Signs and thresholds are explained in docs/trust.md.

    The victim is the one `run` would take: the same --defense, --recipe, --train-seed, --size and
    so on name the same weights.

    [bold]Examples[/]

      medrobust diagnose --model robust-mail --source mail                # do attacks made on plain
      MAIL do better?

      medrobust diagnose --model late --defense jpeg,pni --source late    # each defence attacked
      adaptively: BPDA, EOT
    """
    from robustbench_med.cli import terminal_records
    from robustbench_med.runs.diagnose import diagnose as diagnose_all

    rows = diagnose_all(validate(DiagnoseSpec, typed.values, "diagnose"), typed.job)
    if typed.as_json:
        show_json(rows)
    else:
        typed.job.display.show(terminal_records.diagnostics(rows))
