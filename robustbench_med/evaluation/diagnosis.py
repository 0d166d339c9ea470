"""Every sign that an attack failed, by attacks of its own on a few dozen samples
(`medrobust diagnose`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.attacks import ATTACKS, Streams, Threat, View, complete
from robustbench_med.data import Samples
from robustbench_med.evaluation import cell_signs, gradients, signs
from robustbench_med.evaluation.batching import drawn, shapes_of, together
from robustbench_med.evaluation.gradients import Probing
from robustbench_med.evaluation.signs import Sign
from robustbench_med.evaluation.types import Clean, Drawing, Method, Setting, TransferSource
from robustbench_med.models.trial import hands_out_probabilities


@dataclass(frozen=True)
class Effort:
    """How hard the attacks of a diagnosis try."""

    steps: int = 20
    """PGD steps; twice as many are tried too."""
    queries: int = 500
    """Queries of the square attack."""
    eot: int = 4
    """Draws per gradient for a random victim; 1 and 32, or twice as many if that is more, are tried
    too."""

    @property
    def most_draws(self) -> int:
        """The largest number of draws per gradient."""
        return max(32, 2 * self.eot)


def diagnose(
    victim: nn.Module,
    samples: Samples,
    clean: Clean,
    threat: Threat,
    setting: Setting,
    *,
    sources: Sequence[TransferSource] = (),
    effort: Effort | None = None,
    tick: Callable[[str], None] = lambda stage: None,
) -> list[Sign]:
    """All signs, of PGD under one threat model, on the given samples (a few dozen are enough).

    Args:
        victim: in evaluation mode, on the setting's device, parameters without gradients.
        clean: the clean pass on these samples under the same setting.
        threat: what the attacker may do: norm, a radius for each modality, the tasks aimed at.
        sources: sibling victims for the transfer sign; without one it is left out.
        effort: steps, queries and draws of the attacks; None: the usual ones.
        tick: called with the name of each stage that begins.

    Returns:
        The signs in the order of their stages.

    Example:
        signs = diagnose(victim, samples.head(64), clean, threat, setting)
        print(worst(signs), [sign.text for sign in signs if sign.verdict == "failed"])
    """
    view = View(victim, shapes_of(samples), draws=clean.draws, batch_draws=setting.batch_draws)
    x = view.pack(samples.batch(range(len(samples)))).to(setting.device)
    y = samples.labels.to(setting.device)
    trials = Trials(view, x, y, samples.ids, threat, setting, clean.drawing)
    diagnosis = Diagnosis(victim, samples, clean, trials, effort or Effort(), tick)
    results = [
        *diagnosis.path(),
        diagnosis.noise(),
        diagnosis.twice_the_steps(),
        diagnosis.logit_scale(),
        diagnosis.radii(),
    ]
    if threat.norm != "L0":  # there random search beats PGD on honest victims (arXiv 2006.12834)
        results.append(diagnosis.square())
    if sources:
        results.append(diagnosis.transfer(sources))
    if clean.stochastic:
        results.append(diagnosis.draws())
    results.append(diagnosis.bounds())
    return results


@dataclass
class Trials:
    """Samples that are attacked again and again, `setting.batch_size` at a time."""

    view: View
    x: Tensor
    """(n, D) in [0, 1]."""
    y: Tensor
    """(n, T)."""
    ids: list[str]
    threat: Threat
    setting: Setting
    drawing: Drawing

    def attack(
        self,
        name: str,
        threat: Threat | None = None,
        *,
        sources: Sequence[TransferSource] = (),
        **parameters: Any,
    ) -> Tensor:
        """Adversarials (n, D) of a native attack; parameters it does not have are left out."""
        random = self.view.draws > 1
        known = complete(name, {})
        own = {key: value for key, value in parameters.items() if key in known}
        arguments: dict[str, Any] = complete(name, own, random=random)
        shapes = [segment.shape for segment in self.view.segments]
        views = [(source.view(shapes, self.setting), source.drawing) for source in sources]
        if views:
            arguments["sources"] = [view for view, _ in views]
        parts = []
        for rows in self.batches(whole=any(drawing == "batch" for _, drawing in views)):
            x, y = self.x[rows], self.y[rows]
            streams = Streams.seeded(
                self.setting.seed, [self.ids[i] for i in rows], name, device=x.device
            )
            with self.drawn(rows, "diagnose", name, sources=views):
                moved = ATTACKS[name](self.view, x, y, threat or self.threat, streams, **arguments)
            parts.append(moved.detach())
        return torch.cat(parts)

    def robust(self, x: Tensor, threat: Threat | None = None) -> float:
        """Robust accuracy of adversarials (n, D) on fresh draws, mean over samples and attacked
        tasks.
        """
        parts = []
        for rows in self.batches():
            with self.drawn(rows, "diagnose", "fresh"):
                parts.append(self.view.standing(x[rows], self.y[rows], threat or self.threat))
        return float(torch.cat(parts).mean())

    def distances(self, moved: Tensor) -> Tensor:
        """(n, M): sizes of the perturbations of adversarials (n, D)."""
        return torch.stack(self.view.sizes(moved, self.x, self.threat), 1).to(moved)

    def batches(self, *, whole: bool = False) -> Iterator[NDArray[np.int64]]:
        """Rows, a batch at a time; `whole`: in chunks though this victim does not ask for them."""
        n = len(self.x)
        return together(np.arange(n), n, self.setting, whole=whole or self.drawing == "batch")

    def drawn(
        self,
        rows: NDArray[np.int64],
        *purpose: object,
        sources: Sequence[tuple[View, Drawing]] = (),
    ) -> AbstractContextManager[None]:
        """`batching.drawn` of these rows."""
        return drawn(
            self.view, self.drawing, self.setting, self.ids, rows, *purpose, sources=sources
        )


@dataclass
class Diagnosis:
    """The signs of one victim under one threat model, a method each; PGD as it is usually run is
    computed once.
    """

    victim: nn.Module
    samples: Samples
    clean: Clean
    trials: Trials
    effort: Effort
    tick: Callable[[str], None]

    @property
    def tolerance(self) -> float:
        """Difference of robust accuracy that counts."""
        return signs.tolerance_of(len(self.samples))

    def pgd(self, threat: Threat | None = None, **changed: Any) -> Tensor:
        """Adversarials of PGD, with the usual parameters but for those that are changed."""
        return self.trials.attack("pgd", threat, **{**self.usual, "loss": self.loss, **changed})

    @property
    def usual(self) -> dict[str, Any]:
        """Parameters of PGD that are not its defaults against such a victim."""
        keep = "last" if self.clean.stochastic else "best"
        return {"steps": self.effort.steps, "eot": self.eot, "keep": keep}

    @property
    def eot(self) -> int:
        """Draws per gradient."""
        return self.effort.eot if self.clean.stochastic else 1

    @functools.cached_property
    def by_loss(self) -> dict[str, tuple[Tensor, float]]:
        """Adversarials (n, D) of PGD on each loss, and what they leave: cross-entropy and the
        margin of a deterministic victim, the margin of a random one.
        """
        found = {}
        for loss in ("margin",) if self.clean.stochastic else ("ce", "margin"):
            self.tick(f"pgd on {loss}")
            moved = self.trials.attack("pgd", **self.usual, loss=loss)
            found[loss] = moved, self.trials.robust(moved)
        return found

    @property
    def loss(self) -> str:
        """The loss that leaves least; the other signs are of the attack on this one, as they must
        not blame a victim for the other.
        """
        return min(self.by_loss, key=lambda loss: self.by_loss[loss][1])

    @property
    def adversarial(self) -> Tensor:
        """(n, D), of PGD as it is usually run."""
        return self.by_loss[self.loss][0]

    @property
    def white(self) -> float:
        """Robust accuracy under PGD as it is usually run."""
        return self.by_loss[self.loss][1]

    def path(self) -> list[Sign]:
        """Has the victim learned, and the signs of a cell on the path of PGD."""
        trials, moved = self.trials, self.adversarial.cpu()
        self.tick("gradients")
        threat, rows = trials.threat, gradients.rows_of(self.clean, trials.threat)
        probing = Probing(
            self.victim,
            self.samples,
            rows,
            {int(row): moved[row] for row in rows},
            threat,
            self.clean,
            trials.setting,
        )
        method = Method("pgd", self.usual | {"loss": self.loss})
        learned = cell_signs.of_learning(self.samples, self.clean, threat)
        return [learned, *cell_signs.on_the_path(probing, method, None, eot=self.eot)]

    def noise(self) -> Sign:
        """PGD against noise of the same radius."""
        self.tick("noise")
        noise = self.trials.robust(self.trials.attack("noise"))
        return signs.beats_noise(noise, self.white, self.tolerance)

    def twice_the_steps(self) -> Sign:
        """PGD with twice the steps of half the size."""
        self.tick("twice the steps")
        steps = 2 * self.effort.steps
        longer = self.trials.robust(self.pgd(steps=steps))
        return signs.converged(self.white, longer, self.tolerance)

    def logit_scale(self) -> Sign:
        """PGD on the margin, which does not depend on the logits' scale."""
        by_loss, lost = self.by_loss, None
        if "ce" in by_loss:
            lost = by_loss["ce"][1] - by_loss["margin"][1]
        largest = [self.clean.probabilities[t].max(1) for t in self.trials.threat.tasks]
        clamped = hands_out_probabilities(self.victim)
        scaled = lost is not None
        return signs.logit_scale(largest, lost, self.tolerance, scaled=scaled, clamped=clamped)

    def radii(self) -> Sign:
        """PGD at half, once, twice and four times the radius, and at radius 1, where only images
        bound it, for Linf.
        """
        self.tick("radii")
        threat, curve = self.trials.threat, []
        for factor in (0.5, 1.0, 2.0, 4.0):
            same = factor == 1
            robust = self.white if same else self.trials.robust(self.pgd(threat.scaled(factor)))
            curve.append((factor, robust))
        unbounded = self.unbounded() if threat.norm == "Linf" else None
        return signs.monotone(
            curve,
            unbounded,
            self.tolerance,
            everything_moves=min(threat.radii) > 0 and not threat.columns,
        )

    def unbounded(self) -> float:
        """Robust accuracy at radius 1, mean over the attacked tasks.

        Each task is attacked alone, on the margin: losses that add up or saturate must not be what
        stops the attack.
        """
        threat = self.trials.threat
        everything = threat.over(tuple(float(radius > 0) for radius in threat.radii))
        alone = [replace(everything, tasks=(t,)) for t in threat.tasks]
        robust = [self.trials.robust(self.pgd(one, loss="margin"), one) for one in alone]
        return sum(robust) / len(alone)

    def square(self) -> Sign:
        """A black box, which must not do better."""
        self.tick("square")
        square = self.trials.robust(
            self.trials.attack("square", queries=self.effort.queries, eot=self.eot)
        )
        return signs.beaten(
            "black box beats white box", "square", self.white, square, self.tolerance
        )

    def transfer(self, sources: Sequence[TransferSource]) -> Sign:
        """Adversarials of other victims, which must not do better."""
        self.tick("transfer")
        steps = self.effort.steps
        moved = self.trials.attack("transfer", sources=sources, steps=steps, eot=self.eot)
        return signs.beaten(
            "transfer beats white box",
            "transfer",
            self.white,
            self.trials.robust(moved),
            self.tolerance,
        )

    def draws(self) -> Sign:
        """PGD with one draw per gradient and with many, of a random victim."""
        self.tick("draws")
        most = self.effort.most_draws
        one, many = (self.trials.robust(self.pgd(eot=draws)) for draws in (1, most))
        return signs.randomness(one, self.white, many, self.tolerance, self.effort.eot, most)

    def bounds(self) -> Sign:
        """Sizes, pixel range, and what rounding to 8 bits gives back."""
        self.tick("bounds")
        trials, moved = self.trials, self.adversarial
        radii = torch.tensor(trials.threat.radii)
        size = trials.distances(moved).amax(0).cpu()
        ratio = float((size[radii > 0] / radii[radii > 0]).max()) if (radii > 0).any() else 0.0
        rounded = trials.robust((moved * 255).round() / 255)
        return signs.bounds(
            ratio, float(moved.min()), float(moved.max()), rounded - self.white, self.tolerance
        )
