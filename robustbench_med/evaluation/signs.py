"""Signs that an attack failed: each a figure, a verdict and what to do about it.

After Carlini et al. (arXiv 1902.06705), Tramer et al. (arXiv 2002.08347) and Pintor et al. (arXiv
2106.09947). `cell_signs` looks at what one evaluation left behind; `diagnosis` runs attacks of its
own on a few dozen samples. Both judge by what is here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from robustbench_med.evaluation.gradients import Place
from robustbench_med.evaluation.stability import Stability
from robustbench_med.store.trust import UNBOUNDED

Verdict = Literal["fine", "doubtful", "failed"]
ORDER: tuple[Verdict, ...] = ("fine", "doubtful", "failed")
POINTS = 0.02
"""Difference of robust accuracy that counts (2 points, arXiv 1902.06705 section 5.4), where the
samples can show it.
"""
ZERO_WARN, ZERO_FAIL = 0.05, 0.5
SATURATED_WARN, SATURATED_FAIL = 0.05, 0.5
AGREE, AGREE_OWN = 0.6, 0.2
"""Agreement of gradients and differences that honest victims have, along random directions and
along an attack's own perturbation, on which a loss bends.
"""
FEWEST_COMPARED = 4
"""Samples of which a median is taken."""
ALIGNED = 0.6
"""Cosine of the mean gradient of the draws that an attack takes to that of all draws."""
CHANGED_FAIL = 0.1
JUMP_WARN, JUMP_FAIL = 0.02, 0.1
"""Of the logits' range; half precision rounds to less."""


@dataclass(frozen=True)
class Sign:
    """One sign: `figure` is what was measured, None where it could not be."""

    sign: str
    verdict: Verdict
    figure: float | None
    text: str
    advice: str


def worst(signs: Sequence[Sign]) -> Verdict:
    """The worst verdict."""
    return max((sign.verdict for sign in signs), key=ORDER.index, default="fine")


def plain(signs: Sequence[Sign]) -> list[dict[str, Any]]:
    """Signs for a record, the worst first."""
    return [asdict(sign) for sign in sorted(signs, key=lambda sign: -ORDER.index(sign.verdict))]


def verdict(value: float, warn: float, fail: float) -> Verdict:
    """Where a figure lies that should be small."""
    return "failed" if value > fail else "doubtful" if value > warn else "fine"


def worse(one: Verdict, other: Verdict) -> Verdict:
    """The worse of two verdicts."""
    return max(one, other, key=ORDER.index)


# --- signs ----------------------------------------------------------------------------------------


def trivial(reasons: Sequence[str | None], unknown: Sequence[str | None] = ()) -> Sign:
    """A victim that is no better than a constant cannot be broken.

    Args:
        reasons: `statistics.trivial` of each attacked task.
        unknown: `statistics.cannot_tell` of each.
    """
    at_chance, doubts = ([text for text in texts if text] for texts in (reasons, unknown))
    text = "clean balanced accuracy is above chance and no class takes over"
    share: float | None = len(at_chance) / max(len(reasons), 1)
    advice = "Train the victim until it has learned."
    if at_chance:
        text = "; ".join(at_chance)
    elif doubts:
        text, share, advice = "; ".join(doubts), None, "Take more samples (--limit)."
    return Sign("trivial victim", "failed" if at_chance else "fine", share, text, advice)


def beats_noise(noise: float, robust: float, tolerance: float) -> Sign:
    """An attack that does no more than noise of its radius has found nothing."""
    gain = noise - robust
    weak = gain < tolerance and robust > UNBOUNDED
    text = f"the attack takes {100 * gain:.1f} points more than noise of the same radius"
    return Sign(
        "no better than noise",
        "doubtful" if weak else "fine",
        gain,
        text,
        "The radius may be too small, or gradients useless: see other signs.",
    )


def zero_gradient(places: Sequence[Place]) -> Sign:
    """Share of samples whose gradient is exactly zero or not finite, of the place, task and
    modality where it is largest.
    """
    found = [
        (float(np.nanmean(of_pair)), place, t, m)
        for place in places
        for t, of_task in zip(place.tasks, place.dead, strict=True)
        for m, of_pair in zip(place.modalities, of_task, strict=True)
        if not np.isnan(of_pair).all()
    ]
    share, where = 0.0, ""
    if found:
        share, place, t, m = max(found, key=lambda each: each[0])
        where = f" {place.where}, of task {t} in modality {m}" if share else ""
    text = (
        f"{share:.0%} of samples have an input gradient that is exactly zero or not finite{where}"
    )
    advice = "Attack through the step that blocks gradients (BPDA), or with square and transfer."
    return Sign("zero gradient", verdict(share, ZERO_WARN, ZERO_FAIL), share, text, advice)


