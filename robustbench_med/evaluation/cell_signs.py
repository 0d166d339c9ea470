"""The signs of one evaluation: what it left behind, and a few dozen passes over 16 samples along
its path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from robustbench_med import statistics
from robustbench_med.attacks import ATTACKS, Threat, entry_of, gives
from robustbench_med.data import Samples
from robustbench_med.evaluation import convergence, gradients, signs, stability
from robustbench_med.evaluation.gradients import Probing
from robustbench_med.evaluation.protocol import single_draw
from robustbench_med.evaluation.signs import Sign
from robustbench_med.evaluation.types import Carried, Clean, Method, Outcome, Setting
from robustbench_med.models.trial import hands_out_probabilities
from robustbench_med.naming import CONTROL, CORRUPTION
from robustbench_med.store import trust

WITHOUT_GRADIENTS = trust.BLACK_BOXES | {CONTROL}
"""Attacks that ask the victim for no gradient."""


def of_cell(
    victim: nn.Module,
    samples: Samples,
    clean: Clean,
    threat: Threat,
    method: Method,
    outcome: Outcome,
    setting: Setting,
    noise: float | None,
) -> list[Sign]:
    """The cheap signs of one evaluation.

    Args:
        victim: as it was attacked, by `method` within `threat`.
        clean: the clean pass on the samples.
        outcome: what the attack pass gave.
        noise: robust accuracy under the noise control of the same radius, where there is one.
    """
    seen = [of_learning(samples, clean, threat)]
    if method.engine == CORRUPTION:
        return seen
    attacks, by_gradient = method.name != CONTROL, follows_gradients(method, victim)
    if by_gradient:
        seen.append(of_scale(victim, clean, threat, method, outcome))
    if max(threat.radii) == 0:
        return seen
    radii, moved = np.array(threat.bounds(len(samples))), outcome.arrays[threat.norm.lower()]
    seen.append(signs.bounds(float((moved[radii > 0] / radii[radii > 0]).max()), 0.0, 1.0))
    if not attacks:
        return seen
    if noise is not None:
        tolerance = signs.tolerance_of(min(samples.distinct_labels[t] for t in threat.tasks))
        seen.append(signs.beats_noise(noise, outcome.figures["robust"], tolerance))
    judged = [outcome.arrays[f"robust_probabilities_{t}"] for t in range(samples.labels.shape[1])]
    rows = gradients.rows_of(clean, threat)
    probing = Probing(victim, samples, rows, outcome.adversarials, threat, clean, setting)
    seen += on_the_path(probing, method, judged, eot=eot_of(method, outcome))
    if by_gradient:
        cost = outcome.cost
        seen.append(signs.not_finite(cost["nonfinite_gradients"], cost["attack_backward"]))
    seen += convergence.of_cell(samples, clean, threat, method, outcome)
    if outcome.carried is not None and outcome.carried.afresh:
        seen.append(of_carrying(outcome.carried, len(samples)))
    if by_gradient and single_draw(clean, method, outcome.search):
        seen.append(signs.attacked_by_one_draw())
    return seen


def follows_gradients(method: Method, victim: nn.Module) -> bool:
    """Whether an attack may follow the victim's gradient: nobody sees that of a black box."""
    return method.name not in WITHOUT_GRADIENTS and gives(victim) is None


def of_carrying(carried: Carried, n: int) -> Sign:
    """Whether the attack breaks what it broke at a smaller radius, by the samples that it was given
    all the same: robust accuracy must not rise with the radius.

    Args:
        n: samples of the cell.
    """
    share = carried.withstood / carried.afresh
    rise, tolerance = share * (carried.n + carried.afresh) / n, signs.tolerance_of(n)
    lucky = carried.withstood < 2
    severity = signs.verdict(rise, tolerance, math.inf if lucky else 2 * tolerance)
    return Sign(
        "not monotone",
        severity,
        rise,
        f"{carried.withstood} of {carried.afresh} samples that a smaller radius broke withstood the"
        f" attack here: without them robust accuracy would be {100 * rise:.1f} points higher",
        "A larger ball holds the smaller one: the attack, not the victim, is what stops it.",
    )


def of_learning(samples: Samples, clean: Clean, threat: Threat) -> Sign:
    """Whether the victim has learned the attacked tasks, where the samples can tell."""
    reasons, unknown = [], []
    for t in threat.tasks:
        labels = samples.labels[:, t].numpy()
        known, n_classes = labels >= 0, clean.probabilities[t].shape[1]
        right, y = clean.right[known, t], labels[known]
        if samples.findings[t]:
            probabilities = clean.probabilities[t][known]
            reasons.append(statistics.trivial_finding(probabilities, y))
            unknown.append(statistics.finding_cannot_tell(probabilities, y))
            continue
        reasons.append(statistics.trivial(right, clean.vote[known, t], y, n_classes))
        unknown.append(statistics.cannot_tell(right, y, n_classes))
    return signs.trivial(reasons, unknown)


def of_scale(
    victim: nn.Module, clean: Clean, threat: Threat, method: Method, outcome: Outcome
) -> Sign:
    """Whether saturated logits can have stopped the attack that ran."""
    largest = [clean.probabilities[t].max(1) for t in threat.tasks]
    return signs.logit_scale(
        largest, scaled=ascends_scale(method, outcome), clamped=hands_out_probabilities(victim)
    )


OF_SOFTMAX = ("ce", "pma")
"""Losses that depend on the scale of the logits."""


def ascends_scale(method: Method, outcome: Outcome) -> bool:
    """Whether all that the attack ascended is flat where a softmax is one-hot."""
    if outcome.search is not None:
        rounds = [(each.attack, each.parameters) for each in outcome.search.rounds]
        return all(loss_of(attack, given) in OF_SOFTMAX for attack, given in rounds)
    if method.engine == "native" and method.name in ATTACKS:
        return loss_of(method.name, method.parameters) in OF_SOFTMAX
    return method.parameters.get("loss", "ce") in OF_SOFTMAX


def loss_of(attack: str, parameters: Mapping[str, object]) -> str:
    """The loss of a native attack; of those that let nobody choose one a margin."""
    entry = entry_of(attack)
    if entry.only_loss or entry.minimal or entry.ensemble or entry.escalates == "auto":
        return entry.only_loss or "margin"
    return str(parameters.get("loss", entry.parameters().get("loss", "ce")))


def eot_of(method: Method, outcome: Outcome) -> int:
    """Draws of a gradient; of a search the most that a round took."""
    rounds = () if outcome.search is None else outcome.search.rounds
    given = [method.parameters, *(each.parameters for each in rounds)]
    return max(int(parameters.get("eot", 1)) for parameters in given)


def on_the_path(
    probing: Probing,
    method: Method,
    judged: Sequence[NDArray[np.float32]] | None,
    *,
    eot: int,
) -> list[Sign]:
    """Signs at the clean images, half way and at the adversarials of an attack: of gradients where
    it followed some, and of a deterministic victim that its predictions are those of the images.

    Args:
        judged: as in `stability.examine`.
        eot: draws of a gradient.
    """
    seen = []
    if len(probing.rows) == 0:
        return []
    if follows_gradients(method, probing.victim) and probing.modalities:
        places = gradients.look(probing)
        seen += [signs.zero_gradient(places), signs.gradient_lies(places)]
        seen.append(signs.draws_disagree(gradients.disagreement(probing), eot))
    if probing.clean.drawing == "none":
        found = stability.examine(probing, judged)
        seen += [signs.not_of_the_image(found), signs.jumps(found)]
    return seen
