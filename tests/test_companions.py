"""medrobust beside what victims are trained and tracked with, in one process: transformers,
lightning, MLflow, Weights & Biases and TensorBoard, at current requests, urllib3 and idna. Nothing
here is skipped: the extra `dev` brings all of it, `medrobust engines install` the rest.
"""

import re
import time
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from support.attacking import IDS
from support.cli import medrobust, small_run
from support.files import ROOT
from support.records import record

from robustbench_med.attacks import ENGINES, Streams, Threat, View, complete
from robustbench_med.store import loggers, tracking

KNOWN_TO_BE_UNSAFE_BELOW = {"requests": "2.33", "urllib3": "2.8", "idna": "3.15"}
VIT = '''
import torch
from torch import nn
from transformers import ViTConfig, ViTModel


class Net(nn.Module):
    """A transformers ViT for each modality, one head for each task."""

    def __init__(self, channels, class_counts, image_size):
        super().__init__()
        self.encoders = nn.ModuleList(
            ViTModel(
                ViTConfig(
                    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                    image_size=image_size, patch_size=8, num_channels=c,
                ),
                add_pooling_layer=False,
            )
            for c in channels
        )
        self.heads = nn.ModuleList(nn.Linear(16 * len(channels), n) for n in class_counts)

    def forward(self, *modalities):
        features = [
            encode(pixel_values=2 * x - 1).last_hidden_state[:, 0]
            for encode, x in zip(self.encoders, modalities)
        ]
        return tuple(head(torch.cat(features, 1)) for head in self.heads)


def build(channels, class_counts, image_size):
    return Net(channels, class_counts, image_size)
'''
"""A user's own model file."""


@pytest.mark.parametrize("package", KNOWN_TO_BE_UNSAFE_BELOW)
def test_a_package_with_known_vulnerabilities_is_neither_demanded_nor_locked_nor_here(
    package,
) -> None:
    floor = KNOWN_TO_BE_UNSAFE_BELOW[package]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    (locked,) = re.findall(
        rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    assert str(asked[package]) == f">={floor}"
    for version in (locked, metadata.version(package)):
        assert asked[package].contains(version), version


def test_transformers_vit_and_its_image_processor_work_without_torchvision() -> None:
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    picture = Image.fromarray(np.full((40, 40, 3), 200, np.uint8))
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.allclose(pixels, torch.tensor(200 / 255 * 2 - 1), atol=1e-6)
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                       intermediate_size=32, image_size=32, patch_size=8)  # fmt: skip
    assert ViTModel(config)(pixels).last_hidden_state.shape == (1, 17, 16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A victim of one modality and one task that lightning trained on bright and dark images."""
    import lightning

    class Bright(lightning.LightningModule):
        n_modalities, class_counts, stochastic = 1, (4,), False

        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))

        def forward(self, image):
            return (self.net(image - 0.5),)

        def training_step(self, batch, _):
            image, label = batch
            return torch.nn.functional.cross_entropy(self(image)[0], label)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.1)

    lightning.seed_everything(0, verbose=False)
    label = torch.arange(32) % 4
    image = (0.35 + 0.1 * label[:, None, None, None] + 0.02 * torch.randn(32, 1, 8, 8)).clamp(0, 1)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=60, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        default_root_dir=tmp_path_factory.mktemp("lightning"),
    )  # fmt: skip
    victim = Bright()
    data = torch.utils.data.TensorDataset(image, label)
    trainer.fit(victim, torch.utils.data.DataLoader(data, batch_size=32))
    return victim.eval().requires_grad_(False), image.flatten(1)[:16], label[:16, None]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_breaks_what_lightning_trained(engine, trained) -> None:
    victim, x, y = trained
    view = View(victim, ((1, 8, 8),))
    threat = Threat("Linf", (0.1,), (0,))
    params = complete("pgd", {"steps": 5}, engine)
    torch.manual_seed(0)
    broken = ENGINES[engine]["pgd"](view, x, y, threat, Streams.seeded(0, IDS, "pgd"), **params)
    view.check(broken, x, threat)
    right = [float((view.logits(at)[0].argmax(1) == y[:, 0]).float().mean()) for at in (x, broken)]
    assert right[0] == 1
    assert right[1] < 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_attacks_a_transformers_vit_in_a_file_of_the_users(
    engine, drawn_root, tmp_path
) -> None:
    (tmp_path / "vit.py").write_text(VIT)
    words = small_run(
        drawn_root, tmp_path / "out", "--limit", 6, "--engine", engine,
        model=f"{tmp_path / 'vit.py'}:build", attack="pgd",
    )  # fmt: skip
    medrobust(*words)
    rows = pd.read_csv(tmp_path / "out" / "cells.csv").query("attack == 'pgd'")
    assert list(rows["engine"]) == [engine] * 2
    assert (rows["robust"] <= rows["clean"]).all()


def test_a_run_reaches_mlflow_tensorboard_and_weights_and_biases_at_once(
    tmp_path, monkeypatch
) -> None:
    import wandb
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    (swept,) = tracking.of_run([record("mail", 0.5, eps=4 / 255)], tmp_path)
    uri, events = (tmp_path / "mlruns").as_uri(), tmp_path / "events"
    with wandb.init(project="medrobust", dir=tmp_path, sync_tensorboard=True):
        loggers.write([swept], loggers.loggers_of(mlflow=uri, tensorboard=events))
        seen_by_its_watcher(tmp_path / "wandb", {name for name, _, _ in swept.points})

    folder = events / loggers.folder_name(swept.name)
    assert EventAccumulator(str(folder)).Reload().Scalars("robust")[0].value == 0.5
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(loggers.EXPERIMENT)
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.data.metrics["robust"] == 0.5
    (offline,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    logged = offline.read_bytes()
    assert [name for name, _, _ in swept.points if name.encode() not in logged] == []
    (synced,) = Path(offline.parent, "files").rglob(EVENTS)
    assert synced.read_bytes() == next(folder.iterdir()).read_bytes()


EVENTS = "events.out.tfevents.*"


def seen_by_its_watcher(folder: Path, names: set[str], seconds: float = 60) -> None:
    """Waits until Weights & Biases, which looks for events every ten seconds or so, has written the
    first of them: a run that ends before may have none.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        logged = b"".join(path.read_bytes() for path in folder.glob("offline-run-*/*.wandb"))
        if any(name.encode() in logged for name in names):
            return
        time.sleep(0.2)
