"""What draws that samples share make of a robust accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from scipy.special import stdtrit

from robustbench_med import statistics
from robustbench_med.reports.families import groups_of
from robustbench_med.store.record import Record


def worth_of_draws(record: Record, arrays: Mapping[str, NDArray[Any]], t: int) -> float:
    """What the independent samples behind a robust accuracy of task t are still worth because
    chunks share their draws: a factor, 1 where none does.
    """
    known_worth, samples, _ = _of_draws(record, arrays, t) or (1.0, 1.0, 0.0)
    return min(known_worth / samples, 1.0)


def share_of_draws(record: Record, arrays: Mapping[str, NDArray[Any]], t: int) -> float:
    """What draws that chunks share add to the variance of a robust accuracy p of task t, over
    p (1 - p); 0 where none is shared.

    That variance over p (1 - p) is one over the effective number of samples and draws together; the
    rest of it is that of the samples' fractions right (with Student's t, as the number has it).
    """
    found = _of_draws(record, arrays, t)
    if found is None:
        return 0.0
    known_worth, samples, of_samples = found
    return max(1 / known_worth - of_samples / samples, 0.0)


def _of_draws(
    record: Record, arrays: Mapping[str, NDArray[Any]], t: int
) -> tuple[float, float, float] | None:
    """Of a robust accuracy p of task t whose draws chunks share: its effective number of samples,
    the independent samples, and the variance of their fractions right over p (1 - p).
    """
    figures, groups = record.figures.tasks[t], groups_of(arrays, t)
    number, in_chunks = figures.n_effective_robust, record.spec.protocol.chunk is not None
    if not in_chunks or not number or groups is None:  # older ones do not say
        return None
    known = arrays["labels"][:, t] >= 0
    right = arrays["robust_right"][known, t]
    binomial = float(right.mean() * (1 - right.mean()))
    if len(right) < 2 or binomial == 0:
        return None
    samples = min(statistics.effective_n(right, groups[known]), figures.n_distinct)
    quantile = float(stdtrit(len(right) - 1, 0.975)) / statistics.normal_quantile(0.975)
    return number, samples, quantile**2 * min(float(right.var(ddof=1)) / binomial, 1.0)
