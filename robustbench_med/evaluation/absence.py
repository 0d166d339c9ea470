"""What a victim makes of samples whose modality is replaced: by nothing, by the mean, by another
patient's.

No ball bounds this: it asks what a victim leans on, and what a clinic sees when a scan is missing
or was filed under another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med import statistics
from robustbench_med.data import Samples
from robustbench_med.evaluation.types import Clean

REVISION = 1
By = Literal["zero", "mean", "another patient"]
REPLACEMENTS: tuple[By, ...] = ("zero", "mean", "another patient")
"""What takes the place of a modality: zeros, which victims with stand-ins take for missing; the
mean of the samples that have it; that of a sample of another patient who has it, drawn from the
seed.
"""
BATCH = 256
"""Samples whose mean is taken at once."""


@dataclass(frozen=True)
class Replaced:
    """Samples of which one modality is another, with what an evaluation asks of `Samples`.

    Attributes:
        modality: number of the one that is replaced.
        stand_in: (C, H, W) in its place, or None: that of the samples `donors` (n,).
    """

    samples: Samples
    modality: int
    stand_in: Tensor | None
    donors: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def ids(self) -> list[str]:
        return self.samples.ids

    @property
    def labels(self) -> Tensor:
        return self.samples.labels

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Tensor]:
        """As `Samples.batch`."""
        x, index = self.samples.batch(rows), np.asarray(rows)
        x[self.modality] = (
            self.samples.batch(self.donors[index])[self.modality]
            if self.stand_in is None
            else self.stand_in.expand(len(index), -1, -1, -1).contiguous()
        )
        return x


def replaced(samples: Samples, modality: int, by: By, seed: int) -> Samples:
    """Samples of which one modality is replaced in every one."""
    donors = np.arange(len(samples))
    if by == "another patient":
        stand_in, donors = None, donors_of(samples, modality, seed)
    else:
        stand_in = mean_of(samples, modality)
        stand_in = torch.zeros_like(stand_in) if by == "zero" else stand_in
    return cast(Samples, Replaced(samples, modality, stand_in, donors))


def parts_of(samples: Samples, modality: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of one modality in parts, and which samples (b,) have it."""
    for start in range(0, len(samples), BATCH):
        x = samples.batch(np.arange(start, min(start + BATCH, len(samples))))[modality]
        yield x, x.flatten(1).any(1)


def mean_of(samples: Samples, modality: int) -> Tensor:
    """(C, H, W), the mean of the samples that have the modality."""
    total, n = torch.zeros(()).double(), 0
    for x, there in parts_of(samples, modality):
        total, n = total + x[there].double().sum(0), n + int(there.sum())
    return (total / max(n, 1)).float()


def donors_of(samples: Samples, modality: int, seed: int) -> NDArray[np.int64]:
    """(n,), for each sample another one of another patient who has the modality, each as equally
    often as may be; itself where there is nobody.
    """
    there = torch.cat([has for _, has in parts_of(samples, modality)]).numpy()
    patients = samples.label_groups[:, 0]
    order = np.random.default_rng([seed, modality]).permutation(len(samples))
    able = order[there[order]]
    donors, n = np.arange(len(samples)), len(able)
    if n == 0:
        return donors
    whose = patients[able]
    behind = np.arange(2 * n) + 1  # of each place of a circle the next of another patient
    for place in range(2 * n - 2, -1, -1):
        if whose[place % n] == whose[(place + 1) % n]:
            behind[place] = behind[place + 1]
    for place, row in enumerate(order):
        first = (place + 1) % n
        if whose[first] == patients[row]:
            first = behind[first] % n
        if whose[first] != patients[row]:
            donors[row] = able[first]
    return donors


def figures(samples: Samples, clean: Clean, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Accuracy, balanced accuracy and AUC of each task over its labelled samples, in a clean
    pass over samples whose labels and groups these are. Of a victim that may abstain what it
    rejects counts as right, and beside it stand coverage and the accuracy on what it answers.
    """
    rows = []
    for t, task in enumerate(tasks):
        labels = samples.labels.numpy()[:, t]
        known = labels >= 0
        right, y = clean.right[known, t], labels[known]
        n = statistics.effective_n(right, samples.label_groups[known, t])
        rate = float(right.mean())
        classes = clean.probabilities[t].shape[1]
        rows.append(
            {
                "task": task,
                "n": int(known.sum()),
                "accuracy": rate,
                "interval": list(statistics.wilson(rate, n)),
                "balanced_accuracy": statistics.balanced_accuracy(right, y, classes),
                "auc": statistics.auc(clean.probabilities[t][known], y),
                **_answers(right, clean, known, t),
            }
        )
    return rows


def _answers(
    right: NDArray[np.float32], clean: Clean, known: NDArray[np.bool_], task: int
) -> dict[str, float | None]:
    """Coverage and accuracy on what is answered; nothing of a victim that always answers."""
    if clean.rejected is None:
        return {}
    answered = 1 - clean.rejected[known, task]
    covered = float(answered.sum())
    hits = float((right - clean.rejected[known, task]).sum())
    return {"coverage": float(answered.mean()), "answered": hits / covered if covered else None}
