"""How a training stands on its validation data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med import statistics
from robustbench_med.attacks import seeded
from robustbench_med.data import Dataset, Samples
from robustbench_med.evaluation.batching import batches
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.evaluation.types import Setting
from robustbench_med.training.objectives import Objective, multitask_loss

ROBUST_VALIDATION = 128
"""Validation samples that an adversarial training attacks at every validation."""


class ValidationPass:
    """Loss, AUC and balanced accuracy of a pass over some samples, batch by batch."""

    def __init__(self, tasks: int) -> None:
        self.loss = 0.0
        self.n = 0
        self.probabilities: list[list[Tensor]] = [[] for _ in range(tasks)]
        self.labels: list[Tensor] = []

    def add(self, logits: Sequence[Tensor], y: Tensor) -> None:
        """Takes in the logits of the tasks, each (B, C), and labels (B, T), -1 for none."""
        self.loss += float(multitask_loss(tuple(logits), y)) * len(y)
        self.n += len(y)
        self.labels.append(y.cpu())
        for kept, z in zip(self.probabilities, logits, strict=True):
            kept.append(z.softmax(1).cpu())

    def point(self, prefix: str) -> dict[str, float]:
        """Loss, AUC and balanced accuracy, means over the tasks, with a prefix to their names; no
        AUC where no task has samples of every class.
        """
        areas = [area for p, y in self._tasks() if (area := statistics.auc(p, y)) is not None]
        balanced = [
            statistics.balanced_accuracy((p.argmax(1) == y).astype(float), y, p.shape[1])
            for p, y in self._tasks()
        ]
        point = {
            f"{prefix}_loss": self.loss / self.n,
            f"{prefix}_balanced_accuracy": float(np.mean(balanced)),
        }
        return point | ({f"{prefix}_auc": float(np.mean(areas))} if areas else {})

    def _tasks(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Probabilities (n, C) and labels (n,) of the labelled samples of each task."""
        labels = torch.cat(self.labels).numpy()
        for t, kept in enumerate(self.probabilities):
            known = labels[:, t] >= 0
            if known.any():
                yield torch.cat(kept).double().numpy()[known], labels[known, t]


@torch.no_grad()
def clean_validation(
    victim: nn.Module, samples: Samples, device: torch.device, seed: int
) -> dict[str, float]:
    """Multi-task loss, AUC and balanced accuracy (means over tasks) over a split in evaluation
    mode, one draw, always the same draw.
    """
    victim.eval()
    seen = ValidationPass(samples.labels.shape[1])
    with seeded(device, seed, "validation"):
        for rows in batches(np.arange(len(samples)), 128):
            x = [m.to(device) for m in samples.batch(rows)]
            seen.add(victim(*x), samples.labels[rows].to(device))
    return seen.point("val")


def robust_validation(
    victim: nn.Module, objective: Objective, samples: Samples, device: torch.device, seed: int
) -> dict[str, float] | None:
    """Loss, accuracy and balanced accuracy on perturbed validation images, by which an adversarial
    training picks its checkpoint; None where it is clean.

    Robust accuracy peaks long before the training ends (robust overfitting, arXiv 2002.11569). The
    first `ROBUST_VALIDATION` samples, one draw, always the same.
    """
    victim.eval()
    n = min(len(samples), ROBUST_VALIDATION)
    seen = ValidationPass(samples.labels.shape[1])
    accuracy = 0.0
    with seeded(device, seed, "robust validation"):
        for rows in batches(np.arange(n), 128):
            x, y = [m.to(device) for m in samples.batch(rows)], samples.labels[rows].to(device)
            perturbed = objective.validation(victim, x, y, int(rows[0]))
            if perturbed is None:
                return None
            with torch.no_grad():
                logits = victim(*perturbed)
                seen.add(logits, y)
                hits = torch.stack([z.argmax(1) == y[:, t] for t, z in enumerate(logits)], 1).sum(1)
                accuracy += float((hits / (y >= 0).sum(1).clamp_min(1)).sum()) / n
    return {"robust_val_accuracy": accuracy, **seen.point("robust_val")}


class ValidationFigures(TypedDict):
    """What a victim does on the validation split, of one task, as `checkpoints.Validation` checks
    it.
    """

    task: str
    accuracy: float
    balanced_accuracy: float
    auc: float | None
    most_predicted_share: float
    trivial: str | None
    published: dict[str, Any] | None


def validation_figures(
    victim: nn.Module, dataset: Dataset, device: torch.device, seed: int
) -> list[ValidationFigures]:
    """Per task on the validation split: accuracy, balanced accuracy, AUC, share of the most
    predicted class, why it is trivial, if it is, and what is published of the test part.
    """
    samples = dataset.splits["val"]
    setting = Setting("sound", 8, seed, device, 128)
    clean = clean_pass(
        victim.eval(),
        samples,
        setting,
        lambda _: None,
        stochastic=bool(getattr(victim, "stochastic", False)),
    )
    figures: list[ValidationFigures] = []
    tasks = zip(dataset.tasks, dataset.classes, dataset.references, strict=True)
    for t, (name, classes, published) in enumerate(tasks):
        y = samples.labels[:, t].numpy()
        known = y >= 0
        right, vote = clean.right[known, t], clean.vote[known, t]
        figures.append(
            {
                "task": name,
                "accuracy": float(right.mean()),
                "balanced_accuracy": statistics.balanced_accuracy(right, y[known], len(classes)),
                "auc": statistics.auc(clean.probabilities[t][known], y[known]),
                "most_predicted_share": statistics.most_predicted_share(vote, len(classes)),
                "trivial": (
                    statistics.trivial_finding(clean.probabilities[t][known], y[known])
                    if samples.findings[t]
                    else statistics.trivial(right, vote, y[known], len(classes))
                ),
                "published": None if published is None else published.model_dump(),
            }
        )
    return figures
