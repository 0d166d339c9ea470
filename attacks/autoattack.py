"""AutoAttack: an ensemble without parameters to tune (Croce & Hein, arXiv 2003.01690), for any number of classes and random victims."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from robustbench_med.attacks.apgd import apgd, apgd_t
from robustbench_med.attacks.fab import fab
from robustbench_med.attacks.pgd import Contest
from robustbench_med.attacks.square import square
from robustbench_med.attacks.view import RefusedError, Streams, Threat, View

VERSIONS = ("auto", "standard", "rand", "few-class")
FEWEST_FOR_DLR_TARGETED = 4


def autoattack(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    version: str = "auto",
    steps: int = 100,
    targets: int = 9,
    queries: int = 5000,
    eot: int = 1,
) -> Tensor:
    """The members one after another on the samples still standing; each sample keeps the candidate with the lowest share standing.

    Args:
        version: "standard" (apgd-ce, apgd-t, fab, square), from 4 classes; "few-class" (apgd-ce, apgd-margin, fab, square) for 2 or 3;
            "rand" (apgd-ce, apgd-dlr, both with EOT) for random victims; "auto" as `chosen` tells. Tasks attacked together share
            one version, "standard" when any of them has 4 classes; in apgd-t the smaller ones then get the margin.
        steps: of apgd, apgd-t and fab.
        targets: wrong classes of apgd-t and fab.
        queries: of square.
        eot: draws per gradient; "rand" is meant for 20 in the paper.
    """
    version = chosen(version, [view.class_counts[t] for t in threat.tasks], stochastic=view.draws > 1)
    if threat.targeted:
        raise RefusedError("autoattack is untargeted; attack towards a class of yours with apgd, fab or square")
    contest = Contest(view, x, y, threat)
    for attack in members(version, steps=steps, targets=targets, queries=queries, eot=eot):
        rows = contest.open()
        if len(rows):
            contest.enter(rows, attack(view, x[rows], y[rows], threat, streams.take(rows)))
    return contest.best


def chosen(version: str, class_counts: Sequence[int], *, stochastic: bool) -> str:
    """What "auto" stands for: "rand" for a random victim, "standard" where a task has 4 classes or more, else "few-class"."""
    if version != "auto":
        return version
    if stochastic:
        return "rand"
    return "standard" if max(class_counts) >= FEWEST_FOR_DLR_TARGETED else "few-class"


def members(version: str, *, steps: int, targets: int, queries: int, eot: int) -> list[Callable[..., Tensor]]:
    """The attacks of a version with their parameters."""

    def with_(attack: Callable[..., Tensor], **parameters: object) -> Callable[..., Tensor]:
        return lambda *args: attack(*args, eot=eot, **parameters)

    first = with_(apgd, steps=steps, loss="ce")
    if version == "rand":
        return [first, with_(apgd, steps=steps, loss="dlr")]
    second = with_(apgd_t, steps=steps, targets=targets) if version == "standard" else with_(apgd, steps=steps, loss="margin")
    return [first, second, with_(fab, steps=steps, targets=targets), with_(square, queries=queries)]
