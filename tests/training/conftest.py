"""What trainings are tried on."""

from pathlib import Path

import pytest

from robustbench_med.data import Dataset, Files, load


@pytest.fixture
def pair(drawn_root: Path) -> Dataset:
    return load(
        f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}",
        size=32,
        files=Files(data_root=drawn_root),
    )
