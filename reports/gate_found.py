"""A figure that a gate asks about; those of victims that may abstain, and of subgroups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_med.errors import UserError, nearest
from robustbench_med.reports import abstention, clinical, subgroups
from robustbench_med.reports.families import victim_name
from robustbench_med.reports.tables import each
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store


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


PARTED = re.compile(r"(?P<of>[^\[]*)\[(?P<column>[^\[=]+)=(?P<value>[^\]]+)\]")


def of_subgroup(
    store: Store[Record],
    records: Sequence[Record],
    name: str,
    asked: str,
    *,
    robust: bool,
    least: bool,
) -> Iterator[Found]:
    """Sensitivity or specificity in one subgroup, of each victim and class; under the attack that
    leaves the worst.

    Args:
        asked: `malignant[clinic.sex=female]`, a class or task (or nothing) and the subgroup.
        least: whether the bound is a minimum.

    Raises:
        UserError: another figure, a class, column or value that the records do not have.
    """
    said = PARTED.fullmatch(asked)
    if said is None or name not in ("sensitivity", "specificity"):
        raise UserError(
            f"{name}@{asked}: a subgroup bounds sensitivity or specificity, as"
            " sensitivity@malignant[clinic.sex=female]"
        )
    of, column, cell = (said[part].strip() for part in ("of", "column", "value"))
    attacked = [record for record in records if not (record.control or record.apart)]
    frame = subgroups.frame(store, attacked)
    if frame.empty:
        raise UserError(f"{name}@{asked}: no card of this run names subgroups (docs/clinical.md)")
    known = {"column": (column, frame.subgroup), "value": (cell, None)}
    for what, (given, values) in known.items():
        there = list((frame[frame.subgroup == column].value if values is None else values).unique())
        if given not in there:
            raise UserError(f"{name}@{asked}: no {what} {given!r}; {nearest(given, there)}")
    frame = frame[(frame.subgroup == column) & (frame.value == cell)]
    whole = frame[frame["class"] == subgroups.EVERYBODY]
    sizes = {(row.record, row.condition, row.task): row.samples for row in each(whole)}
    frame = frame[frame["class"] != subgroups.EVERYBODY]
    if of:
        there = [*frame["class"].unique(), *frame.task.unique()]
        if of not in there:
            raise UserError(f"{name}@{asked}: no class or task {of!r}; {nearest(of, there)}")
        frame = frame[(frame["class"] == of) | (frame.task == of)]
    frame = frame[(frame.condition != clinical.CLEAN) == robust]
    keys = [*clinical.VICTIM, "norm", "eps", "task", "class"]
    first = frame.sort_values(name, ascending=least, kind="stable").drop_duplicates(keys)
    words = {record.short: record.trust for record in attacked}
    for row in first.sort_index().to_dict("records"):
        found: dict[str, Any] = {str(key): each for key, each in row.items()}
        threat = f"{found['norm']} {found['eps']}, {found['condition']}" if robust else ""
        where = victim_name(found["model"], found["variant"]), found["data"], threat
        numbers = (found[f"{name}{end}"] for end in ("", "_low", "_high"))
        value, low, high = (float("nan") if end is None else float(end) for end in numbers)
        trust = words[found["record"]]
        word, why = trust.word or "", trust.because if robust else ""
        label = f"{found['class']}[{column}={cell}]"
        n = int(sizes[found["record"], found["condition"], found["task"]])
        yield Found(*where, label, value, low, high, n, word, why, found["record"])
