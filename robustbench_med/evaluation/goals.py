"""The classes that a targeted attack aims at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robustbench_med.attacks import derive_seed
from robustbench_med.data import Samples
from robustbench_med.errors import UserError
from robustbench_med.evaluation.types import Clean

GOALS = ("random", "least-likely")


def check_goal(kind: str | None, class_counts: Sequence[int]) -> None:
    """Refuses (UserError) the number of a class that none of these tasks has."""
    if kind is not None and kind.isdigit() and int(kind) >= max(class_counts):
        raise UserError(
            f"--target {kind}: the attacked tasks have at most {max(class_counts)} classes, the"
            f" last is {max(class_counts) - 1}"
        )


def choose_goals(kind: str, clean: Clean, samples: Samples, seed: int) -> Tensor:
    """(n, T) classes for a targeted attack, -1 where a task has no label or the label is the goal.

    Args:
        kind: "random" (another class, drawn for each sample), "least-likely" (under the clean
            pass), or the number of a class.
    """
    check_goal(kind, [probabilities.shape[1] for probabilities in clean.probabilities])
    labels, goals = samples.labels.numpy(), np.full(tuple(samples.labels.shape), -1)
    for t, probabilities in enumerate(clean.probabilities):
        classes = probabilities.shape[1]
        for i, (sample, y) in enumerate(zip(samples.ids, labels[:, t], strict=True)):
            if y < 0:
                continue
            if kind == "random":
                step = derive_seed(seed, "goal", sample, t) % (classes - 1)
                goals[i, t] = (y + 1 + step) % classes
            elif kind == "least-likely":
                goals[i, t] = next(c for c in probabilities[i].argsort() if c != y)
            elif int(kind) < classes and int(kind) != y:
                goals[i, t] = int(kind)
    return torch.from_numpy(goals)
