"""Data sets that several tests change."""

from pathlib import Path

import pytest
from support.table_sets import TableSet


@pytest.fixture
def lesions(tmp_path: Path) -> TableSet:
    made = TableSet(tmp_path / "root")
    made.draw()
    return made
