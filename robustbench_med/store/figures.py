"""Figures of a record: of every task, and means over those attacked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from robustbench_med.naming import Norm
from robustbench_med.store.parts import Interval, Number, Part, Share


class Abstention(Part):
    """How much a victim with a reject option answers, and how much of that is right."""

    clean_coverage: Share = Field(description="share of predictions that it answers")
    clean_coverage_interval: Interval
    clean_answered: Share | None = Field(description="accuracy on what it answers")
    clean_answered_interval: Interval
    robust_coverage: Share
    robust_coverage_interval: Interval
    robust_answered: Share | None
    robust_answered_interval: Interval


class TaskFigures(Part):
    """Figures of one task over its labelled samples."""

    n: int
    n_distinct: int
    n_groups: int | None = Field(
        None, description="patients, or what else the card groups by; images where it names nothing"
    )
    n_effective_clean: Number | None = Field(
        None, description="independent samples that `clean` is worth: its interval counts these"
    )
    n_effective_robust: Number | None = Field(None, description="the same of `robust`")
    class_samples: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="labelled samples of each class, in the order of `names.classes`",
    )
    clean: Share
    clean_interval: Interval
    clean_vote: Share
    clean_balanced_accuracy: Share
    clean_auc: Share | None
    trivial: str | None = Field(
        description="why the victim is no better than chance at this task, or null"
    )
    robust: Share
    robust_interval: Interval
    robust_vote: Share
    asr: Share | None
    balanced_accuracy: Share
    auc: Share | None
    most_predicted_share: Share
    abstention: Abstention | None = Field(
        None,
        description="of a victim that may abstain; `clean` and `robust` then count what it rejects"
        " as right: 1 - robust is the share wrong and answered",
    )
    not_finite: int = Field(
        0,
        ge=0,
        description=(
            "samples with NaN or infinite logits before or after the attack; such are never right"
        ),
    )

    def independent(self, figure: Literal["clean", "robust"]) -> float:
        """The effective number of samples behind a figure; distinct images where their groups are
        not known.
        """
        known = self.n_effective_clean if figure == "clean" else self.n_effective_robust
        return float(self.n_distinct if known is None else known)


class MinimalNorm(Part):
    """Perturbation sizes of a minimal-norm attack: median, and [radius, robust accuracy] pairs."""

    norm: Norm | None = Field(None, description="in which the sizes are measured")
    median: Number | None
    quartiles: list[Number | None] | None = Field(
        None, description="sizes that a quarter and three quarters of the samples do not withstand"
    )
    curve: list[list[Number]]
    not_found: int | None = Field(
        None, ge=0, description="samples that no size was found to break at every attacked task"
    )


class QueryFigures(Part):
    """Queries of a black box: a sample's, without those that asked the same again."""

    cap: int | None = Field(
        None, ge=1, description="after which nothing more was asked; null: none"
    )
    total: int = Field(ge=0, description="of all attacked samples")
    median: Number = Field(description="of an attacked sample")
    most: int = Field(ge=0, description="of one sample")
    curve: list[list[Number]] = Field(
        description="[queries, robust accuracy as the attack saw it after so many of each sample]"
    )
    surrogate: int | None = Field(
        None,
        ge=1,
        description="images of other samples that it was asked about besides, once, to train a"
        " surrogate; absent: none",
    )


class Unflipped(Part):
    """Samples of several findings of which the attack flipped none, or fewer than it wanted."""

    fewer_than: int = Field(ge=1, description="right predictions that had to become wrong: 1, or k")
    n: int = Field(ge=0, description="samples with a right prediction before the attack")
    share: Share
    interval: Interval


class Figures(Part):
    """Means over the attacked tasks, and every task."""

    tasks: list[TaskFigures] = Field(min_length=1)
    minimal_norm: MinimalNorm | None = None
    queries: QueryFigures | None = Field(None, description="of attacks on black boxes")
    unflipped: Unflipped | None = Field(
        None, description="of several findings, and where the attacker chose among the tasks"
    )
    attack_loss: list[Number | None] | None = Field(
        None,
        description=(
            "of attacks that step along a gradient, in their first run (restart, likeliest target,"
            " member of autoattack): what they ascend before each step, summed over the attacked"
            " tasks, mean over the attacked samples; a sample that fell keeps its last"
        ),
    )
    target_rate: Share | None = Field(
        None,
        description=(
            "of targeted attacks: share of the classes aimed at that most draws predict, over"
            " samples and attacked tasks"
        ),
    )
    not_finite: int = Field(
        0, ge=0, description="samples with NaN or infinite logits at an attacked task"
    )
    clean: Share
    clean_vote: Share
    robust: Share
    robust_vote: Share
    asr: Share | None
    balanced_accuracy: Share
    auc: Share | None
    clean_interval: Interval
    robust_interval: Interval
