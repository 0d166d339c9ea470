"""Figures out of per-sample outcomes: accuracy, intervals, smallest perturbations, losses."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med import statistics
from robustbench_med.attacks import Threat
from robustbench_med.data import Samples
from robustbench_med.evaluation.figure_types import (
    Figures,
    MinimalNorm,
    ParticularFigures,
    TaskFigures,
    Unflipped,
)
from robustbench_med.evaluation.types import Clean, Judged


def cell_figures(
    samples: Samples,
    clean: Clean,
    fresh: Judged,
    threat: Threat,
    *,
    chunk: int,
    smallest: NDArray[np.float32] | None,
    losses: Sequence[NDArray[np.float32]],
    goals: Tensor | None,
) -> Figures:
    """Figures of every task, and their means over the attacked ones.

    Args:
        chunk: samples that share their draws where the victim draws for its batch.
        smallest: (n, attacked tasks), of a minimal-norm attack.
        losses: (steps, attacked samples) of each batch, of attacks that step along a gradient.
        goals: (n, T), of a targeted attack.
    """
    tasks = list(threat.tasks)
    every = [task_figures(t, samples, clean, fresh, chunk) for t in range(samples.labels.shape[1])]
    attacked = [every[t] for t in tasks]
    clean_rate = mean(task["clean"] for task in attacked)
    robust_rate = mean(task["robust"] for task in attacked)
    n_clean = min(task["n_effective_clean"] for task in attacked)
    n_robust = min(task["n_effective_robust"] for task in attacked)
    particular: ParticularFigures = {}
    if smallest is not None:
        clean_right = clean.right[:, tasks].mean(1)
        particular["minimal_norm"] = minimal_norm(smallest, clean_right, threat)
    if losses:
        particular["attack_loss"] = mean_losses(np.concatenate(losses, 1))
    if threat.least is not None or (len(tasks) > 1 and any(samples.findings[t] for t in tasks)):
        particular["unflipped"] = unflipped(samples, clean, fresh, threat)
    if goals is not None:
        particular["target_rate"] = target_rate(goals.numpy(), fresh.vote, tasks)
    return {
        "tasks": every,
        **particular,
        "not_finite": not_finite(samples, clean, fresh, tasks),
        "clean": clean_rate,
        "clean_vote": mean(task["clean_vote"] for task in attacked),
        "robust": robust_rate,
        "robust_vote": mean(task["robust_vote"] for task in attacked),
        "asr": mean_if_all(task["asr"] for task in attacked),
        "balanced_accuracy": mean(task["balanced_accuracy"] for task in attacked),
        "auc": mean_if_all(task["auc"] for task in attacked),
        "clean_interval": list(statistics.wilson(clean_rate, n_clean)),
        "robust_interval": list(statistics.wilson(robust_rate, n_robust)),
    }


def unflipped(samples: Samples, clean: Clean, fresh: Judged, threat: Threat) -> Unflipped:
    """The share of samples of which fewer predictions flipped than the attacker wanted (one, where
    he wanted all): most draws were right (or rejected) before the attack, and are wrong behind it.
    Samples without a right prediction before it do not count.
    """
    tasks, wanted = list(threat.tasks), threat.least or 1
    labels = samples.labels.numpy()[:, tasks]
    before = clean.vote[:, tasks] == labels
    if clean.rejected is not None:
        before |= clean.rejected[:, tasks] > 0.5
    right = (labels >= 0) & before
    there, flips = right.any(1), (right & ~fresh.vote_right[:, tasks]).sum(1)
    left = (flips < wanted)[there].astype(np.float64)
    share = float(left.mean()) if len(left) else 0.0
    groups = samples.label_groups[there, tasks[0]]
    worth = statistics.effective_n(left, groups) if len(left) else 0.0
    return {
        "fewer_than": wanted,
        "n": int(there.sum()),
        "share": share,
        "interval": list(statistics.wilson(share, worth)) if worth else [0.0, 1.0],
    }


def mean(values: Iterable[float]) -> float:
    """The mean of the tasks' values."""
    return float(np.mean(list(values)))


def mean_if_all(values: Iterable[float | None]) -> float | None:
    """The mean of the tasks' values, None where one has none."""
    numbers = list(values)
    return None if None in numbers else mean(value for value in numbers if value is not None)


def not_finite(samples: Samples, clean: Clean, fresh: Judged, tasks: Sequence[int]) -> int:
    """Number of samples with NaN or infinite logits at an attacked task, before or after the
    attack.
    """
    labels = samples.labels.numpy()
    lost = [
        statistics.not_finite(clean.probabilities[t], fresh.probabilities[t]) & (labels[:, t] >= 0)
        for t in tasks
    ]
    return int(np.any(lost, 0).sum())


