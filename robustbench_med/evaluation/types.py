"""What an evaluation is made of: the setting, the method, and what its passes measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.attacks import Minimal, PassCount, Queries, Ray, Threat, View
from robustbench_med.data import Samples
from robustbench_med.evaluation.figure_types import Figures
from robustbench_med.naming import CONTROL, OWN_THREAT, Acceleration, Norm

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
    max_queries: int | None = None
    """Queries of a black box a sample, after which an attack hears nothing new; None: no cap."""
    accelerate: tuple[Acceleration, ...] = ()
    """How an attack's passes are computed faster (`attacks.accelerated`)."""


Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TransferSource:
    """A victim that `transfer` makes its adversarials on, and what trying it has shown
    (`probes.examine`).
    """

    victim: nn.Module
    stochastic: bool
    drawing: Drawing
    answers: int = 0
    """Images that the attacked victim was asked about to make it."""

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
class Effort:
    """When a search for the strongest attack stops.

    Args:
        name: "auto": once two rounds along gradients, of different kinds, take less than the
            tolerance; "max": goes on from there for ten times the passes.
        max_passes: gradient passes an attacked sample, after which `auto` stops anyway.
        max_queries: forward passes of black boxes an attacked sample.
    """

    name: Literal["auto", "max"]
    max_passes: int
    max_queries: int = 5000


@dataclass(frozen=True)
class RoundRan:
    """One round of a search, as it ran.

    Attributes:
        kind, attack, parameters, why: see `attacks.adaptive.Round`.
        passes, queries: asked for an attacked sample so far, this round's among them.
        changed: samples that keep this round's candidate.
        taken, error: robust accuracy that it took, and its standard error over draws.
        left: robust accuracy after it.
    """

    kind: str
    attack: str
    parameters: Mapping[str, Any]
    why: str
    passes: float
    queries: float
    changed: int
    taken: float
    error: float
    left: float


