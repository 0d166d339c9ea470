"""Every sign that an attack failed, by attacks of its own on a few dozen samples
(`medrobust diagnose`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med import statistics
from robustbench_med.attacks import ATTACKS, Streams, Threat, View, complete
from robustbench_med.data import Samples
from robustbench_med.evaluation.batching import drawn, together
from robustbench_med.evaluation.signs import (
    GRADIENT_SAMPLES,
    Sign,
    beaten,
    beats_noise,
    bounds,
    converged,
    logit_scale,
    monotone,
    randomness,
    silent_success,
    start_gradient,
    tolerance_of,
    trivial,
    zero_gradient,
)
from robustbench_med.evaluation.types import Clean, Drawing, Setting, Source
from robustbench_med.models.trial import hands_out_probabilities


@dataclass
class Trial:
    """Samples that are attacked again and again, `setting.batch_size` at a time."""

    view: View
    x: Tensor
    y: Tensor
    ids: list[str]
    threat: Threat
    setting: Setting
    drawing: Drawing

    def attack(
        self,
        name: str,
        threat: Threat | None = None,
        *,
        sources: Sequence[Source] = (),
        **given: Any,
    ) -> Tensor:
        """Adversarials of a native attack; parameters it does not have are left out."""
        known = complete(name, {})
        shapes = [s.shape for s in self.view.segments]
        views = [(source.view(shapes, self.setting), source.drawing) for source in sources]
        extra: dict[str, Any] = {"sources": [view for view, _ in views]} if views else {}
        given = complete(name, {key: value for key, value in given.items() if key in known})
        parts = []
        for rows in self.batches(whole=any(drawing == "batch" for _, drawing in views)):
            streams = Streams.seeded(self.setting.seed, [self.ids[i] for i in rows], name)
            with self.drawn(rows, "diagnose", name, sources=views):
                moved = ATTACKS[name](
                    self.view,
                    self.x[rows],
                    self.y[rows],
                    threat or self.threat,
                    streams,
                    **given,
                    **extra,
                )
            parts.append(moved.detach())
        return torch.cat(parts)

    def robust(self, x: Tensor, threat: Threat | None = None) -> float:
        """Robust accuracy on fresh draws, mean over samples and attacked tasks."""
        parts = []
        for rows in self.batches():
            with self.drawn(rows, "diagnose", "fresh"):
                parts.append(self.view.standing(x[rows], self.y[rows], threat or self.threat))
        return float(torch.cat(parts).mean())

    def batches(self, *, whole: bool = False) -> Iterator[Any]:
        """Rows, a batch at a time; `whole`: in chunks though this victim does not ask for them."""
        n = len(self.x)
        return together(np.arange(n), n, self.setting, whole=whole or self.drawing == "batch")

    def drawn(
        self, rows: Any, *purpose: object, sources: Sequence[tuple[View, Drawing]] = ()
    ) -> AbstractContextManager[None]:
        """`evaluation.drawn` of these rows."""
        return drawn(
            self.view, self.drawing, self.setting, self.ids, rows, *purpose, sources=sources
        )


def diagnose(
    victim: nn.Module,
    samples: Samples,
    clean: Clean,
    threat: Threat,
    setting: Setting,
    *,
    sources: Sequence[Source] = (),
    steps: int = 20,
    queries: int = 500,
    eot: int = 4,
    tick: Callable[[str], None] = lambda stage: None,
) -> list[Sign]:
    """All signs, of PGD under one threat model, on the given samples (a few dozen are enough).

    Args:
        clean: the clean pass on these samples.
        sources: sibling victims for the transfer sign; without one it is left out.
        steps: PGD steps; twice as many are tried too.
        queries: of the square attack.
        eot: draws per gradient for a random victim; 1 and 32, or twice as many if that is more, are
            tried too.
        tick: called with the name of each stage that begins.
    """
    tasks = list(threat.tasks)
    shapes = [tuple(m.shape[1:]) for m in samples.batch([0])]
    view = View(victim, shapes, draws=clean.draws, batch_draws=setting.batch_draws)  # type: ignore[arg-type]
    labels = samples.labels
    x, y = (
        view.pack(samples.batch(range(len(samples)))).to(setting.device),
        labels.to(setting.device),
    )
    trial = Trial(view, x, y, samples.ids, threat, setting, clean.drawing)
    tolerance = tolerance_of(len(samples))
    random = clean.stochastic
    settings: dict[str, Any] = {
        "steps": steps,
        "step_size": 2.5 / steps,
        "eot": eot if random else 1,
        "keep": "last" if random else "best",
    }

    tick("gradients")
    classes = [p.shape[1] for p in clean.probabilities]
    signs = [
        trivial(
            [
                statistics.trivial(
                    clean.right[:, t], clean.vote[:, t], labels[:, t].numpy(), classes[t]
                )
                for t in tasks
            ]
        ),
        zero_gradient(
            start_gradient(
                victim,
                samples,
                np.arange(min(len(samples), GRADIENT_SAMPLES)),
                threat,
                clean,
                setting,
            )
        ),
    ]
    tick("noise")
    noise = trial.robust(trial.attack("noise"))
    tick("pgd")
    adversarial = trial.attack("pgd", **settings)
    white = trial.robust(adversarial)
    signs.append(beats_noise(noise, white, tolerance))
    tick("twice the steps")
    longer = trial.robust(
        trial.attack("pgd", **{**settings, "steps": 2 * steps, "step_size": 1.25 / steps})
    )
    signs.append(converged(white, longer, tolerance))
    tick("margin loss")
    margin = trial.robust(trial.attack("pgd", **settings, loss="margin"))
    largest = [clean.probabilities[t].max(1) for t in tasks]
    signs.append(
        logit_scale(largest, white - margin, tolerance, clamped=hands_out_probabilities(victim))
    )
    if not random:
        tick("last iterate")
        signs.append(
            silent_success(
                trial.robust(trial.attack("pgd", **{**settings, "keep": "last"})) - white, tolerance
            )
        )
    tick("radii")
    signs.append(radii_sign(trial, settings, white, tolerance))
    tick("square")
    square = trial.robust(trial.attack("square", queries=queries, eot=settings["eot"]))
    signs.append(beaten("black box beats white box", "square", white, square, tolerance))
    if sources:
        tick("transfer")
        moved = trial.robust(
            trial.attack(
                "transfer", sources=sources, steps=steps, step_size=2.5 / steps, eot=settings["eot"]
            )
        )
        signs.append(beaten("transfer beats white box", "transfer", white, moved, tolerance))
    if random:
        tick("draws")
        most = max(32, 2 * eot)
        one, many = (
            trial.robust(trial.attack("pgd", **{**settings, "eot": draws})) for draws in (1, most)
        )
        signs.append(randomness(one, white, many, cosine(trial), tolerance, eot, most))
    tick("bounds")
    signs.append(bounds_sign(trial, adversarial, white, tolerance))
    return signs


def radii_sign(trial: Trial, settings: Mapping[str, Any], white: float, tolerance: float) -> Sign:
    """PGD at half, once, twice and four times the radius, and at radius 1, where only images bound
    it, for Linf.
    """
    threat, curve = trial.threat, []
    for factor in (0.5, 1.0, 2.0, 4.0):
        scaled = replace(threat, radii=tuple(factor * r for r in threat.radii))
        curve.append(
            (
                factor,
                white if factor == 1 else trial.robust(trial.attack("pgd", scaled, **settings)),
            )
        )
    unbounded = None
    if (
        threat.norm == "Linf"
        # each task alone, on the margin: losses that add up or saturate must not be what stops the
        # attack
    ):
        everything = replace(threat, radii=tuple(float(r > 0) for r in threat.radii))
        alone = [replace(everything, tasks=(t,)) for t in threat.tasks]
        unbounded = sum(
            trial.robust(trial.attack("pgd", one, **settings, loss="margin"), one) for one in alone
        ) / len(alone)
    return monotone(curve, unbounded, tolerance, everything_moves=min(threat.radii) > 0)


def bounds_sign(trial: Trial, adversarial: Tensor, white: float, tolerance: float) -> Sign:
    """Sizes, pixel range, and what rounding to 8 bits gives back."""
    radii = torch.tensor(trial.threat.radii)
    moved = trial.view.distances(adversarial, trial.x, trial.threat.norm).amax(0).cpu()
    ratio = float((moved[radii > 0] / radii[radii > 0]).max()) if (radii > 0).any() else 0.0
    rounded = trial.robust((adversarial * 255).round() / 255)
    return bounds(
        ratio, float(adversarial.min()), float(adversarial.max()), rounded - white, tolerance
    )


def cosine(trial: Trial) -> float:
    """Mean cosine between the gradients of two draws at the clean images."""
    pairs = []
    for rows in trial.batches():
        with trial.drawn(rows, "diagnose", "cosine"):
            pairs.append(
                [
                    trial.view.gradient(trial.x[rows], trial.y[rows], trial.threat).direction
                    for _ in range(2)
                ]
            )
    first, second = (torch.cat(draw) for draw in zip(*pairs, strict=True))
    value = float(torch.nn.functional.cosine_similarity(first, second, dim=1).mean())
    return value if math.isfinite(value) else 0.0
