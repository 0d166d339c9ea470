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
from robustbench_med.store.belief import Misfit, MisfitError, Record, read
from robustbench_med.store.store import CERTIFICATES, RECORDS, Store, nothing_left

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
    store, certificates = Store(out), Store(out, CERTIFICATES)
    (_, misfits), (_, proofs) = store.look(), certificates.look()
    if not store.paths() and not certificates.paths():
        raise nothing_left(f"{out} holds no records", store)
    stale = [misfit for misfit in misfits if misfit.stale is not None]
    failed = [
        f"{proof.path}: certificates hold no command; make it again with `medrobust certify`"
        for proof in proofs
        if proof.stale
    ]
    made = 0
    for number, misfit in enumerate(stale, 1):
        display.say(
            f"[{number}/{len(stale)}] {misfit.path.stem}:"
            f" {misfit.stale and misfit.stale.get('command')}"
        )
        try:
            _renew(misfit, store, medrobust)
            made += 1
        except UserError as error:
            failed.append(f"{misfit.path} was not made again: {error}")
    return Renewed(len(stale) + len(proofs), made, tuple(failed))


def _renew(misfit: Misfit, store: Store, medrobust: Run) -> None:
    old = misfit.stale or {}
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
        read(store.path(new["hash"]), RECORDS)
    except MisfitError as error:
        raise UserError(f"the new record {error}") from error
    store.remove(old["hash"])


def _arguments(record: Record) -> list[str]:
    """What stands behind `medrobust` in a record's command, and the size that it may leave to the
    preset; only a run is taken.
    """
    command = record.get("command")
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError as error:
        raise UserError(f"its command cannot be read ({error})") from error
    if words[:2] != COMMAND:
        raise UserError("it holds no `medrobust run` command")
    return (
        words[1:]
        if "--size" in words
        else [*words[1:], "--size", str(record["spec"]["data"]["size"])]
    )


def _same_cell(old: Record, new: Record) -> None:
    """Refuses (UserError) a new record of something else: other weights behind a checkpoint's path,
    other data.
    """
    before, after = old["spec"], new["spec"]
    for part, key in (
        ("victim", "model"),
        ("data", "name"),
        ("data", "n"),
        ("attack", "name"),
        ("threat", "radii"),
        ("threat", "tasks"),
    ):
        if before.get(part, {}).get(key) != after[part][key]:
            raise UserError(
                f"its command now makes {part} {key} {after[part][key]!r}, was"
                f" {before.get(part, {}).get(key)!r}"
            )
    if (
        "--checkpoint" in old["command"]
        and before["victim"].get("weights_sha256") != after["victim"]["weights_sha256"]
    ):
        raise UserError("the file of --checkpoint holds other weights now")
