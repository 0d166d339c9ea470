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
    sample's probabilities NaN. Of a victim that may abstain a rejected draw is right: an attacker
    wants it wrong and answered; a score of rejection that is NaN is a logit that is not finite.

    Args:
        x: (B, D) in [0, 1].
        labels: (B, T), -1 = not labelled.
    """
    y = labels.to(x.device)
    counts: list[Tensor] = []
    sums: list[Tensor] = []
    draws: list[Tensor] = []
    silent = torch.zeros(len(x), len(view.class_counts), device=x.device)
    for logits_of_tasks in view.predictions(x):
        hits = []
        for t, every in enumerate(logits_of_tasks):
            logits = every[:, : view.class_counts[t]]
            finite = every.isfinite().all(1, keepdim=True)
            hit = torch.zeros_like(logits).scatter_(
                1, logits.argmax(1, keepdim=True), finite.to(logits.dtype)
            )
            found = finite.squeeze(1) & (logits.argmax(1) == y[:, t])
            if view.abstains:
                rejected = finite.squeeze(1) & (every[:, -1] > 0)
                silent[:, t] += rejected / view.draws
                found |= rejected
            hits.append(found)
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
        rejected=silent.cpu().numpy() if view.abstains else None,
    )


def join(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several batches as one."""
    by_task = zip(*(part.probabilities for part in parts), strict=True)
    return Predictions(
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.vote for part in parts]),
        [np.concatenate(task) for task in by_task],
        np.concatenate([part.draws_right for part in parts], 1),
        rejected=None
        if parts[0].rejected is None
        else np.concatenate([part.rejected for part in parts if part.rejected is not None]),
    )
