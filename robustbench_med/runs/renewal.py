"""Records of an older identity made again, each by the command that it holds."""

from __future__ import annotations

import contextlib
import io
import shlex
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.errors import LeftOutWarning, UserError
from robustbench_med.progress import Display
from robustbench_med.store.belief import MisfitError, Stale, read
from robustbench_med.store.diagnosis import DIAGNOSES
from robustbench_med.store.store import CERTIFICATES, RECORDS, Record, Store, nothing_left

COMMAND = ["medrobust", "run"]
Run = Callable[[list[str]], object]
"""`medrobust` in this process: takes its arguments, gives the records of a run; bad ones are a
UserError.
"""


@dataclass(frozen=True)
class Renewed:
    """How many records were of an older identity, how many were made again, and a line for each
    that was not.
    """

    stale: int
    made: int
    failed: tuple[str, ...]


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


def _renew(old: Stale, store: Store[Record], medrobust: Run) -> None:
    arguments = _arguments(old)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):  # the tables are shown once, when all is done
        warnings.simplefilter("ignore", LeftOutWarning)
        records = medrobust(arguments)
    if not isinstance(records, list) or len(records) != 1:
        raise UserError(
            f"its command makes {len(records) if isinstance(records, list) else 'no'} records,"
            " not one"
        )
    (new,) = records
    _same_cell(old, new)
    try:
        read(store.path(new.hash), RECORDS)
    except MisfitError as error:
        raise UserError(f"the new record {error}") from error
    store.remove(old.hash)


def _arguments(old: Stale) -> list[str]:
    """What stands behind `medrobust` in a record's command, and the size that it may leave to the
    preset; only a run is taken.
    """
    try:
        words = shlex.split(old.command or "")
    except ValueError as error:
        raise UserError(f"its command cannot be read ({error})") from error
    if words[:2] != COMMAND:
        raise UserError("it holds no `medrobust run` command")
    if "--size" in words:
        return words[1:]
    return [*words[1:], "--size", str(old.spec["data"]["size"])]


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
