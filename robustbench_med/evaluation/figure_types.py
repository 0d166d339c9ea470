"""Figures as an evaluation measures them, which `store.figures` checks."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class TaskFigures(TypedDict):
    """Figures of one task over its labelled samples, as `store.record.TaskFigures` checks them."""

    n: int
    n_distinct: int
    n_groups: int
    n_effective_clean: float
    n_effective_robust: float
    class_samples: list[int]
    clean: float
    clean_interval: list[float]
    clean_vote: float
    clean_balanced_accuracy: float
    clean_auc: float | None
    trivial: str | None
    robust: float
    robust_interval: list[float]
    robust_vote: float
    asr: float | None
    balanced_accuracy: float
    auc: float | None
    most_predicted_share: float
    not_finite: int
    abstention: NotRequired[dict[str, Any]]


class MinimalNorm(TypedDict):
    """Sizes of the smallest perturbations of a minimal-norm attack (`figures.minimal_norm`)."""

    norm: str
    median: float | None
    quartiles: list[float | None]
    curve: list[list[float]]
    not_found: int


class QueryFigures(TypedDict):
    """Queries of a black box (`figures.query_figures`)."""

    cap: int | None
    total: int
    median: float
    most: int
    curve: list[list[float]]
    surrogate: NotRequired[int]


class Unflipped(TypedDict):
    """Samples that the attack left as they were (`figures.unflipped`)."""

    fewer_than: int
    n: int
    share: float
    interval: list[float]


class ParticularFigures(TypedDict):
    """Figures that some attacks have: minimal-norm ones, those along a gradient, targeted ones."""

    minimal_norm: NotRequired[MinimalNorm]
    attack_loss: NotRequired[list[float | None]]
    target_rate: NotRequired[float | None]
    queries: NotRequired[QueryFigures]
    unflipped: NotRequired[Unflipped]


class Figures(ParticularFigures):
    """Figures of a cell: means over the attacked tasks, and every task, as `store.record.Figures`
    checks them.
    """

    tasks: list[TaskFigures]
    not_finite: int
    clean: float
    clean_vote: float
    robust: float
    robust_vote: float
    asr: float | None
    balanced_accuracy: float
    auc: float | None
    clean_interval: list[float]
    robust_interval: list[float]