def gradient_lies(places: Sequence[Place]) -> Sign:
    """Gradients foretell what the logits do a short way off: the lowest median over samples of the
    agreement of both, of all places, tasks and modalities.
    """
    found = [
        (float(np.nanmedian(of_pair)), least, way, place, t, m)
        for place in places
        for way, values, least in (
            ("random directions", place.agreement, AGREE),
            ("the attack's perturbation", place.own, AGREE_OWN),
        )
        for t, of_task in zip(place.tasks, values, strict=True)
        for m, of_pair in zip(place.modalities, of_task, strict=True)
        if np.isfinite(of_pair).sum() >= FEWEST_COMPARED
    ]
    advice = "Attack with square and transfer, and through the step that the gradient leaves out."
    sign = "gradient against differences"
    if not found:
        return Sign(sign, "fine", None, "nothing to compare: no logit moves, or at random", advice)
    value, least, way, place, t, m = min(found, key=lambda each: each[0] - each[1])
    text = (
        f"gradients and finite differences along {way} agree to {value:.2f} (1: they are equal)"
        f" {place.where}, of task {t} in modality {m}"
    )
    return Sign(sign, "doubtful" if value < least else "fine", value, text, advice)


def not_finite(count: int, backward: int) -> Sign:
    """Gradients that were not finite count as zero: the attack stands still there."""
    share = count / max(backward, 1)
    return Sign(
        "non-finite gradients",
        verdict(share, 0.0, ZERO_FAIL),
        share,
        f"{count} of {backward} gradients of the attack were not finite, and counted as zero",
        "Mend the step that gives NaN or infinity, or attack with square and transfer.",
    )


def draws_disagree(cosine: float, eot: int) -> Sign:
    """How well the mean of `eot` draws' gradients points where that of all draws would: of unit
    vectors with this cosine to each other, sqrt(k c / (1 + (k - 1) c)).
    """
    c = max(cosine, 0.0)
    aligned = math.sqrt(eot * c / (1 + (eot - 1) * c))
    enough = math.ceil(ALIGNED**2 * (1 - c) / (1 - ALIGNED**2) / max(c, 1e-3))
    text = (
        f"the gradients of two passes at one image have a cosine of {cosine:.2f}: {eot} of them"
        f" point to {aligned:.2f} where the mean of all would"
    )
    return Sign(
        "draws disagree",
        "doubtful" if aligned < ALIGNED else "fine",
        cosine,
        text,
        f"Raise eot: {max(enough, 2)} draws a gradient, or more.",
    )


def not_of_the_image(found: Stability) -> Sign:
    """A prediction that other passes over the same image do not repeat."""
    share = max(found.changed.values(), default=0) / max(found.n, 1)
    reasons = "; ".join(f"{n} of {found.n} images {what}" for what, n in found.changed.items())
    text = f"predicted otherwise: {reasons}" if reasons else "every pass says the same of an image"
    return Sign(
        "not of the image alone",
        verdict(share, 0.0, CHANGED_FAIL),
        share,
        text,
        "Mend the victim: what it predicts must depend on nothing but the image.",
    )


def jumps(found: Stability) -> Sign:
    """Logits that leap where the image hardly moves, as those that hang on a hash of it."""
    text = f"a grey level in one pixel moves the logits by {found.jump:.1%} of their range"
    return Sign(
        "jumps",
        verdict(found.jump, JUMP_WARN, JUMP_FAIL),
        found.jump,
        text,
        "Treat what hangs on a hash of the image as random: average over it (EOT), or fix it.",
    )


def undone(believed: float, robust: float, tolerance: float) -> Sign:
    """What an attack saw broken in its own passes must be broken where it is judged."""
    lost = robust - believed
    text = f"{100 * lost:.1f} points of what the attack saw broken are not where it is judged"
    return Sign(
        "success undone",
        verdict(lost, tolerance, 2.5 * tolerance),
        lost,
        text,
        "Mend the victim: what it predicts must depend on nothing but the image.",
    )


