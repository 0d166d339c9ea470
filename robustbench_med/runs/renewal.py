"""Records of an older identity, and cells that failed, made again, each by the command that it
holds.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.errors import LeftOutWarning, UserError
from robustbench_med.naming import ANONYMOUS, MODULE
from robustbench_med.progress import Display
from robustbench_med.store.belief import HASH_LENGTH, MisfitError, Stale, read
from robustbench_med.store.diagnosis import DIAGNOSES
from robustbench_med.store.failure import Failure, Failures
from robustbench_med.store.store import CERTIFICATES, RECORDS, Record, Store, nothing_left

COMMAND = ["medrobust", "run"]
Run = Callable[[list[str]], object]
"""`medrobust` in this process: takes its arguments, gives the records of a run; bad ones are a
UserError.
"""


@dataclass(frozen=True)
class Renewed:
    """How many records were to be made again, how many were, and a line for each that was not."""

    asked: int
    made: int
    failed: tuple[str, ...]


def together(parts: Sequence[Renewed]) -> Renewed:
    """What several renewals did."""
    return Renewed(
        sum(part.asked for part in parts),
        sum(part.made for part in parts),
        tuple(line for part in parts for line in part.failed),
    )


def renew(out: Path, medrobust: Run, display: Display) -> Renewed:
    """Runs the command of every stale record of a folder; takes the old record away once the new
    one is there.

    Args:
        medrobust: runs a command line, its output in `out`.

    Raises:
        UserError: the folder holds nothing.
    """
    store, certificates, diagnoses = Store(out), Store(out, CERTIFICATES), Store(out, DIAGNOSES)
    (_, misfits), (_, proofs), (_, found) = store.look(), certificates.look(), diagnoses.look()
    if not store.paths() and not certificates.paths():
        raise nothing_left(f"{out} holds no records", store)
    stale = [(misfit.path, misfit.stale) for misfit in misfits if misfit.stale is not None]
    failed = [
        f"{proof.path}: certificates hold no command; make it again with `medrobust certify`"
        for proof in proofs
        if proof.stale
    ]
    failed += [
        f"{diagnosis.path}: diagnoses hold no command; make it again with `medrobust diagnose`"
        for diagnosis in found
        if diagnosis.stale
    ]
    made, old_in_all = 0, len(stale) + len(failed)
    for number, (path, old) in enumerate(stale, 1):
        display.say(f"[{number}/{len(stale)}] {path.stem}: {old.command}")
        try:
            _renew(old, store, medrobust)
            made += 1
        except UserError as error:
            failed.append(f"{path} was not made again: {error}")
    return Renewed(old_in_all, made, tuple(failed))


def retry(out: Path, medrobust: Run, display: Display) -> Renewed:
    """Runs the command of every cell of a folder that failed; takes the failure away once the
    record is there.
    """
    failures, made, again = Failures(out), 0, list[str]()
    found = failures.all()
    for number, failure in enumerate(found, 1):
        display.say(f"[{number}/{len(found)}] {failure.cell}: {failure.command}")
        try:
            _retry(failure, out, medrobust)
            made += 1
        except UserError as error:
            again.append(f"{failure.cell} failed again: {error}")
    return Renewed(len(found), made, tuple(again))


def renew_one(prefix: str, out: Path, medrobust: Run, display: Display) -> Renewed:
    """Runs the command of the one record or failure whose hash begins with `prefix`, and puts what
    it makes in the place of what was there.

    Raises:
        UserError: none or several, or it could not be made again, and is kept.
    """
    store = Store(out)
    records, misfits = store.look()
    olds = [Stale(record.hash, record.spec.plain(), record.command) for record in records]
    olds += [misfit.stale for misfit in misfits if misfit.stale is not None]
    failures = [each for each in Failures(out).all() if each.hash.startswith(prefix)]
    olds = [old for old in olds if old.hash.startswith(prefix)]
    if len(olds) + len(failures) != 1:
        n = len(olds) + len(failures)
        raise UserError(
            f"{f'{n} records and failures' if n else 'no record or failure'} in {out} with a hash"
            f" that starts with {prefix!r}; `medrobust leaderboard` and {out / 'failures'} name"
            " them"
        )
    for failure in failures:
        display.say(f"{failure.cell}: {failure.command}")
        _retry(failure, out, medrobust)
    for old in olds:
        display.say(f"{old.hash[:HASH_LENGTH]}: {old.command}")
        _renew(old, store, medrobust, "--force")
    return Renewed(1, 1, ())


def _retry(failure: Failure, out: Path, medrobust: Run) -> None:
    chain = 1 + len(failure.spec.get("before", []))
    _made(_words(failure.command), Store(out), medrobust, chain)
    Failures(out).remove(failure.hash)


def _renew(old: Stale, store: Store[Record], medrobust: Run, *more: str) -> None:
    chain = None if "carried" in old.spec else 1
    new = _made([*_arguments(old), *more], store, medrobust, chain)
    _same_cell(old, new)
    if new.hash != old.hash:
        store.remove(old.hash)


def _made(arguments: list[str], store: Store[Record], medrobust: Run, chain: int | None) -> Record:
    """The record that a command makes, as it lies in the store.

    Args:
        chain: how many it makes, those that the last one starts from among them; None: any number.
    """
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):  # the tables are shown once, when all is done
        warnings.simplefilter("ignore", LeftOutWarning)
        records = medrobust(arguments)
    n = len(records) if isinstance(records, list) else 0
    if not isinstance(records, list) or n == 0 or n != (chain or n):
        wanted = "one" if chain == 1 else chain or "any"
        raise UserError(f"its command makes {n or 'no'} records, not {wanted}")
    try:
        return read(store.path(records[-1].hash), RECORDS)
    except MisfitError as error:
        raise UserError(f"the new record {error}") from error


def _arguments(old: Stale) -> list[str]:
    """What stands behind `medrobust` in a record's command, and the size that it may leave to the
    preset.
    """
    words = _words(old.command or "")
    return words if "--size" in words else [*words, "--size", str(old.spec["data"]["size"])]


def _words(command: str) -> list[str]:
    """What stands behind `medrobust` in a command; only a run is taken."""
    if command.startswith(MODULE):
        objects = dict.fromkeys(re.findall(r"<([^<>]+)>", command))
        raise UserError(
            f"it was made in Python, of objects that no file holds ({', '.join(objects)}); make the"
            f" call again with them: {command}"
        )
    if command.startswith(ANONYMOUS):
        raise UserError(f"it is an {command}")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"its command cannot be read ({error})") from error
    if words[:2] != COMMAND:
        raise UserError("it holds no `medrobust run` command")
    return words[1:]


def _same_cell(old: Stale, new: Record) -> None:
    """Refuses (UserError) a new record of something else: other weights behind a checkpoint's path,
    other data.
    """
    spec = new.spec
    now: dict[tuple[str, str], object] = {
        ("victim", "model"): spec.victim.model,
        ("data", "name"): spec.data.name,
        ("data", "n"): spec.data.n,
        ("attack", "name"): spec.attack.name,
        ("threat", "radii"): spec.threat.radii,
        ("threat", "tasks"): spec.threat.tasks,
    }
    for (part, key), value in now.items():
        before = old.spec.get(part, {}).get(key)
        if before != value:
            raise UserError(f"its command now makes {part} {key} {value!r}, was {before!r}")
    if (
        "--checkpoint" in (old.command or "")
        and old.spec["victim"].get("weights_sha256") != spec.victim.weights_sha256
    ):
        raise UserError("the file of --checkpoint holds other weights now")
