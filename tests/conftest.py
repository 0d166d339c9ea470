"""Small victims, small data sets on disk, and a home and a seed for every test."""

import os
import random
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker: more would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from robustbench_med.data import phantoms

SHARED_DATA = Path(os.environ.get("MEDROBUST_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_real_data = pytest.mark.skipif(
    not (SHARED_DATA / "breastmnist.npz").is_file(), reason=f"no real images in {SHARED_DATA}; name their folder in MEDROBUST_TEST_DATA"
)

SEED = int(os.environ.get("MEDROBUST_TEST_SEED", "0"))
"""What every test starts from; no test may depend on a lucky one: `MEDROBUST_TEST_SEED=1 pytest` and so on must pass too."""


@pytest.fixture(autouse=True)
def seed() -> int:
    """Global generators that start from the same state whatever ran before."""
    random.seed(SEED), np.random.seed(SEED), torch.manual_seed(SEED)
    return SEED


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test does touches the user's cache or ~/.medmnist."""
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return tmp_path / "home"


class TwoHeads(nn.Module):
    """A small deterministic victim of two modalities (1 x 8 x 8 and 3 x 6 x 6) and two tasks (2 and 4 classes)."""

    n_modalities = 2
    class_counts = (2, 4)
    stochastic = False
    shapes = ((1, 8, 8), (3, 6, 6))

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(172, 12, generator=generator) / 4, requires_grad=False)
        self.heads = nn.ParameterList(nn.Parameter(torch.randn(12, n, generator=generator), requires_grad=False) for n in self.class_counts)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        h = torch.tanh((torch.cat((a.flatten(1), b.flatten(1)), 1) - 0.5) @ self.first)
        return tuple(h @ head for head in self.heads)


class CoinFlip(nn.Module):
    """Right with probability 0.7 on every input, whatever an attacker does; has a gradient, which leads nowhere."""

    n_modalities = 1
    class_counts = (2,)
    stochastic = True

    def forward(self, x: Tensor) -> tuple[Tensor]:
        label = (x[:, 0, 0, 0] > 0.5).float()  # the corner pixel carries the label; tests keep it trusted by their radius
        right = (torch.rand(len(x), device=x.device) < 0.7).float()
        sign = 2 * (label * right + (1 - label) * (1 - right)) - 1
        z = sign * (1 + 0 * x.mean((1, 2, 3)))
        return (torch.stack((-z, z), 1),)


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
    y = torch.stack([torch.randint(n, (16,), generator=generator) for n in TwoHeads.class_counts], 1)
    return x, y


def write_folder_set(root: Path, name: str, kind: str, *, per_class: int = 20, size: int = 32, split: bool = False) -> Path:
    """A data set of class folders with drawn PNGs, and its card; returns the card's path."""
    draw, classes = {"mri": (phantoms.mri, phantoms.MRI_CLASSES), "xray": (phantoms.xray, phantoms.XRAY_CLASSES)}[kind]
    parts = {"train": "Training", "test": "Testing"} if split else {"": ""}
    for p, folder in enumerate(parts.values()):
        for label, class_name in enumerate(classes):
            target = root / name / folder / class_name
            target.mkdir(parents=True)
            for i in range(per_class):
                pixels = draw(label, np.random.default_rng([p, label, i]), size)
                Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(target / f"image({i}).png")
    card = {
        "id": name,
        "title": name,
        "modalities": [{"name": kind, "channels": 1}],
        "tasks": [{"name": f"{kind}-task", "classes": list(classes)}],
        "counts": dict.fromkeys(("train", "test") if split else ("total",), per_class * len(classes)),
        "url": "none",
        "licence": "MIT",
        "access": "made by a test",
        "citation": "none",
        "reader": {"kind": "folders", "splits": {key: folder for key, folder in parts.items() if key}},
        "provenance": "made by a test",
        "synthetic": True,
    }
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(card))
    return path


@pytest.fixture(scope="session")
def drawn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small data sets, `heads` (4 classes) and `chests` (3 classes), as class folders with cards."""
    root = tmp_path_factory.mktemp("data")
    write_folder_set(root, "heads", "mri")
    write_folder_set(root, "chests", "xray")
    return root
