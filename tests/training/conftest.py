"""What trainings are tried on."""

from pathlib import Path

import pytest

from robustbench_med.data import Dataset, Files, load


@pytest.fixture(scope="session")
def pair(drawn_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(tmp_path_factory.mktemp("home")))
        return load(
            f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}",
            size=32,
            files=Files(data_root=drawn_root),
        )
