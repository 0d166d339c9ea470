"""The grid of `medrobust run`: what the store does not hold yet is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from robustbench_med.errors import UserError
from robustbench_med.runs.absence import absences
from robustbench_med.runs.black_boxes import forget_answers
from robustbench_med.runs.chains import ordered
from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.corrupting import baseline_of, corrupted
from robustbench_med.runs.device import threads
from robustbench_med.runs.estimates import weight_of
from robustbench_med.runs.executors import executor_of, here, jobs_of
from robustbench_med.runs.failing import announce
from robustbench_med.runs.inputs import understand
from robustbench_med.runs.job import Job
from robustbench_med.runs.outcomes import Outcomes
from robustbench_med.runs.registration import only_here
from robustbench_med.runs.session import Session, announce_whole_range
from robustbench_med.runs.spec import Cell, RunSpec, cells, cross_modal
from robustbench_med.runs.units import Outcome, Unit, of_shard, shard_of, units_of
from robustbench_med.store.failure import Failure, Failures
from robustbench_med.store.ledger import LedgerUnit, Writer
from robustbench_med.store.store import Record, Store
from robustbench_med.training import checkpoints

SYNTHETIC = (
    "phantoms are synthetic drawings: these figures compare attacks and models, they say nothing"
    " about a clinic."
)


def run(spec: RunSpec, job: Job) -> list[Record]:
    """Runs a whole grid and returns its records; finished cells are read from the store unless
    `job.force`. Where the job is to be left to Slurm (`job.detach`) these are the records that were
    there.

    What fails is named in a `LeftOutWarning`, unless `job.fail_fast`: then the first failure ends
    the run.

    Raises:
        UserError: unknown names, bad parameters, missing data, an unwritable folder; before any
            attack starts where possible.
    """
    jobs_of(job), shard_of(job.shard)
    session = Session.open(spec, job, check_attacks)
    records, failures = run_grid(session)
    if not job.detach:
        absences(session)
    if (beside := baseline_of(session)) is not None:
        more, failed = run_grid(beside)
        records, failures = records + more, failures + failed
    announce(failures, len(records) + len(failures), session.out)
    return records


Ran = tuple[list[Record], list[Failure]]
"""The records of every cell of a grid that could be evaluated, and the failures of the others."""


def run_grid(session: Session[RunSpec]) -> Ran:
    """What a session's grid gives."""
    (ran,) = run_grids([session])
    return ran


def run_grids(sessions: Sequence[Session[RunSpec]]) -> list[Ran]:
    """What the grids of several sessions of one job and folder give. Processes and clusters work
    on the units of all of them at once; this process alone does one grid after another.
    """
    first, grids = sessions[0], list[list[Cell]]()
    first.announce_limit()
    for session in sessions:
        if session.job.force:
            forget_answers(session.spec)
        announce_whole_range(session.spec, session.job.display)
        grids.append(grid := grid_of(session))
        understand(grid, session)
    of, before = sum(map(len, grids)), 0
    parts = list[list[Unit]]()
    for session, grid in zip(sessions, grids, strict=True):
        units = units_of(grid, session, before=before, of=of)
        parts.append(of_shard(units, session.job.shard))
        before += len(grid)
    outcomes = computed(parts, sessions)
    return [
        made({n: outcomes[n] for unit in units for n in unit.numbers if n in outcomes}, session)
        for units, session in zip(parts, sessions, strict=True)
    ]


def computed(
    parts: Sequence[Sequence[Unit]], sessions: Sequence[Session[RunSpec]]
) -> dict[int, Outcome]:
    """What became of the cells of several sessions' units, by number."""
    job, out = sessions[0].job, sessions[0].out
    together = [unit for units in parts for unit in units]
    if not together:
        return {}
    compute = executor_of(job, len(together))
    if compute is not here.compute:
        for session in sessions:
            check_portable(session.spec)
    begun = [
        ledger_unit(unit, session)
        for units, session in zip(parts, sessions, strict=True)
        for unit in units
    ]
    tell = Outcomes(Writer(out, begun))
    with threads(job.threads):
        if compute is here.compute:
            for units, session in zip(parts, sessions, strict=True):
                compute(units, session, tell)
                session.victims.forget()
        else:
            compute(together, sessions[0], tell)
    return tell.known


