"""Cells that fail: what is kept of them, and how a run that goes on says so at its end."""

from __future__ import annotations

import shlex
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from robustbench_med.errors import IncompleteError, UserError, left_out
from robustbench_med.evaluation import cost
from robustbench_med.models import user_file
from robustbench_med.naming import canonical_hash
from robustbench_med.runs.chains import before
from robustbench_med.runs.commands import command_of
from robustbench_med.runs.requests import request_of
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.store.failure import Failure
from robustbench_med.version import versions

SHOWN = 20
"""Rows of the table of what failed; `failures/` holds all."""
Where = Literal["victim", "cell"]


def failure_of(
    cell: Cell, session: Session[RunSpec], error: BaseException, where: Where
) -> Failure:
    """What is kept of a cell that ended with an error."""
    request = request_of(cell, session)
    dataset = session.dataset(cell)
    own = user_file.mishap(error)
    plain = isinstance(error, UserError)
    line = " ".join(str(error).split())
    content = {
        "hash": canonical_hash(request),
        "spec": request,
        "cell": cell.model_dump(mode="json"),
        "command": command_of(
            [*before(cell, session), cell], session.spec, len(session.samples(cell)), dataset
        ),
        "where": where,
        "error": (line if plain else own or f"{type(error).__name__}: {line}".rstrip(": ")),
        "traceback": "".join(traceback.format_exception(error)),
        "mendable": plain or own is not None,
        "environment": {
            "device": cost.device_name(session.device),
            "versions": versions(),
            "started": time.time(),
            "threads": torch.get_num_threads(),
        },
    }
    return Failure.model_validate(content)


def announce(failures: Sequence[Failure], n_cells: int, out: Path) -> None:
    """Says what of a run failed (`LeftOutWarning`), and how to run just that again.

    Raises:
        UserError: all of it failed, by an error of the user's.
        IncompleteError: all of it failed.
    """
    if not failures:
        return
    if len(failures) == n_cells and all(failure.mendable for failure in failures):
        others = len({failure.error for failure in failures}) - 1
        more = f" (and {others} other errors, see {out / 'failures'})" if others else ""
        raise UserError(failures[0].error + more)
    text = table(failures, n_cells, out)
    if len(failures) == n_cells:
        raise IncompleteError(text)
    left_out(text)


def table(failures: Sequence[Failure], n_cells: int, out: Path) -> str:
    """The failures of a run, a line each, those of a victim that could not be had together."""
    rows = Counter(_row(failure) for failure in failures)
    lines = [f"{len(failures)} of {n_cells} cells failed; {out / 'failures'} holds each traceback:"]
    for (name, error, short), n in list(rows.items())[:SHOWN]:
        lines.append(f"  {name}{f' ({n} cells)' if n > 1 else ''}: {error}{short}")
    if len(rows) > SHOWN:
        lines.append(f"  and {len(rows) - SHOWN} more")
    folder = shlex.quote(str(out))
    lines.append(
        f"`medrobust rerun --failed --out {folder}` tries them again, `medrobust rerun --hash HASH"
        f" --out {folder}` one of them, the same command without --skip-failed all it lacks"
    )
    return "\n".join(lines)


def _row(failure: Failure) -> tuple[str, str, str]:
    """What a failure is called in the table, its error, and its hash where it has a row alone."""
    if failure.where == "victim":
        cell = failure.cell
        victim = f"{cell.model}, {cell.defense}, {cell.data}, train seed {cell.train_seed}"
        return f"the victim {victim}", failure.error, ""
    return str(failure.cell), failure.error, f" [{failure.short}]"
