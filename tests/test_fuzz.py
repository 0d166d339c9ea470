"""What others wrote, mutated: a door returns or raises one line, soon, in little memory."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from support.fuzzing import DOORS, KINDS, meets

CORPUS = Path(__file__).parent / "corpus"
SHORT, LONG = 15, 500
LATE = ("data", "outcomes", "record", "sealed record")
"""These take the better part of a second an input."""
CALM = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))  # fmt: skip


def shown(name: str, inputs: int) -> None:
    """Shows a door so many inputs."""

    @settings(CALM, max_examples=inputs)
    @given(DOORS[name].inputs)
    def each(data: bytes) -> None:
        meets(DOORS[name], data)

    each()


def test_every_door_is_of_one_kind() -> None:
    assert sorted(door for doors in KINDS.values() for door in doors) == sorted(DOORS)


@pytest.mark.parametrize("name", DOORS)
def test_a_door_holds(name: str, home: Path) -> None:
    shown(name, 3 if name in LATE else SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_a_door_holds_for_long(name: str, home: Path) -> None:
    shown(name, 50 if name in LATE else LONG)


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_once_failed_holds(path: Path, home: Path) -> None:
    meets(DOORS[path.parent.name], path.read_bytes())
