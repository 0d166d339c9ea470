"""Signs that an attack failed: each a figure, a verdict and what to do about it.

After Carlini et al. (arXiv 1902.06705), Tramer et al. (arXiv 2002.08347) and Pintor et al. (arXiv
2106.09947). `of_cell` looks at what one evaluation left behind and costs one gradient; `diagnose`
runs attacks of its own on a few dozen samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.attacks import Threat, View
from robustbench_med.data import Samples
from robustbench_med.evaluation.batching import drawn, shapes_of, together
from robustbench_med.evaluation.protocol import single_draw
from robustbench_med.evaluation.types import Clean, Method, Outcome, Setting
from robustbench_med.models.trial import hands_out_probabilities

Verdict = Literal["pass", "warn", "fail"]
ORDER: tuple[Verdict, ...] = ("pass", "warn", "fail")
POINTS = 0.02
"""Difference of robust accuracy that counts (2 points, arXiv 1902.06705 section 5.4), where the
samples can show it.
"""
UNBOUNDED = 0.05
"""Robust accuracy at radius 1 that no classifier has: any image can be made any other."""
ZERO_WARN, ZERO_FAIL = 0.05, 0.5
SATURATED_WARN, SATURATED_FAIL = 0.05, 0.5
RISING = 0.1
"""Share of the attack loss's rise in the last quarter of the steps: a steady climb has 25 %, an
attack that has arrived next to none.
"""
FEWEST_STEPS = 8
"""Below this a quarter is one step, whose rise says little."""
GRADIENT_SAMPLES = 16


@dataclass(frozen=True)
class Sign:
    """One sign: `figure` is what was measured, None where it could not be."""

    sign: str
    verdict: Verdict
    figure: float | None
    text: str
    advice: str


def trust(signs: Sequence[Sign]) -> Verdict:
    """The worst verdict."""
    return max((sign.verdict for sign in signs), key=ORDER.index, default="pass")


def plain(signs: Sequence[Sign]) -> list[dict[str, Any]]:
    """Signs for a record, the worst first."""
    return [asdict(sign) for sign in sorted(signs, key=lambda sign: -ORDER.index(sign.verdict))]


def verdict(value: float, warn: float, fail: float) -> Verdict:
    """Where a figure lies that should be small."""
    return "fail" if value > fail else "warn" if value > warn else "pass"


# --- signs ----------------------------------------------------------------------------------------


def trivial(reasons: Sequence[str | None]) -> Sign:
    """A victim that is no better than a constant cannot be broken. `reasons`: `statistics.trivial`
    of each attacked task.
    """
    at_chance = [reason for reason in reasons if reason]
    text = "; ".join(at_chance) or "clean balanced accuracy is above chance and no class takes over"
    return Sign(
        "trivial victim",
        "fail" if at_chance else "pass",
        len(at_chance) / max(len(reasons), 1),
        text,
        "Train the victim until it has learned.",
    )


def beats_noise(noise: float, robust: float, tolerance: float) -> Sign:
    """An attack that does no more than noise of its radius has found nothing."""
    gain = noise - robust
    weak = gain < tolerance and robust > UNBOUNDED
    text = f"the attack takes {100 * gain:.1f} points more than noise of the same radius"
    return Sign(
        "no better than noise",
        "warn" if weak else "pass",
        gain,
        text,
        "The radius may be too small, or gradients useless: see other signs.",
    )


def zero_gradient(gradient: Tensor) -> Sign:
    """Share of samples (rows) whose gradient is exactly 0 or not finite where the attack starts."""
    dead = (gradient == 0).all(1) | ~gradient.isfinite().all(1)
    share = float(dead.float().mean()) if len(gradient) else 0.0
    text = f"{share:.0%} of samples have an input gradient that is exactly zero or not finite"
    advice = "Attack through the step that blocks gradients (BPDA), or with square and transfer."
    return Sign("zero gradient", verdict(share, ZERO_WARN, ZERO_FAIL), share, text, advice)


def logit_scale(
    largest: Sequence[np.ndarray[Any, Any]],
    lost: float | None = None,
    tolerance: float = POINTS,
    *,
    clamped: bool = False,
) -> Sign:
    """A softmax that is exactly one-hot in float32 has no gradient; `lost`: robust accuracy on ce
    less that on the margin.

    `clamped`: the victim hands out probabilities, whose logarithm ends there for every loss.
    """
    share = max(float((p == 1).mean()) for p in largest)
    severity = verdict(share, SATURATED_WARN, SATURATED_FAIL if lost is None else 2.0)
    text = f"{share:.0%} of predictions are exactly one-hot in float32"
    if lost is not None:
        text += f"; the margin loss breaks {100 * lost:.1f} points more than cross-entropy"
        if lost > tolerance:
            severity = "fail" if share > SATURATED_WARN else "warn"
    advice = "Attack with loss=margin or loss=dlr, which do not depend on the logits' scale."
    if clamped:
        text += (
            "; the victim hands out probabilities: their logarithm is clamped there, and no loss"
            " has a gradient"
        )
        advice = "Let the model return its logits, or attack with square and transfer."
    return Sign("logit scale", severity, share, text, advice)


def bounds(
    ratio: float, low: float, high: float, survives: float | None = None, tolerance: float = POINTS
) -> Sign:
    """Largest perturbation over its radius, and pixels in [0, 1]; `survives`: robust accuracy
    regained by rounding to 8 bits.
    """
    outside = ratio > 1 + 1e-4 or low < 0 or high > 1
    text = f"largest perturbation {ratio:.4f} of its radius"
    severity: Verdict = "fail" if outside else "pass"
    if survives is not None:
        text += (
            f", pixels {low:.3g} to {high:.3g}; rounding to 8 bits gives back {100 * survives:.1f}"
            " points"
        )
        severity = "warn" if severity == "pass" and survives > tolerance else severity
    return Sign(
        "bounds",
        severity,
        ratio,
        text,
        "Adversarials that do not survive 8 bits cannot be saved as images; try whole grey levels.",
    )


def converged(once: float, twice: float, tolerance: float) -> Sign:
    """Twice the steps must not change the answer."""
    gain = once - twice
    text = f"twice the steps change robust accuracy by {-100 * gain:+.1f} points"
    return Sign(
        "not converged",
        verdict(abs(gain), tolerance, 5 * tolerance),
        gain,
        text,
        "Raise steps until the answer stands still.",
    )


def still_rising(losses: Sequence[float]) -> Sign:
    """The loss of an attack that had steps enough stands still at the end. `losses`: before each
    step, mean over samples.
    """
    whole, late = losses[-1] - losses[0], losses[-1] - losses[-1 - len(losses) // 4]
    share = late / whole if whole > 0 else 0.0
    text = f"{share:.0%} of the rise of the attack's loss came in the last quarter of its steps"
    return Sign(
        "not converged",
        verdict(share, RISING, math.inf),
        share,
        text,
        "Raise steps, or step_size, until the loss stands still.",
    )


def depends_on_batch(reason: str) -> Sign:
    """A prediction that depends on the neighbours in the batch is none of the image."""
    return Sign(
        "depends on its batch",
        "fail",
        None,
        reason,
        "Mend the victim: use running statistics at inference, one image at a time.",
    )


def silent_success(lost: float, tolerance: float) -> Sign:
    """Samples that some iterate broke and the last one does not: an attack that returns its last
    iterate loses them.
    """
    text = (
        f"an attack that returned its last iterate would lose {100 * lost:.1f} points; keep=best"
        " does not"
    )
    return Sign(
        "silent success",
        verdict(lost, tolerance, 1.0),
        lost,
        text,
        "Use keep=best, which returns an iterate that succeeded.",
    )


def monotone(
    curve: Sequence[tuple[float, float]],
    unbounded: float | None,
    tolerance: float,
    *,
    everything_moves: bool,
) -> Sign:
    """Robust accuracy falls with the radius and is near 0 when the radius is 1. `curve`: (radius,
    robust accuracy), by radius.
    """
    rise = max(
        (later - earlier for (_, earlier), (_, later) in itertools.pairwise(curve)), default=0.0
    )
    severity: Verdict = "fail" if rise > 2 * tolerance else "warn" if rise > tolerance else "pass"
    text = f"largest rise with the radius {100 * max(rise, 0):.1f} points"
    if unbounded is not None:
        text += f"; {unbounded:.1%} robust at radius 1"
        if unbounded > UNBOUNDED + tolerance:
            severity = "fail" if everything_moves else max(severity, "warn", key=ORDER.index)
    figure = rise if unbounded is None else max(rise, unbounded)
    return Sign(
        "not monotone",
        severity,
        figure,
        text,
        "An unbounded attack must win: the attack, not the victim, is what stops it.",
    )


def beaten(sign: str, other: str, white: float, rival: float, tolerance: float) -> Sign:
    """An attack with less knowledge must not do better than one with gradients."""
    gain = white - rival
    text = f"{other} leaves {rival:.1%}, pgd {white:.1%}"
    return Sign(
        sign,
        verdict(gain, tolerance, 2.5 * tolerance),
        gain,
        text,
        "Gradients are masked: report the lower figure, and look for an adaptive attack.",
    )


def randomness(
    one: float, used: float, many: float, cosine: float, tolerance: float, eot: int, most: int
) -> Sign:
    """More draws per gradient must not break more. `one`, `used`, `many`: robust accuracy with 1,
    `eot` and `most` draws.
    """
    gain = one - many
    severity: Verdict = (
        "fail" if used - many > tolerance else "warn" if gain > tolerance else "pass"
    )
    text = (
        f"robust accuracy {one:.1%} with 1 draw, {used:.1%} with {eot}, {many:.1%} with {most};"
        f" cosine of two gradients {cosine:.2f}"
    )
    return Sign(
        "randomness masks", severity, gain, text, "Raise eot until the answer stands still."
    )


def attacked_by_one_draw() -> Sign:
    """The gradient of one draw points where that draw can be broken, not where the victim can."""
    return Sign(
        "randomness masks",
        "fail",
        None,
        "a random victim was attacked with the gradient of one draw",
        "Use --protocol sound, or --attack-param eot=16.",
    )


# --- after every cell -----------------------------------------------------------------------------


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
    tasks = list(threat.tasks)
    signs = [
        trivial([outcome.figures["tasks"][t]["trivial"] for t in tasks]),
        logit_scale(
            [clean.probabilities[t].max(1) for t in tasks], clamped=hands_out_probabilities(victim)
        ),
    ]
    radii = np.array(threat.radii)
    if radii.max() > 0:
        moved = outcome.arrays["linf" if threat.norm == "Linf" else "l2"].max(0)
        signs.append(bounds(float((moved[radii > 0] / radii[radii > 0]).max()), 0.0, 1.0))
    if radii.max() > 0 and method.name != "noise":
        right = np.flatnonzero(clean.right[:, tasks].max(1) > 0)[:GRADIENT_SAMPLES]
        if len(right):
            gradient = start_gradient(victim, samples, right, threat, clean, setting)
            signs.append(zero_gradient(gradient))
        if noise is not None:
            tolerance = tolerance_of(min(samples.distinct_labels[t] for t in tasks))
            signs.append(beats_noise(noise, outcome.figures["robust"], tolerance))
    losses = outcome.figures.get("attack_loss", [])
    finite = [loss for loss in losses if loss is not None]
    if len(finite) == len(losses) >= FEWEST_STEPS and tells_convergence(clean, method):
        signs.append(still_rising(finite))
    if single_draw(clean, method, outcome.search):
        signs.append(attacked_by_one_draw())
    return signs


def tells_convergence(clean: Clean, method: Method) -> bool:
    """Whether a loss that rises at the end means too few steps: steps of one size, and samples
    leave once they have fallen.

    APGD halves its steps by a schedule of its budget and climbs at the end of any; samples that
    stay after their fall climb for nothing.
    """
    return method.parameters.get("keep") == "best" and not clean.stochastic


def start_gradient(
    victim: nn.Module,
    samples: Samples,
    rows: NDArray[np.int64],
    threat: Threat,
    clean: Clean,
    setting: Setting,
) -> Tensor:
    """Gradient of cross-entropy at the clean images of `rows`, with respect to what may move.

    Returns:
        (len(rows), coordinates of the modalities that are not trusted).
    """
    view = View(victim, shapes_of(samples), draws=clean.draws)
    parts = []
    for part in together(rows, len(samples), setting, whole=clean.drawing == "batch"):
        x = view.pack(samples.batch(part)).to(setting.device)
        with drawn(view, clean.drawing, setting, samples.ids, part, "diagnostics"):
            gradient = view.gradient(
                x, samples.labels[part].to(setting.device), replace(threat, targeted=False)
            ).direction
        parts.append(gradient[np.isin(part, rows)][:, view.radius(threat, x) > 0])
    return torch.cat(parts)


def tolerance_of(n: int) -> float:
    """Two points, or a sample and a half where n samples cannot show two points."""
    return max(POINTS, 1.5 / max(n, 1))