def check_portable(spec: RunSpec) -> None:
    """Refuses (UserError) what other processes would not find."""
    defenses = [part.strip() for defense in spec.defense for part in defense.split("+")]
    values = [value for value in spec.attack_params.values() if isinstance(value, str)]
    missing = only_here({*spec.bounded, *spec.model, *spec.source, *defenses, *values})
    if missing:
        raise UserError(
            f"{', '.join(missing)}: registered in this process alone; put it into a file and"
            " include that, or take --jobs 1"
        )


def made(outcomes: Mapping[int, Outcome], session: Session[RunSpec]) -> Ran:
    """Records and failures in the order of the grid, whoever made them and when."""
    store, kept = Store(session.out), Failures(session.out)
    records, failures = [], []
    for _, outcome in sorted(outcomes.items()):
        if outcome.record is not None:
            records.append(store.find(outcome.record))
        elif (failure := kept.kept(str(outcome.failure))) is not None:
            failures.append(failure)
    return records, failures


def ledger_unit(unit: Unit, session: Session[RunSpec]) -> LedgerUnit:
    """A unit as the ledger of its run has it."""
    plan = session.victims.plans.of(unit.cells[0])
    trained = plan.checkpoint is not None or checkpoints.known(plan.spec) is not None
    weights = {number: weight_of(cell, session) for number, cell in unit.numbered()}
    return LedgerUnit(key=unit.key, victim=unit.victim, trained=trained, cells=weights)


def grid_of(session: Session[RunSpec]) -> list[Cell]:
    """The cells of a session, every attacked modality and task by itself where it asks for that,
    in the order of their chains.
    """
    names = {
        name: (
            [m for k, m in enumerate(dataset.modalities) if k not in dataset.tables],
            dataset.tasks,
        )
        for (name, _), dataset in session.datasets.items()
    }
    grid = cells(session.spec)
    if session.spec.cross_modal:
        grid = cross_modal(grid, names)
    modalities = {name: of_data for name, (of_data, _) in names.items()}
    return ordered(corrupted(grid, session.spec, modalities), session)


def unknown_of(records: list[Record]) -> Iterator[str]:
    """What adaptive attacks on black boxes could not find out, by victim."""
    told: dict[str, dict[str, None]] = {}
    for record in records:
        search = record.attack_ran and record.attack_ran.search
        if search and search.cannot_know:
            told.setdefault(record.spec.victim.model, {}).update(dict.fromkeys(search.cannot_know))
    for model, lines in told.items():
        yield f"what adaptive cannot know of the black box {model}:"
        yield from (f"  - {line}" for line in lines)


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
        "worst case: the share of test samples still predicted right when each meets the attack"
        f" that harms it most (mean over the attacked tasks; a random model is judged by {judged});"
        " brackets are Wilson 95 % intervals for the population of patients (images where the card"
        " names none) and draws."
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
    yield from unknown_of(records)
    trivial = sorted({record.spec.victim.model for record in records if record.trivial})
    if trivial:
        yield (
            f"warning: {', '.join(trivial)} is no better than chance on a task (column marks);"
            " robustness means nothing there"
        )
    crossed = "".join(f"{path.name}, " for path in sorted(out.glob("cross_modal*")))
    figure = "robust_accuracy.png"
    drawn = f"{figure}, " if (out / figure).exists() else ""
    yield (
        f"tables, records and figures: {out}/leaderboard.csv, cells.csv, records.csv, cost.csv,"
        f" {crossed}{drawn}records/"
    )
