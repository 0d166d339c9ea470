"""What an evaluation is made of: the setting, the method, and what its passes measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.attacks import Minimal, Ray, View

ProtocolName = Literal["sound", "release"]


Drawing = Literal["none", "sample", "batch"]
"""What a prediction depends on besides its sample: nothing; numbers drawn for that sample alone
(the victim takes `generators`); or the batch it stands in, because the victim draws for it as a
whole or because its samples look at each other."""


@dataclass(frozen=True)
class Setting:
    """How to evaluate: `draws` is K, passes per prediction of a stochastic victim."""

    protocol: ProtocolName
    draws: int
    seed: int
    device: torch.device
    batch_size: int
    batch_draws: int = 1
    """Draws of one EOT gradient that share a batch."""
    chunk: int = 32
    """Samples that stay together from start to end where predictions depend on the batch;
    `batch_size` is of no effect there.
    """


Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TransferSource:
    """A victim that `transfer` makes its adversarials on, and what trying it has shown
    (`probes.examine`).
    """

    victim: nn.Module
    stochastic: bool
    drawing: Drawing

    def view(self, shapes: Sequence[tuple[int, int, int]], setting: Setting) -> View:
        """As the attack sees it; `shapes`: (C, H, W) of each modality."""
        draws = setting.draws if self.stochastic and setting.protocol == "sound" else 1
        return View(self.victim, shapes, draws=draws)


class Searched(NamedTuple):
    """What an attack found before its radius for one sample, and the passes it took."""

    result: Minimal | Ray
    forward: float
    backward: float


@dataclass(frozen=True)
class Method:
    """An attack, complete: its name, who computes it, its keyword arguments, and what else it
    needs.
    """

    name: str
    parameters: Mapping[str, Any]
    engine: str = "native"
    sources: Sequence[TransferSource] = ()
    """Victims that `transfer` makes its adversarials on."""
    goals: Tensor | None = None
    """(n, T) classes a targeted attack aims at; -1 where there is nothing to aim at."""
    sweep: dict[int, Searched] | None = None
    """What an attack found before its radius, by sample: shared between the radii of a sweep;
    filled and read.
    """


@dataclass(frozen=True)
class Predictions:
    """What a victim predicts for n samples, over its draws."""

    right: NDArray[np.float32]
    """(n, T) fraction of draws that are right; 0 where a task is not labelled."""
    vote: NDArray[np.int64]
    """(n, T) class most draws predict; -1 where none is finite."""
    probabilities: list[NDArray[np.float32]]
    """Per task (n, classes): softmax, mean over draws; NaN where a draw is not finite."""


@dataclass(frozen=True)
class Clean(Predictions):
    """The clean pass over all samples: shared by every attack on one victim under one setting."""

    stochastic: bool
    drawing: Drawing
    draws: int
    passes: tuple[int, int]
    seconds: float


@dataclass(frozen=True)
class Judged(Predictions):
    """What the victim predicts for attacked samples, on fresh draws."""

    vote_right: NDArray[np.bool_]
    """(n, T) whether most draws predict the label."""


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


class MinimalNorm(TypedDict):
    """Sizes of the smallest perturbations of a minimal-norm attack (`figures.minimal_norm`)."""

    norm: str
    median: float | None
    curve: list[list[float]]
    not_found: int


class ParticularFigures(TypedDict):
    """Figures that some attacks have: minimal-norm ones, those along a gradient, targeted ones."""

    minimal_norm: NotRequired[MinimalNorm]
    attack_loss: NotRequired[list[float | None]]
    target_rate: NotRequired[float | None]


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


class AttackCost(TypedDict):
    """What an attack cost: passes counted in samples, seconds of wall time."""

    attack_forward: int
    attack_backward: int
    attack_forward_per_sample: float
    attack_backward_per_sample: float
    evaluation_forward: int
    attacked_samples: int
    nonfinite_gradients: int
    seconds: float
    clean_seconds: float


@dataclass(frozen=True)
class Outcome:
    """One attacked cell: summed up, per sample, and what it cost."""

    figures: Figures
    arrays: Arrays
    cost: AttackCost
