"""Data sets on disk, and where the repository lies."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from robustbench_med.data import phantoms

ROOT = Path(__file__).parents[2]
"""The repository."""
SHARED_DATA = Path(os.environ.get("MEDROBUST_TEST_DATA") or ROOT.parent / "shared" / "data")


needs_real_data = pytest.mark.skipif(
    not (SHARED_DATA / "breastmnist.npz").is_file(),
    reason=f"no real images in {SHARED_DATA}; name their folder in MEDROBUST_TEST_DATA",
)


def write_folder_set(
    root: Path, name: str, kind: str, *, per_class: int = 20, size: int = 32, split: bool = False
) -> Path:
    """A data set of class folders with drawn PNGs, and its card; returns the card's path."""
    draw, classes = {
        "mri": (phantoms.mri, phantoms.MRI_CLASSES),
        "xray": (phantoms.xray, phantoms.XRAY_CLASSES),
    }[kind]
    parts = {"train": "Training", "test": "Testing"} if split else {"": ""}
    for p, folder in enumerate(parts.values()):
        for label, class_name in enumerate(classes):
            target = root / name / folder / class_name
            target.mkdir(parents=True)
            for i in range(per_class):
                pixels = draw(label, np.random.default_rng([p, label, i]), size)
                Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(
                    target / f"image({i}).png"
                )
    card = {
        "id": name,
        "title": name,
        "modalities": [{"name": kind, "channels": 1}],
        "tasks": [{"name": f"{kind}-task", "classes": list(classes)}],
        "counts": dict.fromkeys(
            ("train", "test") if split else ("total",), per_class * len(classes)
        ),
        "url": "none",
        "licence": "MIT",
        "access": "made by a test",
        "citation": "none",
        "reader": {
            "kind": "folders",
            "splits": {key: folder for key, folder in parts.items() if key},
        },
        "provenance": "made by a test",
        "synthetic": True,
    }
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(card))
    return path