@dataclass(frozen=True)
class SearchRan:
    """How a search went.

    Attributes:
        effort: "auto" or "max".
        outcome: "converged", "capped" by its budget, or "spent" (max).
        next_passes: the budget to try next, where it was capped.
        tolerance: what the last two rounds took less than, where it converged.
        rounds: in their order.
        left_out: attacks that are none of the rounds, and why, of a black box.
        cannot_know: what such an attack cannot find out, of a black box, in words.
    """

    effort: Literal["auto", "max"]
    outcome: str
    next_passes: int | None
    tolerance: float
    rounds: tuple[RoundRan, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    cannot_know: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As a record holds it: what is of black boxes is absent of others."""
        of_boxes = ("left_out", "cannot_know")
        told = asdict(self).items()
        return {name: value for name, value in told if value or name not in of_boxes}


@dataclass(frozen=True)
class Candidates:
    """Adversarials that an earlier record of a chain hands on.

    Attributes:
        adversarials: flat (D,) on the CPU, by sample.
        afresh: most samples to be attacked all the same, to see whether the attack does as well.
    """

    adversarials: Mapping[int, Tensor]
    afresh: int


@dataclass(frozen=True)
class Carried:
    """What became of candidates that break every attacked task here too.

    Attributes:
        n: samples that were not attacked.
        afresh: samples that were attacked all the same.
        withstood: of these, how many the attack by itself did not break.
    """

    n: int
    afresh: int
    withstood: int


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
    effort: Effort | None = None
    """When a search that this attack begins stops; None: the attack as it is, once."""
    candidates: Candidates | None = None
    """Adversarials of the record before in a chain; None: there is none."""

    @property
    def is_ours(self) -> bool:
        """Whether it is an attack that asks the victim through a view, no engine's."""
        return self.engine in ("native", OWN_THREAT) and self.name != CONTROL


@dataclass(frozen=True)
class Predictions:
    """What a victim predicts for n samples, over its draws."""

    right: NDArray[np.float32]
    """(n, T) fraction of draws that are right; 0 where a task is not labelled."""
    vote: NDArray[np.int64]
    """(n, T) class most draws predict; -1 where none is finite."""
    probabilities: list[NDArray[np.float32]]
    """Per task (n, classes): softmax, mean over draws; NaN where a draw is not finite."""
    draws_right: NDArray[np.bool_]
    """(K, n, T) whether a draw is right."""
    rejected: NDArray[np.float32] | None = field(default=None, kw_only=True)
    """(n, T) fraction of draws rejected, right above; None of a victim that always answers."""


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


@dataclass(frozen=True)
class AttackPass:
    """What one attack pass is about: who is attacked on what, and how."""

    view: View
    samples: Samples
    clean: Clean
    threat: Threat
    method: Method
    setting: Setting


@dataclass
class Attacked:
    """What the attack left behind."""

    distances: dict[Norm, NDArray[np.float32]]
    """(n, M) by norm: how far each modality was moved; 0: not attacked. L0 counts as the threat."""
    smallest: NDArray[np.float32] | None
    """(n, attacked tasks), of a minimal-norm attack: size of the smallest perturbation that breaks
    1, 2, ... of the tasks; 0 where a sample was not attacked.
    """
    adversarials: dict[int, Tensor] = field(default_factory=dict)
    """Flat adversarials (D,) on the CPU, by sample; one missing was not attacked."""
    losses: list[NDArray[np.float32]] = field(default_factory=list)
    """What attacks that step along a gradient ascended, a batch each: (steps, attacked samples)."""
    quarters: list[NDArray[np.float32]] = field(default_factory=list)
    """Of attacks that note it, a batch each (2, attacked samples): the share standing after three
    quarters of the budget, and at its end, as the attack saw it.
    """
    computed: int = 0
    """Samples in the batches, passengers of a chunk among them."""
    reused: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """Forward and backward passes that another radius of the sweep has spent for this one too."""
    searched: PassCount = field(default_factory=PassCount)
    """Passes spent now."""
    ran: SearchRan | None = None
    """The rounds of a search."""
    queries: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    """Of a black box: (n,) queries of each sample, and (n, attacked tasks) queries until 1, 2, ...
    of its tasks were broken at once, -1: never; None of other victims.
    """
    counting: Queries | None = None
    """Who counted those of the last batch."""
    parts: NDArray[np.int64] | None = None
    """(n,) 0 or 1, of a universal perturbation: that of part 0 was made on part 1; else None."""


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
    challenge_passes: NotRequired[int]
    challenge_seconds: NotRequired[float]


@dataclass(frozen=True)
class Challenge:
    """What a short attack of another kind took of what the attack of a cell had left.

    Attributes:
        challenger: what was tried, as readers see it: "square", "margin loss", ...
        family: "gradient" or "black box".
        n: samples tried, all of them left by the attack.
        broken: ids of those it broke. Of a random victim: whose share right fell on fresh draws.
        taken: robust accuracy of all samples of the cell that this takes at least: the sum over the
            samples tried of their share right before less after, over the number of samples of the
            cell; on draws that chose nothing.
        bound: one-sided lower bound of `taken` at 99 %, corrected for the number of challengers;
            equal to it where the victim is deterministic.
        passes: forward and backward passes of the challenger, in samples, without the fresh draws
            that measure a random victim.
        radius: 1 where only images bound the challenger, whose successes then take nothing
            (`taken` is 0): a sample it cannot break shows that such an attack does not work.
            None: the radii of the cell.
        left: of each of `broken` the share of its attacked tasks that still stands; None where only
            images bounded the challenger.
    """

    challenger: str
    family: Literal["gradient", "black box"]
    n: int
    broken: tuple[str, ...]
    taken: float
    bound: float
    passes: int
    radius: float | None = None
    left: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """One attacked cell: summed up, per sample, and what it cost."""

    figures: Figures
    arrays: Arrays
    cost: AttackCost
    search: SearchRan | None = None
    adversarials: Mapping[int, Tensor] = field(default_factory=dict)
    """Flat adversarials (D,) on the CPU, by sample; one that is missing was not attacked."""
    quarters: NDArray[np.float32] | None = None
    """(2, attacked samples): see `Attacked.quarters`; None where the attack noted nothing."""
    carried: Carried | None = None
    """Samples that were not attacked; None where there were no candidates."""
