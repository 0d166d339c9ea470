"""A figure that a gate asks about, and those of victims that may abstain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_med.errors import UserError, nearest
from robustbench_med.reports import abstention
from robustbench_med.reports.families import victim_name
from robustbench_med.store.record import Record


@dataclass(frozen=True)
class Found:
    """A figure with its interval (NaN where it has none), and what else an answer needs."""

    victim: str
    data: str
    threat: str
    of: str
    value: float
    low: float
    high: float
    n: int
    trust: str = ""
    why: str = ""
    record: str = ""


def of_abstention(
    records: Sequence[Record], name: str, task: str, *, robust: bool
) -> Iterator[Found]:
    """Coverage, or accuracy on what was answered, of each victim and task; under the attack that
    leaves least of it.

    Args:
        name: "coverage" or "answered".
        task: alone; empty: all.
        robust: under attack, not clean.

    Raises:
        UserError: a task that the data do not have, or no victim that may abstain.
    """
    attacked = [record for record in records if not (record.control or record.apart)]
    frame = abstention.frame(attacked)
    if frame.empty:
        raise UserError(
            f"{name}: no victim of this run may abstain; a method `reject` lets one"
            " (docs/abstaining.md)"
        )
    known = list(frame.task.unique())
    if task and task not in known:
        raise UserError(f"{name}@{task}: no task {task!r}; {nearest(task, known)}")
    frame = frame[frame.task == task] if task else frame
    when = "robust" if robust else "clean"
    keys = ["model", "variant", "data", "checkpoint", "task", *(("norm", "eps") if robust else ())]
    first = frame.sort_values(f"{when}_{name}", kind="stable").drop_duplicates(keys).sort_index()
    words = {record.short: record.trust for record in attacked}
    for row in first.to_dict("records"):
        found: dict[str, Any] = {str(key): value for key, value in row.items()}
        threat = f"{found['norm']} {found['eps']}, {found['attack']}" if robust else ""
        victim, trust = victim_name(found["model"], found["variant"]), words[found["record"]]
        numbers = (found[f"{when}_{name}{end}"] for end in ("", "_low", "_high"))
        value, low, high = (float("nan") if number is None else number for number in numbers)
        where, n = (victim, found["data"], threat, found["task"]), int(found["n"])
        word, why = trust.word or "", trust.because if robust else ""
        yield Found(*where, value, low, high, n, word, why, found["record"])
