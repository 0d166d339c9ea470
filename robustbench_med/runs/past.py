"""How long earlier cells of a folder took, for estimates of those to come."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_med.formats import json_file
from robustbench_med.formats.files import UnreadableError

NEAR = math.log(1.5)
"""Radii within this factor of each other are alike: samples leave an attack as early."""
SMALLEST = 1e-9
"""Stands for a radius of 0 where radii are compared by their ratio."""


@dataclass(frozen=True)
class Measured:
    """What a record says of its time.

    Attributes:
        data: name of the data set.
        radius: the largest.
        seconds: a sample.
    """

    data: str
    radius: float
    seconds: float


class Past:
    """The times of the records in a run's folder, read when they are first asked for; believed or
    not: nothing but time is taken of them.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / "records"

    @cached_property
    def measured(self) -> defaultdict[str, list[Measured]]:
        """By what the time of a cell depends on."""
        found: defaultdict[str, list[Measured]] = defaultdict(list)
        for path in self.folder.glob("[0-9a-f]*.json"):
            try:
                record = json_file.load_object(path, "the record")
                found[_key(record)].append(_measured(record))
            except (UnreadableError, ValueError, KeyError, TypeError, ArithmeticError):
                continue  # damaged or of an older shape: `verify` says so, its time is not known
        return found

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in a record that was made just now."""
        self.measured[_key(record)].append(_measured(record))

    def like(self, spec: Mapping[str, Any], device: str) -> float | None:
        """Seconds of a cell by the records of the same victim and attack on such a device: those on
        its data count before others, then those of the nearest radius, which has to be near.

        Args:
            spec: of the cell, as its record would hold it.
            device: what it is called in records.

        Returns:
            The median; None where there is no such record.
        """
        known = self.measured.get(_likeness(spec, device), [])
        if not known:
            return None
        data, wanted = spec["data"], max(*spec["threat"]["radii"], SMALLEST)

        def far(each: Measured) -> tuple[bool, bool, float]:
            ratio = max(each.radius, SMALLEST) / wanted
            return abs(math.log(ratio)) > NEAR, each.data != data["name"], abs(math.log(ratio))

        nearest = min(map(far, known))
        if nearest[0]:
            return None
        seconds = statistics.median(each.seconds for each in known if far(each) == nearest)
        return float(seconds * data["n"])


def _measured(record: Mapping[str, Any]) -> Measured:
    spec, spent = record["spec"], record["cost"]
    seconds = spent["seconds"] + (spent.get("challenge_seconds") or 0.0)
    data = spec["data"]
    return Measured(data["name"], max(spec["threat"]["radii"]), seconds / data["n"])


def _key(record: Mapping[str, Any]) -> str:
    return _likeness(record["spec"], record["environment"]["device"])


def _likeness(spec: Mapping[str, Any], device: str) -> str:
    """What the time of a cell depends on, but for its data and its radius."""
    victim, data, threat, attack = (spec[key] for key in ("victim", "data", "threat", "attack"))
    layers = [[layer["name"], layer["params"]] for layer in victim.get("defense") or []]
    parts = [
        [victim["model"], victim["params"], layers, device],
        [data["size"], list(data["channels"]), threat["norm"], len(threat["tasks"])],
        [attack["name"], attack["params"], attack.get("effort"), spec.get("engine", "native")],
        [spec["protocol"]["name"], spec["protocol"]["draws"], "carried" in spec],
    ]
    return json.dumps(parts, sort_keys=True)
