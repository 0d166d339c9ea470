"""What an evaluation is made of: the setting, the method, and what its passes found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.attacks import View

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


Tick = Callable[[int], None]
"""Called with the number of samples that one stage (clean pass, attack, fresh draws) has finished.
"""


@dataclass(frozen=True)
class Source:
    """A victim that `transfer` makes its adversarials on, and what trying it found
    (`probes.examine`).
    """

    victim: nn.Module
    stochastic: bool
    drawing: Drawing

    def view(self, shapes: Sequence[Any], setting: Setting) -> View:
        """As the attack sees it."""
        return View(
            self.victim,
            shapes,
            draws=setting.draws if self.stochastic and setting.protocol == "sound" else 1,
        )


@dataclass(frozen=True)
class Method:
    """An attack, complete: its name, who computes it, its keyword arguments, and what else it
    needs.
    """

    name: str
    parameters: Mapping[str, Any]
    engine: str = "native"
    sources: Sequence[Source] = ()
    """Victims that `transfer` makes its adversarials on."""
    goals: Tensor | None = None
    """(n, T) classes a targeted attack aims at; -1 where there is nothing to aim at."""
    found: dict[int, tuple[Any, float, float]] | None = None
    """By sample what an attack found before its radius, and its forward and backward passes: shared
    between the radii of a sweep; filled and read."""


@dataclass
class Clean:
    """The clean pass over all samples: shared by every attack on one victim under one setting."""

    stochastic: bool
    drawing: Drawing
    right: NDArray[np.float32]
    """(n, T) fraction of draws that are right; 0 where a task is not labelled."""
    vote: NDArray[np.int64]
    """(n, T) class most draws predict."""
    probabilities: list[NDArray[np.float32]]
    """Per task (n, classes): softmax, mean over draws."""
    draws: int
    passes: tuple[int, int]
    seconds: float


@dataclass
class Outcome:
    """One attacked cell, per sample and summed up."""

    figures: dict[str, Any]
    arrays: Arrays
    cost: dict[str, Any] = field(default_factory=dict)
