"""A store that several tests spoil."""

from pathlib import Path

import pytest
from support.records import fill, record

from robustbench_med.store.store import Store


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three records; the first by name is the one that tests spoil."""
    fill(Store(tmp_path / "out"), record("mail", 0.5), record("late", 0.7), record("gmu", 0.6))
    return tmp_path / "out"
