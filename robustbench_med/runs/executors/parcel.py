"""What travels between machines that share no folder: records, failures and checkpoints as bytes by
their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robustbench_med.paths import write_atomically
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Unit
from robustbench_med.store.failure import Failures
from robustbench_med.store.record import RECORDS, Kind
from robustbench_med.store.store import Store
from robustbench_med.store.validation import VALIDATIONS
from robustbench_med.training.checkpoints import cached_path

Files = dict[str, bytes]
"""By the path below a folder."""


def packed(paths: Iterable[Path], folder: Path) -> Files:
    """Files of a folder that are there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()
    }


def unpacked(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes files that a folder lacks."""
    for name, content in files.items():
        path = folder / name
        if not path.exists():
            _write(path, content)


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda written: written.write_bytes(content))


def checkpoints_of(unit: Unit, session: Session[RunSpec]) -> list[Path]:
    """Weights and sidecars below medrobust's home that a unit may need or make: the victim's, its
    undefended twin's, and those of sources.
    """
    cell = unit.cells[0]
    twin = cell.model_copy(update={"defense": "none"})
    trainings = [session.victims.plans.of(cell).spec, session.victims.source_plans.of(twin).spec]
    trainings += [
        session.victims.source_plans.of(source).spec
        for source in session.victims.source_points(cell)
    ]
    weights = [cached_path(training) for training in trainings]
    return [*weights, *(path.with_suffix(".json") for path in weights)]


def records_of(unit: Unit, session: Session[RunSpec]) -> list[Path]:
    """Records of a unit's victim that the run's folder holds, with their outcomes, and its
    failures: what need not be done again.
    """
    cell, store, failures = unit.cells[0], Store(session.out), Failures(session.out)
    victim = session.victims.plans.of(cell).defended.name
    paths = [failures.path(failure.hash) for failure in failures.all()]
    for record in store.look()[0]:
        spec = record.spec
        if (spec.victim.model, spec.data.name) == (victim, session.dataset(cell).name):
            paths += [store.path(record.hash), store.outcomes(record)]
    return paths


def delivered(folder: Path, session: Session[RunSpec]) -> None:
    """Adds what was made in another folder to that of the run."""
    kinds: tuple[Kind[Any], ...] = (RECORDS, VALIDATIONS)
    for theirs, ours in ((Store(folder, kind), Store(session.out, kind)) for kind in kinds):
        for kept in theirs.records():
            if session.job.force or ours.kept(kept.hash, session.job.display.warn) is None:
                ours.add(kept, theirs.outcomes(kept).read_bytes())
    for failure in Failures(folder).all():
        Failures(session.out).write(failure)
