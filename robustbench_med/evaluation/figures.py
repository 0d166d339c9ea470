"""Figures out of per-sample outcomes: accuracy, intervals, smallest perturbations, losses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.attacks import (
    Threat,
)
from robustbench_med.evaluation.types import Clean


def minimal_norm(
    smallest: NDArray[np.float32], clean: NDArray[np.float32], threat: Threat
) -> dict[str, Any]:
    """Median size of the smallest perturbations that break every attacked task, and robust accuracy
    against their size.

    Sizes are the largest of the modalities' radii, which keep their proportions. A sample that was
    never right has size 0; the median is None when half of the samples were not broken at all. At
    most 21 radii, up to the largest size found. Of a sample, no more stands
    than was right on clean images: a task that was wrong from the start has size 0 and counts once.
    """
    broken = smallest[:, -1]
    median = float(np.median(broken))
    finite = broken[np.isfinite(broken)]
    radii = (
        np.linspace(0, float(finite.max()), 21) if len(finite) and finite.max() > 0 else np.zeros(1)
    )
    curve = [[float(r), float(np.minimum(clean, (smallest > r).mean(1)).mean())] for r in radii]
    return {
        "norm": threat.norm,
        "median": median if np.isfinite(median) else None,
        "curve": curve,
        "not_found": int(len(broken) - len(finite)),
    }


def mean_losses(losses: NDArray[Any]) -> list[float | None]:
    """Mean over attacked samples (columns) of the attack loss before each step (rows), to six
    digits.

    A sample that fell and left the batch (NaN) keeps its last loss; None where no sample has had a
    finite one yet.
    """
    losses = np.where(np.isfinite(losses), losses, np.nan).astype(np.float64)
    for before, now in itertools.pairwise(losses):
        np.copyto(now, before, where=np.isnan(now))
    return [
        float(f"{row[~np.isnan(row)].mean():.6g}") if not np.isnan(row).all() else None
        for row in losses
    ]


def target_rate(
    goals: NDArray[np.int64], vote: NDArray[np.int64], tasks: Sequence[int]
) -> float | None:
    """Share of goals, over samples and attacked tasks, that most draws predict."""
    aimed = goals[:, list(tasks)] >= 0
    reached = (vote[:, list(tasks)] == goals[:, list(tasks)]) & aimed
    return float(reached.sum() / aimed.sum()) if aimed.any() else None


def task_figures(
    t: int,
    clean: Clean,
    right: NDArray[np.float32],
    vote_right: NDArray[np.bool_],
    vote: NDArray[np.int64],
    probabilities: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    images: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> dict[str, Any]:
    """Figures of task t over its labelled samples; repeated `images` (n,) and those of one of the
    `groups` (n,) are not independent.
    """
    known = labels[:, t] >= 0
    distinct = len(np.unique(images[known]))
    y, before, after = labels[known, t], clean.right[known, t], right[known, t]
    n_classes = probabilities[t].shape[1]
    clean_rate, robust_rate = float(before.mean()), float(after.mean())
    n_clean, n_robust = (
        min(statistics.effective_n(share, groups[known]), distinct) for share in (before, after)
    )
    return {
        "n": int(known.sum()),
        "n_distinct": distinct,
        "n_groups": len(np.unique(groups[known])),
        "n_effective_clean": n_clean,
        "n_effective_robust": n_robust,
        "clean": clean_rate,
        "clean_interval": list(statistics.wilson(clean_rate, n_clean)),
        "clean_vote": float((clean.vote[known, t] == y).mean()),
        "clean_balanced_accuracy": statistics.balanced_accuracy(before, y, n_classes),
        "clean_auc": statistics.auc(clean.probabilities[t][known], y),
        "trivial": statistics.trivial(before, clean.vote[known, t], y, n_classes),
        "robust": robust_rate,
        "robust_interval": list(statistics.wilson(robust_rate, n_robust)),
        "robust_vote": float(vote_right[known, t].mean()),
        # chance that a prediction which was right is wrong after the attack, draws before and after
        # being independent
        "asr": float((before * (1 - after)).sum() / before.sum()) if before.sum() > 0 else None,
        "balanced_accuracy": statistics.balanced_accuracy(after, y, n_classes),
        "auc": statistics.auc(probabilities[t][known], y),
        "most_predicted_share": statistics.most_predicted_share(vote[known, t], n_classes),
        "not_finite": int(
            statistics.not_finite(clean.probabilities[t][known], probabilities[t][known]).sum()
        ),
    }
