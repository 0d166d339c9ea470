"""A run's units on any number of workers, simulated: when all of them are done, and what it is that
keeps more workers from helping.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

ROUNDED = 1.05
"""Workers that do a whole number of units each wait for the last ones by more than this: then it is
said.
"""


@dataclass(frozen=True)
class Costs:
    """What a run takes besides its units, in seconds.

    Attributes:
        start: until a new worker takes its first unit.
        planning: of one unit, by the driver before any work begins.
        handing: of one unit, by the driver: one after another.
    """

    start: float
    planning: float
    handing: float


@dataclass(frozen=True)
class Simulated:
    """A run with so many workers.

    Attributes:
        seconds: until all is done.
        speedup: over one worker that is there at once, with nothing besides its units.
        bound: what weighs most in `seconds`.
    """

    workers: int
    seconds: float
    speedup: float
    bound: str


def makespan(units: Sequence[float], workers: int, costs: Costs) -> float:
    """Seconds until workers that take one unit after another, in this order, have done all."""
    planned = costs.planning * len(units)
    free = [planned + costs.start] * workers
    driver = planned
    for seconds in units:
        driver = max(driver, heapq.heappop(free)) + costs.handing
        heapq.heappush(free, driver + seconds)
    return max(free)


def simulated(units: Sequence[float], workers: int, costs: Costs) -> Simulated:
    """A run of units in this order."""
    seconds, total = makespan(units, workers, costs), sum(units)
    each = math.ceil(len(units) / workers) * total / len(units)
    bounds = {
        "work": total / workers,
        "whole units": each if each > ROUNDED * total / workers else 0.0,
        "longest unit": max(units),
        "start and plan": costs.start + costs.planning * len(units),
        "driver": costs.handing * len(units),
    }
    bound = max(bounds, key=lambda name: bounds[name])
    return Simulated(workers, seconds, total / seconds, bound)
