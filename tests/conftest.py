"""Small victims, small data sets on disk, and a home and a seed for every test."""

import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

if "OMP_NUM_THREADS" not in os.environ:  # small victims gain nothing from threads, which on a
    os.environ["OMP_NUM_THREADS"] = "1"  # busy machine wait for each other a hundred times as long

import numpy as np
import pytest
import torch
from support.browser import CHROMIUM
from support.files import write_folder_set
from support.memory import measure_once, obtain_from
from support.short import shorten, unsynced
from support.victims import TwoHeads
from torch import Tensor

from robustbench_med.attacks.streams import seed_torch
from robustbench_med.data import phantoms
from robustbench_med.evaluation import cost
from robustbench_med.runs import registration
from robustbench_med.training import loop

unsynced()
phantoms.studies = cache(phantoms.studies.__wrapped__)  # of all sizes: tests take turns
SEED = int(os.environ.get("MEDROBUST_TEST_SEED", "0"))
"""What every test starts from; no test may depend on a lucky one: `MEDROBUST_TEST_SEED=1 pytest`
and so on must pass too.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tutorials, minutes each, come first: last, all but one processor would wait for them."""
    items.sort(key=lambda item: item.path.name != "test_tutorials.py")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Global generators that start from the same state whatever ran before."""
    random.seed(SEED), np.random.seed(SEED), seed_torch(SEED)
    return SEED


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test does touches the user's cache or ~/.medmnist."""
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def shared_victims(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """What a test of this session trained and measured before, in whatever worker, serves all
    others but those marked `fresh`.
    """
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    if request.node.get_closest_marker("fresh") is None:
        monkeypatch.setattr(loop, "obtain", obtain_from(session / "victims"))
        monkeypatch.setattr(cost, "measure", measure_once)
    return session / "victims"


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    """What a test registers is gone behind it."""
    tables = (*registration._TABLES.values(), registration._INCLUDED)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        if table != kept:
            table.clear()
            table.update(kept)
    registration._PACKAGED.clear()


@pytest.fixture(autouse=True)
def short_trust(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows an attack, its signs and its challengers, is short in all tests but those marked
    `challenged`.
    """
    if request.node.get_closest_marker("challenged") is None:
        shorten(monkeypatch.setattr)


@pytest.fixture
def victim() -> TwoHeads:
    return TwoHeads().eval()


@pytest.fixture
def batch() -> tuple[list[Tensor], Tensor]:
    """16 samples for `TwoHeads`: modalities with exactly black and white pixels, and labels."""
    generator = torch.Generator().manual_seed(1)
    x = [torch.rand(16, *shape, generator=generator) for shape in TwoHeads.shapes]
    x[0][:, :, :2] = 0
    x[1][:, :, -1] = 1
    y = torch.stack(
        [torch.randint(n, (16,), generator=generator) for n in TwoHeads.class_counts], 1
    )
    return x, y


@pytest.fixture(scope="session")
def drawn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small data sets, `heads` (4 classes) and `chests` (3 classes), as class folders with
    cards.
    """
    root = tmp_path_factory.mktemp("data")
    write_folder_set(root, "heads", "mri")
    write_folder_set(root, "chests", "xray")
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """One browser for all tests of a process: Playwright takes no second one beside it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
