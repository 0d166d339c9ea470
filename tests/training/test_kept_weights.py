"""Which weights a training keeps: by AUC, averaged over the steps; and soft labels."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.files import write_folder_set
from support.trainings import CPU, spec_of, train
from torch import nn

from robustbench_med import statistics
from robustbench_med.data import Files, load
from robustbench_med.errors import UserError
from robustbench_med.naming import training_hash
from robustbench_med.runs import commands
from robustbench_med.training import loop, presets, validation
from robustbench_med.training.averaging import Average
from robustbench_med.training.objectives.regularised import Regularised
from robustbench_med.training.objectives.standard import multitask_loss
from robustbench_med.training.spec import Layer, Recipe


def test_keep_auc_keeps_the_weights_of_the_highest_area_and_says_so(pair) -> None:
    spec = spec_of(pair, steps=12, lr=0.03, keep="auc")
    checkpoint = train(spec, pair)
    history = checkpoint.sidecar["history"]
    best = max(history, key=lambda point: (point["val_auc"], -point["val_loss"]))
    assert checkpoint.sidecar["best_step"] == best["step"]
    victim, split = presets.load(spec, checkpoint, CPU)[0], pair.splits["val"]
    figures = validation.clean_validation(victim, split, CPU, 0)
    assert figures["val_auc"] == pytest.approx(best["val_auc"], abs=1e-6)
    with torch.no_grad():
        logits = victim(*split.batch(range(len(split))))
    y = split.labels.numpy()
    areas = [
        statistics.auc(z.softmax(1).double().numpy()[y[:, t] >= 0], y[y[:, t] >= 0, t])
        for t, z in enumerate(logits)
    ]
    assert figures["val_auc"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_keep_auc_is_refused_where_no_task_has_every_class(tmp_path: Path) -> None:
    path = write_folder_set(tmp_path, "whole", "xray", per_class=12)
    dataset = load(str(path), size=32, files=Files(data_root=tmp_path))
    dataset.splits["val"].labels[:] = 0
    with pytest.raises(UserError, match="keep=auc needs validation samples of every class"):
        train(spec_of(dataset, keep="auc"), dataset)


def test_an_average_is_polyaks_mean_first_and_decays_then() -> None:
    victim = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average, expected = Average(victim, 0.5), None
    for step in range(30):
        with torch.no_grad():
            victim[0].weight.fill_(float(step))
            victim[1].running_mean.fill_(float(-step))
        average.update()
        decay = min(0.5, step / (step + 10))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    with average.worn():
        assert victim[0].weight.item() == pytest.approx(expected, rel=1e-5)
        assert victim[1].running_mean.item() == pytest.approx(-expected, rel=1e-5)
    assert victim[0].weight.item() == 29


def test_tables_and_masks_of_a_victim_are_not_averaged_and_nothing_of_it_is_copied() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()  # no deep copy
            self.register_buffer("positions", torch.arange(20))
            self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    victim = Own()
    average = Average(victim, 0.99)
    for _ in range(50):
        average.update()
    with average.worn():
        assert torch.equal(victim.positions, torch.arange(20))
        assert torch.equal(victim.mask, torch.tensor([0.0, float("-inf")]))


def test_averaged_weights_are_the_ones_kept(pair) -> None:
    """With a decay next to nothing the average is the last step's; with a strong one it is not."""
    plain, last, averaged = (
        train(spec_of(pair, steps=6, eval_every=6, ema=ema), pair) for ema in (None, 1e-9, 0.99)
    )
    assert plain.sidecar["history"][-1]["val_loss"] == last.sidecar["history"][-1]["val_loss"]
    assert plain.sha256 == last.sha256 != averaged.sha256


def test_soft_labels_are_the_formulas(pair) -> None:
    logits = (torch.randn(6, 3), torch.randn(6, 2))
    y = torch.tensor([[0, 1], [2, -1], [1, 0], [1, 1], [0, 0], [-1, 1]])
    for share in (0.0, 0.1):
        by_hand = []
        for t, z in enumerate(logits):
            rows = y[:, t] >= 0
            n = z.shape[1]
            soft = (1 - share) * F.one_hot(y[rows, t], n) + share / n
            by_hand.append(float(-(soft * z[rows].log_softmax(1)).sum(1).mean()))
        assert float(multitask_loss(logits, y, share)) == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert float(multitask_loss(logits, y)) == float(multitask_loss(logits, y, 0.0))


def test_mixup_mixes_images_and_losses_by_one_share() -> None:
    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            self.images = x.detach()
            return (self.head(x.flatten(1)),)

    victim, mixing = Seen(), Regularised(0.0, 0.4, seed=3)
    x, y = torch.rand(8, 1, 2, 2), torch.randint(0, 2, (8, 1))
    share, partner = mixing.pairs(8, step=5)
    loss = mixing.backward(victim, [x], y, 5)
    assert 0 < share < 1
    mixed = share * x + (1 - share) * x[partner]
    assert torch.allclose(victim.images, mixed)
    logits = victim(mixed)
    both = [multitask_loss(logits, labels).item() for labels in (y, y[partner])]
    assert float(loss) == pytest.approx(share * both[0] + (1 - share) * both[1], rel=1e-5)
    assert victim.head.weight.grad is not None
    assert mixing.pairs(8, step=5)[0] == share != mixing.pairs(8, step=6)[0]


def test_soft_labels_beside_an_adversarial_training_are_refused(pair) -> None:
    layers = [Layer(name="pgd-at", params={"eps": "4/255", "steps": 1})]
    spec = spec_of(pair, mixup=0.2).model_copy(update={"defense": tuple(layers)})
    with pytest.raises(UserError, match="mixup belong to a plain training, and pgd-at"):
        loop.objective_of(spec, pair)


def test_settings_at_their_default_are_no_part_of_a_hash() -> None:
    plain = Recipe(steps=3).model_dump()
    assert not {"keep", "ema", "label_smoothing", "mixup", "settle_bn"} & plain.keys()
    assert Recipe(steps=3, ema=0.9, keep="auc").model_dump() == plain | {"ema": 0.9, "keep": "auc"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("keep", "auc"),
        ("ema", 0.9),
        ("label_smoothing", 0.1),
        ("mixup", 0.2),
        ("schedule", "constant"),
        ("augmentation", "strong"),
    ],
)
def test_every_setting_is_in_the_hash_and_in_the_command(pair, setting: str, value) -> None:
    plain, changed = spec_of(pair), spec_of(pair, **{setting: value})
    assert training_hash(plain) != training_hash(changed)
    assert f"--recipe {setting}={value}" in commands.training_command(changed, pair)
    assert f"{setting}=" not in commands.training_command(plain, pair)


def test_a_setting_that_the_preset_has_and_the_recipe_lacks_stands_in_the_command(pair) -> None:
    """Their default must be told, where the preset says something else."""
    recipe = {"steps": 2, "ema": None, "keep": "loss"}
    spec = presets.make_spec("late", pair, "real", params={}, recipe=recipe, seed=0)
    command = commands.training_command(spec, pair)
    assert "--recipe keep=loss" in command
    assert "--recipe ema=" in command
