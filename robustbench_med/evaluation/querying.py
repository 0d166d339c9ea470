"""Queries of a black box: counted in an attack, and how far they go, as a curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import Queries, gives
from robustbench_med.evaluation.figure_types import Figures
from robustbench_med.evaluation.types import Attacked, AttackPass

POINTS = (1, 2, 5)
"""Of each power of ten: the queries at which the curve is drawn."""
Counts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""(n,) queries of each sample; (n, attacked tasks) queries until 1, 2, ... of its tasks were broken
at once, -1: never.
"""


def counted(case: AttackPass, x: Tensor, y: Tensor) -> Queries | None:
    """Who counts the queries of a batch where the victim is a black box."""
    if gives(case.view.victim) is None:
        return None
    most, random = case.setting.max_queries, case.view.random
    return Queries(x, y, case.threat, most=most, afresh=random)


def note(attacked: Attacked, targets: NDArray[np.int64], aimed: NDArray[np.bool_], n: int) -> None:
    """Adds the queries of a batch to what an attack left behind.

    Args:
        targets: numbers of the samples that were attacked.
        aimed: (B,) which of the batch they are.
        n: number of samples.
    """
    queries = attacked.counting
    if queries is None:
        return
    if attacked.queries is None:
        tasks = queries.broke.shape[1]
        attacked.queries = np.zeros(n, np.int64), np.full((n, tasks), -1, np.int64)
    attacked.queries[0][targets] = np.array(queries.asked)[aimed]
    attacked.queries[1][targets] = queries.broke.numpy()[aimed]


def together(before: Counts | None, now: Counts | None) -> Counts | None:
    """The queries of two attacks, one after another."""
    if before is None or now is None:
        return now if before is None else before
    (asked, broke), (more, later) = before, now
    later = np.where(later >= 0, later + asked[:, None], -1)
    first = np.where((broke < 0) | ((later >= 0) & (later < broke)), later, broke)
    return asked + more, first


def add_figures(figures: Figures, case: AttackPass, counts: Counts | None) -> None:
    """Adds how many queries there were, and robust accuracy against them as the attack saw it.

    A sample of which k tasks are broken counts as those left; no more of it stands than was right
    on clean images. At 0, and at 1, 2 and 5 times the powers of ten up to the most that a sample
    took.
    """
    if counts is None or not counts[0].any():
        return
    asked, broke = counts
    attacked = asked[asked > 0]
    most = int(asked.max(initial=0))
    right = case.clean.right[:, list(case.threat.tasks)].mean(1)
    grid = [m * 10**power for power in range(len(str(most))) for m in POINTS]
    curve = []
    for queries in (0, *(q for q in grid if q < most), *((most,) if most else ())):
        broken = ((broke >= 0) & (broke <= queries)).mean(1)
        standing = np.minimum(right, 1 - broken)
        curve.append([float(queries), float(standing.mean())])
    figures["queries"] = {
        "cap": case.setting.max_queries,
        "total": int(asked.sum()),
        "median": float(np.median(attacked)) if len(attacked) else 0.0,
        "most": most,
        "curve": curve,
    }
    if answers := sum(source.answers for source in case.method.sources):
        figures["queries"]["surrogate"] = answers


def arrays_of(counts: Counts | None) -> Mapping[str, NDArray[np.int64]]:
    """What is kept of every sample."""
    return {} if counts is None else dict(zip(("queries", "queries_to_break"), counts, strict=True))
