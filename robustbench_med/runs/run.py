"""The grid of `medrobust run`: what the store does not hold yet is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robustbench_med.runs.cell import evaluate_cell
from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.job import Job
from robustbench_med.runs.session import Session, announce_whole_range
from robustbench_med.runs.spec import Cell, RunSpec, cells, cross_modal
from robustbench_med.runs.threats import threat_of
from robustbench_med.store.store import Record, Store

SYNTHETIC = (
    "phantoms are synthetic drawings: these figures compare attacks and models, they say nothing"
    " about a clinic."
)


def run(spec: RunSpec, job: Job) -> list[Record]:
    """Runs a whole grid and returns its records; finished cells are read from the store unless
    `job.force`.

    Raises:
        UserError: unknown names, bad parameters, missing data, an unwritable folder; before any
            attack starts where possible.
    """
    return run_grid(Session.open(spec, job, check_attacks))


def run_grid(session: Session[RunSpec]) -> list[Record]:
    """The records of every cell of a session's grid."""
    session.announce_limit()
    announce_whole_range(session.spec, session.job.display)
    grid = grid_of(session)
    for cell in grid:  # every radius and task is understood before the first training
        threat_of(cell, session.dataset(cell), session.spec)
    session.victims.plan(grid)
    store = Store(session.out)
    return [
        evaluate_cell(cell, session, store, f"{number}/{len(grid)}")
        for number, cell in enumerate(grid, 1)
    ]


def grid_of(session: Session[RunSpec]) -> list[Cell]:
    """The cells of a session, every attacked modality and task by itself where it asks for that."""
    grid = cells(session.spec)
    if not session.spec.cross_modal:
        return grid
    names = {
        name: (dataset.modalities, dataset.tasks) for (name, _), dataset in session.datasets.items()
    }
    return cross_modal(grid, names)


def finished(records: list[Record], out: Path) -> Iterator[str]:
    """Sentences a run ends with: what the numbers mean, what weakens them, where the files are."""
    protocol = records[0].spec.protocol.name
    draws = max(record.draws for record in records)
    judged = (
        "one pass each, as in the release"
        if protocol == "release"
        else "one pass"
        if draws == 1
        else f"the mean of {draws} fresh passes"
    )
    yield (
        "robust accuracy: the share of test samples still predicted right after the attack (mean"
        f" over the attacked tasks; a random model is judged by {judged}); brackets are Wilson 95 %"
        " intervals for the population of patients (images where the card names none) and draws."
    )
    if any(record.synthetic for record in records):
        yield SYNTHETIC
    naive = sorted(
        {record.spec.victim.model for record in records if record.naive and record.stochastic}
    )
    if naive:
        yield (
            f"warning: {', '.join(naive)} is random and was attacked without EOT: this robust"
            " accuracy is an over-estimate; use --protocol sound"
        )
    trivial = sorted({record.spec.victim.model for record in records if record.trivial})
    if trivial:
        yield (
            f"warning: {', '.join(trivial)} is no better than chance on a task (column marks);"
            " robustness means nothing there"
        )
    crossed = "".join(f"{path.name}, " for path in sorted(out.glob("cross_modal*")))
    yield (
        f"tables, records and figures: {out}/leaderboard.csv, records.csv, cost.csv,"
        f" {crossed}robust_accuracy.png, records/"
    )
