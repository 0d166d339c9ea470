"""What an adaptive attack on a black box is made of: the attacks that ask for no gradient, each
with its share of the queries, and what none of them can know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_med.attacks import boundary, hopskipjump, sparse_rs, square, transfer
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.threat import Threat

REVISION = 1
QUERIES = 5000
"""Of a sample, all attacks together, where nothing caps them."""
CANDIDATES = 2
"""Questions of a transfer about a sample: the image, and what the surrogate made of it."""
LINE = 20
"""Questions of a search along a line, about."""
INITIAL, SHARE = 100, 10
"""Random images that a search by decisions tries first: so many, or one of so many queries."""


@dataclass(frozen=True)
class Kind:
    """An attack that may be a member.

    Attributes:
        entry: of the attack.
        asks: "scores", or "decisions" that it is content with.
        weight: its share of the queries over those of the others.
        why: what it is there for.
    """

    entry: Attack
    asks: str
    weight: int
    why: str


KINDS = (
    Kind(transfer.ENTRY, "decisions", 0, "a surrogate's gradients, and hardly a question"),
    Kind(square.ENTRY, "scores", 2, "random search by scores, which needs no slope"),
    Kind(sparse_rs.ENTRY, "scores", 2, "the same for few pixels"),
    Kind(hopskipjump.ENTRY, "decisions", 1, "decisions alone: scores may mislead"),
    Kind(boundary.ENTRY, "decisions", 1, "decisions too, without an estimate of a gradient"),
)
"""In the order in which they run, the cheapest first."""


@dataclass(frozen=True)
class Member:
    """An attack of the ensemble.

    Attributes:
        attack: its name.
        parameters: those that are not its defaults.
        why: the reason for it.
        queries: of a sample, at most.
    """

    attack: str
    parameters: dict[str, Any]
    why: str
    queries: int


@dataclass(frozen=True)
class Asked:
    """What decides who is a member.

    Attributes:
        gives: what the victim answers with, "scores" or "decisions".
        threat: what the attacker may do.
        draws: passes a prediction: 1 of a deterministic victim.
        eot: draws of a question.
        queries: of a sample, all members together.
    """

    gives: str
    threat: Threat
    draws: int
    eot: int
    queries: int


def members(asked: Asked) -> tuple[list[Member], dict[str, str]]:
    """The members in their order, and the attacks that are none, with the reason."""
    left_out = {
        kind.entry.name: reason for kind in KINDS if (reason := unfit(kind, asked)) is not None
    }
    fit = [kind for kind in KINDS if kind.entry.name not in left_out]
    of_transfer = min(CANDIDATES * asked.draws, asked.queries)
    weights = sum(kind.weight for kind in fit)
    found = []
    for kind in fit:
        share = (asked.queries - of_transfer) * kind.weight // max(weights, 1)
        queries = share if kind.weight else of_transfer
        if queries < asked.eot:
            left_out[kind.entry.name] = f"its share of {asked.queries} queries is none"
            continue
        parameters = parameters_of(kind.entry, queries // asked.eot)
        if asked.eot > 1 and kind.weight:  # a surrogate is not random
            parameters["eot"] = asked.eot
        found.append(Member(kind.entry.name, parameters, kind.why, queries))
    return found, left_out


def unfit(kind: Kind, asked: Asked) -> str | None:
    """Why an attack is no member; None where it is one."""
    entry, threat = kind.entry, asked.threat
    if kind.asks == "scores" and asked.gives == "decisions":
        return "the device gives decisions alone"
    if threat.norm not in entry.norms:
        return f"it exists under {', '.join(entry.norms)}, not under {threat.norm}"
    if threat.flips and not entry.flips:
        return "it cannot give categorical columns another value"
    if entry.minimal is not None and any(threat.radii[m] for m in threat.optional):
        return "it cannot leave alone what a sample misses"
    return None


def parameters_of(entry: Attack, questions: int) -> dict[str, Any]:
    """How an attack spends so many questions."""
    if "queries" in (known := entry.parameters()):
        return {"queries": questions}
    if "initial" not in known:
        return {}
    initial = min(INITIAL, max(questions // SHARE, 1))
    if "evaluations" not in known:  # two questions a step
        return {"initial": initial, "steps": max((questions - initial) // 2, 1)}
    steps, asked = 1, 2 * initial + 2 * LINE
    while asked < questions:
        steps, asked = steps + 1, asked + int(initial * math.sqrt(steps + 1)) + LINE
    return {"initial": initial, "steps": steps}


def cannot_know(asked: Asked, surrogate: int) -> Sequence[str]:
    """What such an attack cannot know, in words.

    Args:
        surrogate: answers that trained it.
    """
    believed = (
        "whether the scores are what the device decides by: square and sparse-rs believe them"
        if asked.gives == "scores"
        else "how near to another class an image is: decisions alone do not say it"
    )
    return (
        "whether the device hides its gradient, or a defence that only somebody who looks inside"
        " can get round: nobody followed it",
        believed,
        f"what more than {asked.queries} queries of a sample would break: queries.csv shows whether"
        " the curve still falls (--max-queries)",
        f"how like the device a surrogate trained on {surrogate} of its answers is: what its"
        " gradients miss, another's may find (--attack transfer --source)",
    )
