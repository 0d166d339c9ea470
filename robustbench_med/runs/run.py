"""The grid of `medrobust run`: cells expanded, victims obtained, what the store does not hold yet
evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robustbench_med.paths import writable_folder
from robustbench_med.runs.cell import evaluate_cell
from robustbench_med.runs.checks import (
    check_names,
    make_threat,
)
from robustbench_med.runs.device import BatchSize, choose_device
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import (
    Job,
    announce_limit,
    announce_whole_range,
    load_all,
    on_disk,
)
from robustbench_med.runs.spec import RunSpec, cells, cross_modal
from robustbench_med.runs.victims import Victims, planned
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
    include(spec.include, job.display.say)
    spec = spec.model_copy(update={"data": on_disk(spec.data, job)})
    check_names(spec)
    if job.out is None:
        raise ValueError("a run needs an output folder")
    store = Store(writable_folder(job.out))
    device = choose_device(job.device)
    batch = BatchSize(job.batch_size, job.display)
    datasets = load_all(spec, spec.data, job)
    grid = cells(spec)
    announce_limit(spec, datasets, job)
    announce_whole_range(spec, job)
    if spec.cross_modal:
        grid = cross_modal(
            grid,
            {name: (dataset.modalities, dataset.tasks) for (name, _), dataset in datasets.items()},
        )
    for cell in grid:  # every radius and task is understood before the first training
        make_threat(cell, spec, datasets[cell.data, cell.fold])
    for cell in {
        (cell.data, cell.fold, cell.model, cell.defense): cell for cell in grid
    }.values():  # and every victim built
        planned(cell, spec, datasets[cell.data, cell.fold])
    victims = Victims(spec, device, job)
    return [
        evaluate_cell(
            cell,
            spec,
            datasets[cell.data, cell.fold],
            victims,
            store,
            device,
            batch,
            job,
            f"{number}/{len(grid)}",
        )
        for number, cell in enumerate(grid, 1)
    ]


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
        " intervals over patients (images where the card names none)."
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
