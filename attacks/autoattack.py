"""AutoAttack: an ensemble without parameters to tune (Croce & Hein, arXiv 2003.01690), for any
number of classes and random victims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from robustbench_med.attacks.apgd import NORMS, apgd, apgd_t
from robustbench_med.attacks.entry import Attack, Member
from robustbench_med.attacks.fab import fab
from robustbench_med.attacks.losses import DLR_TARGETED, FEWEST_CLASSES
from robustbench_med.attacks.pgd import Contest
from robustbench_med.attacks.square import square
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Norm, Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 1
VERSIONS = ("auto", "standard", "rand", "few-class")
MEMBERS: dict[str, Callable[..., Tensor]] = {
    "apgd": apgd,
    "apgd-t": apgd_t,
    "fab": fab,
    "square": square,
}


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
    """The members one after another on the samples still standing; each sample keeps the candidate
    with the lowest share standing.

    Args:
        version: "standard" (apgd-ce, apgd-t, fab, square), from 4 classes; "few-class" (apgd-ce,
            apgd-margin, fab, square) for 2 or 3; "rand" (apgd-ce, apgd-dlr, both with EOT) for
            random victims; "auto" as `version_for` tells. Tasks attacked together share one
            version, "standard" when any of them has 4 classes; in apgd-t the smaller ones then get
            the margin. In L1 apgd-ce starts five times and apgd-t aims at five classes at most
            (arXiv 2103.01208).
        steps: of apgd, apgd-t and fab.
        targets: wrong classes of apgd-t and fab.
        queries: of square.
        eot: draws per gradient; "rand" is meant for 20 in the paper.
    """
    if threat.targeted:
        raise RefusedError(
            "autoattack is untargeted; attack towards a class of yours with apgd, fab or square"
        )
    contest = Contest(view, x, y, threat)
    counts = [view.class_counts[t] for t in threat.tasks]
    version = version_for(version, counts, stochastic=view.draws > 1)
    own_of = {"steps": steps, "targets": targets, "queries": queries, "eot": eot}
    for name, own in members(version, threat.norm, **own_of):
        rows = contest.open()
        if len(rows):
            with view.only(rows):
                candidate = MEMBERS[name](view, x[rows], y[rows], threat, streams.take(rows), **own)
            contest.enter(rows, candidate)
    return contest.result()


def version_for(version: str, class_counts: Sequence[int], *, stochastic: bool) -> str:
    """What "auto" stands for: "rand" for a random victim, "standard" where a task has 4 classes or
    more, else "few-class".
    """
    if version != "auto":
        return version
    if stochastic:
        return "rand"
    return "standard" if max(class_counts) >= FEWEST_CLASSES[DLR_TARGETED] else "few-class"


def members(
    version: str, norm: Norm, *, steps: int, targets: int, queries: int, eot: int
) -> list[Member]:
    """The attacks of a version in their order, each a name in `MEMBERS` and its parameters."""
    in_l1 = norm == "L1" and version != "rand"
    starts = {"restarts": 5} if in_l1 else {}
    aims = min(targets, 5) if in_l1 else targets
    ce: Member = ("apgd", {"steps": steps, "loss": "ce", "eot": eot, **starts})
    dlr: Member = ("apgd", {"steps": steps, "loss": "dlr", "eot": eot})
    margin: Member = ("apgd", {"steps": steps, "loss": "margin", "eot": eot})
    aimed: Member = ("apgd-t", {"steps": steps, "targets": aims, "eot": eot})
    boundary: Member = ("fab", {"steps": steps, "targets": targets, "eot": eot})
    scores: Member = ("square", {"queries": queries, "eot": eot})
    if version == "rand":
        return [ce, dlr]
    return [ce, aimed if version == "standard" else margin, boundary, scores]


def ensemble(
    class_counts: Sequence[int], norm: Norm, *, stochastic: bool, version: str, **parameters: int
) -> tuple[str, list[Member]]:
    """The version that runs on tasks of so many classes, and its members."""
    version = version_for(version, class_counts, stochastic=stochastic)
    return version, members(version, norm, **parameters)


ENTRY = Attack(
    name="autoattack",
    function=autoattack,
    targeted=False,
    norms=NORMS,
    choices={"version": VERSIONS},
    ensemble=ensemble,
)
