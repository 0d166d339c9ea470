"""What attacks ask of a victim at most, known from their parameters: samples leave early, so that
an attack rarely takes all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from robustbench_med.attacks import adaptive as searching
from robustbench_med.attacks import autoattack as ensemble
from robustbench_med.attacks.patch import MOVES, RANDOM_PLACE
from robustbench_med.attacks.registry import OWN_THREATS, complete, entry_of
from robustbench_med.attacks.threat import Norm


@dataclass(frozen=True)
class Budget:
    """Passes a sample.

    Attributes:
        queries: forward passes that no gradient follows.
        gradients: forward passes with a backward one to the input.
    """

    queries: int = 0
    gradients: int = 0

    @property
    def forward(self) -> int:
        """All forward passes."""
        return self.queries + self.gradients

    @property
    def backward(self) -> int:
        """All backward passes."""
        return self.gradients

    def __add__(self, other: Budget) -> Budget:
        return Budget(self.queries + other.queries, self.gradients + other.gradients)

    def times(self, n: int) -> Budget:
        """The same n times."""
        return Budget(n * self.queries, n * self.gradients)


@dataclass(frozen=True)
class Against:
    """What of a victim and a threat decides how long an attack takes.

    Attributes:
        draws: forward passes per prediction: 1 of a deterministic victim.
        classes: of the largest attacked task.
        tasks: how many are attacked.
        soft: whether the victim offers soft gradients.
        targeted: whether the attack aims at a class of the user's.
        sources: victims that `transfer` makes its adversarials on.
        norm: of the threat.
    """

    draws: int = 1
    classes: int = 2
    tasks: int = 1
    soft: bool = False
    targeted: bool = False
    sources: int = 0
    norm: Norm = "Linf"

    @property
    def random(self) -> bool:
        """Whether the victim is."""
        return self.draws > 1

    @property
    def facing(self) -> searching.Facing:
        """The same as a search sees it."""
        return searching.Facing(self.random, self.classes, self.soft, self.tasks, self.norm)


def most(name: str, parameters: Mapping[str, Any], against: Against) -> Budget | None:
    """What a native attack takes at most.

    Args:
        name: of the attack.
        parameters: all of them.
        against: whom it is made against.

    Returns:
        Passes a sample; None of an attack that is not listed here, as those of the user's.
    """
    if name in OWN_THREATS:
        return OWN_BUDGETS[name](against, **parameters)
    asks = BUDGETS.get(name)
    if asks is None or entry_of(name).name != name:
        return None
    return asks(against, **parameters)


def _noise(against: Against) -> Budget:
    return Budget()


def _fgsm(against: Against, *, eot: int, **others: Any) -> Budget:
    return Budget(gradients=eot)


def _steps(
    against: Against, *, steps: int, eot: int, keep: str = "best", restarts: int = 1, **others: Any
) -> Budget:
    """Projected steps, and a look at where the last one ends; restarts are judged one by one."""
    looks = keep == "best" and not against.random
    run = Budget(against.draws if looks else 0, steps * eot)
    judged = against.draws * restarts if restarts > 1 else 0
    return run.times(restarts) + Budget(judged)


def _climb(against: Against, steps: int, eot: int) -> Budget:
    """One run of APGD; two of its points are judged against a random victim."""
    return Budget(2 * against.draws if against.random else 0, (steps + 1) * eot)


def _apgd(against: Against, *, steps: int, restarts: int, eot: int, **others: Any) -> Budget:
    return (_climb(against, steps, eot) + Budget(against.draws)).times(restarts)


def _apgd_t(against: Against, *, steps: int, targets: int, eot: int, **others: Any) -> Budget:
    run = _climb(against, steps, eot) + Budget(against.draws)
    return Budget(against.draws) + run.times(min(targets, against.classes - 1))


def _malt(against: Against, *, targets: int, candidates: int, eot: int, **others: Any) -> Budget:
    """The gradients that order the targets, and their runs."""
    ordered = against.tasks * min(candidates, against.classes - 1) * eot
    order = Budget(against.draws, ordered if against.classes > 2 else 0)
    return order + _apgd_t(against, targets=targets, eot=eot, **others)


def _along_boundary(against: Against, *, steps: int, eot: int, **others: Any) -> Budget:
    """A gradient a step that judges where it is, and a look at both ends."""
    return Budget(2 * against.draws, steps * eot)


def _ead(against: Against, *, steps: int, search: int, eot: int, **others: Any) -> Budget:
    return Budget(against.draws) + Budget(against.draws, eot).times(steps * search)


def _cw(against: Against, *, steps: int, search: int, eot: int, **others: Any) -> Budget:
    run = Budget(against.draws, steps * eot)
    return Budget(against.draws) + run.times(search)


def _fab(against: Against, *, steps: int, targets: int, eot: int, **others: Any) -> Budget:
    goals = 1 + against.tasks if against.tasks > 1 else 1
    aims = 1 if against.targeted else min(targets, against.classes - 1)
    ranking = 0 if against.targeted else against.draws
    return Budget(against.draws + ranking) + Budget(against.draws, eot).times(steps * goals * aims)


def _square(against: Against, *, queries: int, eot: int, **others: Any) -> Budget:
    """Each query asked once: what is asked ahead of the last few samples of a batch is not
    counted.
    """
    return Budget((queries + (1 if against.random else 0)) * eot)


def _autoattack(
    against: Against, *, version: str, steps: int, targets: int, queries: int, eot: int
) -> Budget:
    version = ensemble.version_for(version, [against.classes], stochastic=against.random)
    own = ensemble.members(
        version, against.norm, steps=steps, targets=targets, queries=queries, eot=eot
    )
    total = Budget()
    for name, params in own:
        total += BUDGETS[name](against, **complete(name, params)) + Budget(against.draws)
    return total


def _adaptive(against: Against) -> Budget:
    missing, total = searching.required(against.facing), Budget()
    for each in searching.rounds(against.facing):
        if not missing:
            break
        missing.discard(each.kind)
        total += of_round(each, against) + Budget(against.draws)
    return total


def of_round(each: searching.Round, against: Against) -> Budget:
    """What one round of a search takes at most."""
    return BUDGETS[each.attack](against, **searching.complete(each, against.facing))


def _transfer(against: Against, *, steps: int, eot: int, **others: Any) -> Budget:
    return Budget(against.draws, steps * eot).times(against.sources)


def _hopskipjump(
    against: Against, *, steps: int, evaluations: int, initial: int, eot: int
) -> Budget:
    """Estimates of a gradient that grow with the root of the step, and a search along a line behind
    each, with the step before it of up to `LINE` decisions.
    """
    estimates = sum(min(int(initial * math.sqrt(i + 1)), evaluations) for i in range(steps))
    decisions = initial + estimates + LINE * (steps + 1)
    return Budget(decisions * eot + 2 * against.draws)


def _boundary(against: Against, *, steps: int, initial: int, eot: int, **others: Any) -> Budget:
    """Two decisions a step, behind the search for the boundary."""
    return Budget((initial + LINE + 2 * steps) * eot + 2 * against.draws)


def _patch(against: Against, *, place: str, steps: int, eot: int, **others: Any) -> Budget:
    """Of a place that is chosen: the looks that choose it, and one at the end."""
    if place == RANDOM_PLACE:
        return Budget(gradients=steps * others["places"] * eot)
    looks = others["candidates"] + 2 * (MOVES + 1) + 1
    return Budget(looks * against.draws, steps * eot)


def _universal(against: Against, *, steps: int, eot: int, **others: Any) -> Budget:
    """Each sample helps to make one perturbation."""
    return Budget(0 if against.random else 1, steps * eot)


LINE = 50
"""Decisions of a search along a line, 27 for a million pixels, and of the step before it."""
BUDGETS: dict[str, Callable[..., Budget]] = {
    "noise": _noise,
    "fgsm": _fgsm,
    "bim": _steps,
    "pgd": _steps,
    "mim": _steps,
    "apgd": _apgd,
    "apgd-t": _apgd_t,
    "malt": _malt,
    "cw": _cw,
    "ddn": _along_boundary,
    "fmn": _along_boundary,
    "ead": _ead,
    "sigma-zero": _along_boundary,
    "fab": _fab,
    "square": _square,
    "sparse-rs": _square,
    "autoattack": _autoattack,
    "adaptive": _adaptive,
    "transfer": _transfer,
    "hopskipjump": _hopskipjump,
    "boundary": _boundary,
}
"""By attack: `(against, *, parameters) -> passes a sample`."""
OWN_BUDGETS: dict[str, Callable[..., Budget]] = {"patch": _patch, "universal": _universal}
"""The same of attacks of a threat of their own."""
