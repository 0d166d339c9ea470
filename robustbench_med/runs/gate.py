"""`medrobust gate`: runs what is missing, and asks bounds of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustbench_med.attacks import APART
from robustbench_med.errors import IncompleteError, UserError, gathered, unknown
from robustbench_med.naming import CONTROL
from robustbench_med.reports import floors, gate_files, write
from robustbench_med.reports.gate import OF_CORRUPTIONS, Bound, Terms, Verdict, judge
from robustbench_med.runs import run as running
from robustbench_med.runs.corrupting import is_corruption
from robustbench_med.runs.job import Job
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.store import Store
from robustbench_med.store.words import WORDS

ASKED = ("interval", "point")


def bounds_of(
    least: Mapping[str, Any] | Sequence[str], most: Mapping[str, Any] | Sequence[str]
) -> list[Bound]:
    """Bounds from `--min` and `--max`: by name, or as `NAME=VALUE`.

    Raises:
        UserError: none at all, an unknown figure, a value that is no number.
    """
    bounds = []
    for given, is_least in ((least, True), (most, False)):
        pairs = given.items() if isinstance(given, Mapping) else map(_parted, given)
        bounds += [Bound.read(str(name), value, least=is_least) for name, value in pairs]
    if not bounds:
        raise UserError("a gate needs a bound, such as --min robust=0.6 or --max ece=0.1")
    return bounds


def _parted(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        name = name if equals else text
        raise UserError(f"expected NAME=NUMBER such as robust=0.6, got {text!r}") from None


def terms_of(on: str, trust: str, min_samples: int) -> Terms:
    """How bounds are asked.

    Raises:
        UserError: an unknown word, or a number below 1.
    """
    if on not in ASKED:
        raise unknown("value of --on", str(on), ASKED)
    if trust not in WORDS:
        raise unknown("word of --trust", str(trust), WORDS)
    if isinstance(min_samples, bool) or not isinstance(min_samples, int) or min_samples < 1:
        raise UserError(f"--min-samples takes a whole number from 1, got {min_samples!r}")
    return Terms(on, trust, min_samples)  # type: ignore[arg-type]


def gate(
    spec: RunSpec,
    job: Job,
    bounds: Sequence[Bound],
    terms: Terms,
    files: tuple[Path | None, Path | None] = (None, None),
) -> Verdict:
    """Runs what the store lacks, asks the bounds, and writes JUnit XML and SARIF.

    Args:
        files: where JUnit XML and SARIF go; None: gate.xml and gate.sarif in the folder.

    Raises:
        UserError: as `run`; bounds on figures that nothing of the run can give.
    """
    check(spec, bounds)
    out = job.out or Path("reports")
    with gathered() as failures:
        try:
            records = running.run(spec, job)
        except IncompleteError as error:
            records, failures = [], [str(error), *failures]
        store, hashes = Store(out), {record.hash for record in records}
        read = [record for record in floors.read_all(store) if record.hash in hashes]
        if records:
            found = write.leaderboard(out, only=records, baseline=spec.baseline)
            shown = found.board, found.corruptions
            verdict = judge(bounds, terms, store, read, shown, failures)
        else:
            verdict = judge([], terms, store, [], (write.EMPTY, write.EMPTY), failures)
    gate_files.write(verdict, out, *files)
    return verdict


def check(spec: RunSpec, bounds: Sequence[Bound]) -> None:
    """Refuses (UserError) bounds on attacks or corruptions that the run does not hold."""
    corrupted = any(is_corruption(attack) for attack in spec.attack)
    attacked = any(attack not in (CONTROL, *APART) for attack in spec.attack)
    for bound in bounds:
        if bound.figure in OF_CORRUPTIONS and not corrupted:
            raise UserError(f"{bound}: no corruption is run; add --attack corruptions")
        if bound.is_robust and not attacked:
            raise UserError(f"{bound}: no attack is run; add --attack adaptive")
        if bound.figure == "clean" and not attacked:
            raise UserError(f"{bound}: it is read beside an attack; add --attack adaptive")