def logit_scale(
    largest: Sequence[np.ndarray[Any, Any]],
    lost: float | None = None,
    tolerance: float = POINTS,
    *,
    scaled: bool = True,
    clamped: bool = False,
) -> Sign:
    """A softmax that is exactly one-hot in float32 has no gradient, which is no matter to an attack
    on the margin; `lost`: robust accuracy on ce less that on the margin.

    Args:
        scaled: whether the attack that ran ascends nothing but losses that depend on the scale.
        clamped: the victim hands out probabilities, whose logarithm ends there for every loss.
    """
    share = max(float((p == 1).mean()) for p in largest)
    text = f"{share:.0%} of predictions are exactly one-hot in float32"
    advice = "Attack with loss=margin or loss=dlr, which do not depend on the logits' scale."
    if clamped:
        severity = verdict(share, SATURATED_WARN, SATURATED_FAIL)
        text += (
            "; the victim hands out probabilities: their logarithm is clamped there, and no loss"
            " has a gradient"
        )
        advice = "Let the model return its logits, or attack with square and transfer."
    elif not scaled:
        severity = "fine"
        text += "; the attack ascends a loss that does not depend on their scale"
    else:
        severity = verdict(share, SATURATED_WARN, 1.0)
    if lost is not None:
        text += f"; the margin loss breaks {100 * lost:.1f} points more than cross-entropy"
        if lost > tolerance:
            severity = worse(severity, "doubtful")
    return Sign("logit scale", severity, share, text, advice)


def bounds(
    ratio: float, low: float, high: float, survives: float | None = None, tolerance: float = POINTS
) -> Sign:
    """Largest perturbation over its radius, and pixels in [0, 1]; `survives`: robust accuracy
    regained by rounding to 8 bits. An attack leaves a sample as it falls, near the boundary: twice
    the tolerance says nothing of the victim.
    """
    outside = ratio > 1 + 1e-4 or low < 0 or high > 1
    text = f"largest perturbation {ratio:.4f} of its radius"
    severity: Verdict = "failed" if outside else "fine"
    if survives is not None:
        text += (
            f", pixels {low:.3g} to {high:.3g}; rounding to 8 bits gives back {100 * survives:.1f}"
            " points"
        )
        severity = "doubtful" if severity == "fine" and survives > 2 * tolerance else severity
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


def depends_on_batch(reason: str) -> Sign:
    """A prediction that depends on the neighbours in the batch is none of the image."""
    return Sign(
        "depends on its batch",
        "failed",
        None,
        reason,
        "Mend the victim: use running statistics at inference, one image at a time.",
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
    severity: Verdict = (
        "failed" if rise > 2 * tolerance else "doubtful" if rise > tolerance else "fine"
    )
    text = f"largest rise with the radius {100 * max(rise, 0):.1f} points"
    if unbounded is not None:
        text += f"; {unbounded:.1%} robust at radius 1"
        if unbounded > UNBOUNDED + tolerance:
            severity = worse(severity, "failed" if everything_moves else "doubtful")
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


def randomness(one: float, used: float, many: float, tolerance: float, eot: int, most: int) -> Sign:
    """More draws per gradient must not break more. `one`, `used`, `many`: robust accuracy with 1,
    `eot` and `most` draws.
    """
    gain = one - many
    severity = verdict(used - many, tolerance, 2.5 * tolerance)
    if gain > tolerance:
        severity = worse(severity, "doubtful")
    text = f"robust accuracy {one:.1%} with 1 draw, {used:.1%} with {eot}, {many:.1%} with {most}"
    return Sign(
        "randomness masks", severity, gain, text, "Raise eot until the answer stands still."
    )


def attacked_by_one_draw() -> Sign:
    """The gradient of one draw points where that draw can be broken, not where the victim can."""
    return Sign(
        "randomness masks",
        "failed",
        None,
        "a random victim was attacked with the gradient of one draw",
        "Use --protocol sound, or --attack-param eot=16.",
    )


def tolerance_of(n: int) -> float:
    """Two points, or a sample and a half where n samples cannot show two points."""
    return max(POINTS, 1.5 / max(n, 1))
