"""The strongest attack there is for the victim at hand: rounds that each change something that
matters (after Tramer et al., arXiv 2002.08347, and Croce & Hein, arXiv 2003.01690).

`rounds` says what is tried in which order; a search (`robustbench_med.evaluation.search`) goes on
with it until the answer stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from robustbench_med.attacks import apgd, fab, pgd, sigma_zero, sparse_rs, square
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.losses import DLR_TARGETED, FEWEST_CLASSES
from robustbench_med.attacks.pgd import Contest
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Norm, Threat
from robustbench_med.attacks.view import RefusedError, View
from robustbench_med.naming import BLACK_BOX

REVISION = 1
FIRST = "first"
DRAWS = "steps and draws"
SOFT = "soft gradients"
LOSS = "another loss"
TARGETS = "runner-up targets"
ALGORITHM = "another algorithm"
STARTS = "other starts"
BOUNDARY = "from the boundary"
MEMBERS = {
    entry.name: entry
    for entry in (
        pgd.ENTRY,
        apgd.ENTRY,
        apgd.TARGETED_ENTRY,
        fab.ENTRY,
        square.ENTRY,
        sparse_rs.ENTRY,
        sigma_zero.ENTRY,
    )
}
BLACK_BOXES = (square.ENTRY.name, sparse_rs.ENTRY.name)
IN_L0 = {"apgd": "pgd", "square": "sparse-rs", "fab": "sigma-zero"}
"""What takes the place of an attack that L0 does not know."""
FLIPPING = {"apgd": "pgd"}
"""What takes the place of an attack that flips no categorical columns."""


@dataclass(frozen=True)
class Facing:
    """What decides which rounds make sense.

    Args:
        stochastic: whether the victim is random.
        classes: of the largest attacked task.
        soft: whether the victim offers soft gradients.
        tasks: how many are attacked.
        norm: of the threat.
        flips: whether categorical columns of a table may flip.
    """

    stochastic: bool
    classes: int
    soft: bool
    tasks: int = 1
    norm: Norm = "Linf"
    flips: bool = False


@dataclass(frozen=True)
class Round:
    """One attack of a search.

    Args:
        kind: what it changes against those before.
        attack: its name in `MEMBERS`.
        parameters: those that are not the attack's defaults (against such a victim).
        why: the reason, for the record.
        times: how often it makes its steps: FAB for all tasks together and for each alone.
    """

    kind: str
    attack: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    times: int = 1

    @property
    def passes(self) -> int:
        """Gradient passes a sample that it takes at most; queries of a black box."""
        given = self.parameters
        if self.attack in BLACK_BOXES:
            return int(given["queries"] * given.get("eot", 1))
        runs = given.get("restarts", 1) * given.get("targets", 1)
        return int(given["steps"] * given.get("eot", 1) * runs * self.times)


def required(facing: Facing) -> set[str]:
    """Kinds of rounds without which no search has converged."""
    first = DRAWS if facing.stochastic else LOSS
    return {first, BLACK_BOX} | ({SOFT} if facing.soft else set())


def rounds(facing: Facing) -> Iterator[Round]:
    """The rounds against such a victim, cheapest first, without end: each level doubles the one
    before. Under L0 with PGD in the place of APGD, Sparse-RS in Square's and sigma-zero in FAB's;
    where categorical columns may flip, with PGD in the place of APGD, and without FAB.
    """
    against = _against_random if facing.stochastic else _against_deterministic
    for each in against(facing):
        known = able(MEMBERS[each.attack], facing)
        others = FLIPPING if facing.flips else IN_L0
        attack = each.attack if known else others.get(each.attack)
        if attack is not None and able(MEMBERS[attack], facing):
            yield each if known else in_place_of(each, attack)


def able(entry: Attack, facing: Facing) -> bool:
    """Whether an attack can be a round of a search."""
    return facing.norm in entry.norms and (entry.flips or not facing.flips)


def in_place_of(each: Round, attack: str) -> Round:
    """The same round with another attack, where it has its parameters."""
    there = MEMBERS[attack].parameters()
    given = {name: value for name, value in each.parameters.items() if name in there}
    return replace(each, attack=attack, parameters=given, why=f"for {each.attack}", times=1)


def _against_random(facing: Facing) -> Iterator[Round]:
    yield Round(FIRST, "pgd", {"steps": 20, "eot": 4}, "what pgd does by default")
    for level in itertools.count():
        budget = {"steps": 50 * 2**level, "eot": 8 * 2**level}
        why = f"{budget['steps']} steps of {budget['eot']} draws"
        yield Round(DRAWS, "pgd", budget, why)
        if facing.soft:
            yield Round(SOFT, "pgd", budget | {"soft": True}, "its clips pass a gradient")
        queries = {"queries": 250 * 2**level, "eot": 4}
        yield Round(BLACK_BOX, "square", queries, "needs no gradient")
        yield Round(LOSS, "pgd", budget | {"loss": "ce"}, "cross-entropy in place of the margin")
        normalised = budget | {"combine": "normalised"}
        if facing.norm == "L0":
            continue
        if facing.classes > 2:
            targets = {"targets": min(facing.classes - 1, 2)}
            yield Round(TARGETS, "apgd-t", normalised | targets, "towards the likeliest classes")
        yield Round(ALGORITHM, "apgd", normalised | {"loss": "margin"}, "steps that adapt")


def _against_deterministic(facing: Facing) -> Iterator[Round]:
    """AutoAttack's members (its few-class analogue below 4 classes), a fifth of Square before the
    dear ones.
    """
    aimed = facing.classes >= FEWEST_CLASSES[DLR_TARGETED] and facing.norm != "L0"
    targets = {"targets": min(facing.classes - 1, 9)}
    other = ("apgd-t", targets) if aimed else ("apgd", {"loss": "margin"})
    why = "towards each wrong class" if aimed else "the margin in place of cross-entropy"
    yield Round(FIRST, "apgd", {"steps": 100, "loss": "ce"}, "AutoAttack's first member")
    yield Round(LOSS, other[0], {"steps": 100, **other[1]}, why)
    yield Round(BLACK_BOX, "square", {"queries": 1000}, "needs no gradient")
    if facing.soft:
        soft = {"steps": 100, "loss": "margin", "soft": True}
        yield Round(SOFT, "pgd", soft, "its clips pass a gradient")
    goals = 1 + facing.tasks if facing.tasks > 1 else 1
    yield Round(BOUNDARY, "fab", {"steps": 100, **targets}, "walks along the boundary", goals)
    yield Round(BLACK_BOX, "square", {"queries": 4000}, "needs no gradient")
    for level in itertools.count():
        starts = {"steps": 100 * 2**level, "restarts": 5}
        yield Round(STARTS, "apgd", starts | {"loss": "ce"}, "five more random starts")
        yield Round(ALGORITHM, "pgd", starts | {"loss": "margin"}, "fixed steps on the margin")
        if aimed:
            longer = {"steps": 200 * 2**level, **targets}
            yield Round(TARGETS, "apgd-t", longer, "towards each wrong class, twice as long")
        yield Round(LOSS, "apgd", starts | {"loss": "dlr"}, "a loss without a scale")


def facing(view: View, threat: Threat) -> Facing:
    """What a view says of its victim."""
    classes = max(view.class_counts[t] for t in threat.tasks)
    tasks = len(threat.tasks)
    return Facing(view.draws > 1, classes, view.has_soft, tasks, threat.norm, threat.flips)


def complete(each: Round, against: Facing) -> dict[str, Any]:
    """The parameters of a round, its attack's defaults among them."""
    keep: dict[str, Any] = (
        {"keep": "last"} if against.stochastic and each.attack == pgd.ENTRY.name else {}
    )
    return MEMBERS[each.attack].complete(
        keep | dict(each.parameters), f"attack {each.attack!r}", random=against.stochastic
    )


def adaptive(view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams) -> Tensor:
    """The first rounds of every kind that a search requires, each once, on this one batch; each
    sample keeps the candidate with the lowest share standing. `medrobust run` goes on (`--effort`).
    """
    if threat.targeted:
        raise RefusedError(
            "adaptive is untargeted; attack towards a class of yours with pgd, apgd, fab or square"
        )
    against = facing(view, threat)
    missing = required(against)
    contest = Contest(view, x, y, threat)
    for each in rounds(against):
        rows = contest.open()
        if len(rows) == 0 or not missing:
            break
        missing.discard(each.kind)
        attack: Callable[..., Tensor] = MEMBERS[each.attack].function
        given = complete(each, against)
        with view.only(rows):
            candidate = attack(view, x[rows], y[rows], threat, streams.take(rows), **given)
        contest.enter(rows, candidate)
    return contest.result()


ENTRY = Attack(name="adaptive", function=adaptive, targeted=False, escalates="auto", flips=True)