def task_figures(t: int, samples: Samples, clean: Clean, fresh: Judged, chunk: int) -> TaskFigures:
    """Figures of task t over its labelled samples; repeats of an image, images of one group
    (patient), and draws that a chunk shares, are not independent.

    Intervals are for the population that samples and draws are of.
    """
    labels = samples.labels.numpy()[:, t]
    known = labels >= 0
    y, groups = labels[known], samples.label_groups[known, t]
    distinct = len(np.unique(samples.label_rows[known, t]))
    before, after = clean.right[known, t], fresh.right[known, t]
    clean_probabilities = clean.probabilities[t][known]
    probabilities = fresh.probabilities[t][known]
    n_classes = probabilities.shape[1]
    clean_rate, robust_rate = float(before.mean()), float(after.mean())
    chunks = np.flatnonzero(known) // chunk if clean.drawing == "batch" else None
    n_clean, n_robust = (
        statistics.effective_n_of_draws(
            each.draws_right[:, known, t],
            min(statistics.effective_n(right, groups), distinct),
            chunks,
        )
        for each, right in ((clean, before), (fresh, after))
    )
    silent, voted = {}, clean.vote[known, t] == y
    if clean.rejected is not None and fresh.rejected is not None:
        both = (before, clean.rejected[known, t]), (after, fresh.rejected[known, t])
        voted = voted | (clean.rejected[known, t] > 0.5)
        silent["abstention"] = abstention(*both, groups, distinct)
    return {
        **silent,  # type: ignore[typeddict-item]
        "n": int(known.sum()),
        "n_distinct": distinct,
        "n_groups": len(np.unique(groups)),
        "n_effective_clean": n_clean,
        "n_effective_robust": n_robust,
        "class_samples": np.bincount(y, minlength=n_classes).tolist(),
        "clean": clean_rate,
        "clean_interval": list(statistics.wilson(clean_rate, n_clean)),
        "clean_vote": float(voted.mean()),
        "clean_balanced_accuracy": statistics.balanced_accuracy(before, y, n_classes),
        "clean_auc": statistics.auc(clean_probabilities, y),
        "trivial": (
            statistics.trivial_finding(clean_probabilities, y)
            if samples.findings[t]
            else statistics.trivial(before, clean.vote[known, t], y, n_classes)
        ),
        "robust": robust_rate,
        "robust_interval": list(statistics.wilson(robust_rate, n_robust)),
        "robust_vote": float(fresh.vote_right[known, t].mean()),
        # chance that a prediction which was right is wrong after the attack, draws before and after
        # being independent
        "asr": float((before * (1 - after)).sum() / before.sum()) if before.sum() > 0 else None,
        "balanced_accuracy": statistics.balanced_accuracy(after, y, n_classes),
        "auc": statistics.auc(probabilities, y),
        "most_predicted_share": statistics.most_predicted_share(fresh.vote[known, t], n_classes),
        "not_finite": int(statistics.not_finite(clean_probabilities, probabilities).sum()),
    }


Outcomes = tuple[NDArray[np.float32], NDArray[np.float32]]


def abstention(
    clean: Outcomes, robust: Outcomes, groups: NDArray[Any], distinct: int
) -> dict[str, Any]:
    """How many predictions a victim that may abstain answers, and how many of those are right.

    Args:
        clean, robust: (n,) fraction of draws that are right or rejected, and that are rejected.
        groups: (n,) equal for samples of one patient.
        distinct: images behind the samples.
    """
    found: dict[str, Any] = {}
    for name, (safe, rejected) in (("clean", clean), ("robust", robust)):
        answered = 1 - rejected
        coverage, right = float(answered.mean()), float((safe - rejected).sum())
        n = min(statistics.effective_n(answered, groups), distinct)
        some = answered > 0
        accuracy = right / float(answered.sum()) if some.any() else None
        found |= {
            f"{name}_coverage": coverage,
            f"{name}_coverage_interval": list(statistics.wilson(coverage, n)),
            f"{name}_answered": accuracy,
            f"{name}_answered_interval": [0.0, 1.0],
        }
        if accuracy is not None:
            each = (safe - rejected)[some] / answered[some]
            n = min(statistics.effective_n(each, groups[some]), distinct)
            found[f"{name}_answered_interval"] = list(statistics.wilson(accuracy, n))
    return found


def minimal_norm(
    smallest: NDArray[np.float32], clean: NDArray[np.float32], threat: Threat
) -> MinimalNorm:
    """Median and quartiles of the size of the smallest perturbations that break every attacked
    task, and robust accuracy against their size.

    Sizes are the largest of the modalities' radii, which keep their proportions. A sample that was
    never right has size 0; a quantile is None when so many samples were not broken at all. At
    most 21 radii, up to the largest finite size. Of a sample, no more stands than was right on
    clean images: a task that was wrong from the start has size 0 and counts once.

    Args:
        smallest: (n, attacked tasks) size of the smallest perturbation that breaks 1, 2, ... of the
            tasks; infinite where none was found.
        clean: (n,) fraction of draws and attacked tasks that are right on clean images.
    """
    broken = smallest[:, -1]
    median = float(np.median(broken))
    # of two sizes the larger: between one and infinity there is none
    quartiles = np.quantile(broken, (0.25, 0.75), method="higher").tolist()
    finite = broken[np.isfinite(broken)]
    largest = float(finite.max()) if len(finite) else 0.0
    radii = np.linspace(0, largest, 21) if largest > 0 else np.zeros(1)
    curve = []
    for radius in radii:
        standing = np.minimum(clean, (smallest > radius).mean(1))
        curve.append([float(radius), float(standing.mean())])
    return {
        "norm": threat.norm,
        "median": median if np.isfinite(median) else None,
        "quartiles": [size if np.isfinite(size) else None for size in quartiles],
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
    """Share of goals, over samples and attacked tasks, that most draws predict.

    Args:
        goals: (n, T), -1 where there is nothing to aim at.
        vote: (n, T) class that most draws predict.
    """
    aimed = goals[:, list(tasks)] >= 0
    reached = (vote[:, list(tasks)] == goals[:, list(tasks)]) & aimed
    return float(reached.sum() / aimed.sum()) if aimed.any() else None
