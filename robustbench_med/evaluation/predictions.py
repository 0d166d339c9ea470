"""What a victim predicts, over its draws: fractions right, majority votes, mean softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robustbench_med.attacks import View
from robustbench_med.evaluation.types import Predictions


def predict(view: View, x: Tensor, labels: Tensor) -> Predictions:
    """Predictions for a batch over the view's draws.

    A draw whose logits are not finite predicts no class (vote -1 where none does), and makes the
    sample's probabilities NaN.

    Args:
        x: (B, D) in [0, 1].
        labels: (B, T), -1 = not labelled.
    """
    y = labels.to(x.device)
    counts: list[Tensor] = []
    sums: list[Tensor] = []
    draws: list[Tensor] = []
    for logits_of_tasks in view.predictions(x):
        hits = []
        for t, logits in enumerate(logits_of_tasks):
            finite = logits.isfinite().all(1, keepdim=True)
            hit = torch.zeros_like(logits).scatter_(
                1, logits.argmax(1, keepdim=True), finite.to(logits.dtype)
            )
            hits.append(finite.squeeze(1) & (logits.argmax(1) == y[:, t]))
            probability = torch.where(finite, logits, torch.nan).softmax(1)
            if len(counts) <= t:
                counts.append(hit)
                sums.append(probability)
            else:
                counts[t] += hit
                sums[t] += probability
        draws.append(torch.stack(hits, 1))
    draws_right = torch.stack(draws)
    vote = [torch.where(count.any(1), count.argmax(1), -1) for count in counts]
    return Predictions(
        (draws_right.sum(0) / view.draws).cpu().numpy(),
        torch.stack(vote, 1).cpu().numpy(),
        [(total / view.draws).cpu().numpy() for total in sums],
        draws_right.cpu().numpy(),
    )


def join(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several batches as one."""
    by_task = zip(*(part.probabilities for part in parts), strict=True)
    return Predictions(
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.vote for part in parts]),
        [np.concatenate(task) for task in by_task],
        np.concatenate([part.draws_right for part in parts], 1),
    )
