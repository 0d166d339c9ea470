"""Units of a grid that processes work on now: `claims/<unit>.json` in a run's folder, a lock each
that tells how far its owner is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_med.owners import Owner
from robustbench_med.owners.lock import Lock, read
from robustbench_med.store.belief import HASH_LENGTH

FOLDER = "claims"


@dataclass(frozen=True)
class Claim:
    """A unit that is being worked on.

    Attributes:
        owner: the process that does.
        about: `unit` (its key), `victim`, `since` (seconds since 1970), `cells` and how many of
            them are `finished`, and what it is `doing`: `done` steps of `total`.
    """

    owner: Owner
    about: dict[str, Any]


def claim(out: Path, key: str, about: Mapping[str, Any]) -> Lock:
    """The lock of a unit, to be taken before it is worked on."""
    return Lock(_path(out, key), {"unit": key, **about})


def owner_of(out: Path, key: str) -> Owner | None:
    """Who works on a unit."""
    held = read(_path(out, key))
    return None if held is None else held.owner


def claims(out: Path) -> list[Claim]:
    """Everything that is worked on in a run's folder by processes that live."""
    found = []
    for path in sorted((out / FOLDER).glob("*.json")):
        held = read(path)
        if held is not None and held.owner is not None and not held.is_dead(path):
            found.append(Claim(held.owner, held.about))
    return found


def _path(out: Path, key: str) -> Path:
    return out / FOLDER / f"{key[:HASH_LENGTH]}.json"
