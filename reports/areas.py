"""Areas under ROC curves, means over the attacked tasks; of the findings of a multi-label set,
which are judged by them, over those of which both classes occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from robustbench_med.store.figures import TaskFigures
from robustbench_med.store.record import Record


def area(record: Record, when: Literal["clean", "robust"]) -> float | None:
    """The mean before or after the attack; None where a task has none: of findings only where its
    predictions are not finite, or no finding has both classes.
    """
    if when == "robust" and not record.multilabel:
        return record.figures.auc
    found = [task.clean_auc if when == "clean" else task.auc for task in _judged(record)]
    known = [each for each in found if each is not None]
    return float(np.mean(known)) if known and len(known) == len(found) else None


def left_out(record: Record) -> list[str]:
    """A mark where findings have no area, since none of these samples has them, or all have."""
    tasks, judged = record.spec.threat.tasks, len(_judged(record))
    if not record.multilabel or judged == len(tasks):
        return []
    return [f"AUC over {judged} of {len(tasks)} findings: of the others one class occurs"]


def _judged(record: Record) -> Sequence[TaskFigures]:
    tasks = [record.figures.tasks[t] for t in record.spec.threat.tasks]
    if not record.multilabel:
        return tasks
    return [task for task in tasks if task.class_samples and all(task.class_samples)]
