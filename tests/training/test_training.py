"""Training and checkpoints: the same seed, the same weights; interrupted or not; and what does not
fit is refused.
"""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from monai.data import get_track_meta
from support.files import write_folder_set
from support.trainings import CPU, KilledError, kill_at, spec_of, train

from robustbench_med.data import Files, load
from robustbench_med.errors import UserError
from robustbench_med.runs import commands
from robustbench_med.training import batch_norm, batches, checkpoints, loop, presets, validation
from robustbench_med.training.augmentation import augment

pytestmark = pytest.mark.fresh


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("late", {"schedule": "one-cycle"}),
        ("late", {"schedule": "plateau", "optimizer": "adam", "augmentation": "release"}),
        (
            "late",
            {
                "schedule": "constant",
                "augmentation": "strong",
                "keep": "auc",
                "ema": 0.9,
                "label_smoothing": 0.1,
                "mixup": 0.2,
            },
        ),
        pytest.param(
            "robust-mail",
            {"schedule": "trapezoid", "warm_up": (0.1, 0.5), "freeze_bn": 0.6, "settle_bn": True},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "robust-mail",
            {"schedule": "trapezoid", "warm_up": (0.1, 0.3), "freeze_bn": 0.4, "settle_bn": True},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "robust-mail",
            {"schedule": "trapezoid", "warm_up": (0.1, 0.3), "freeze_bn": 0.4, "settle_bn": False},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_killed_training_goes_on_to_the_weights_of_an_uninterrupted_one(
    pair, model, recipe, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(batch_norm, "SETTLING_PASSES", 5)
    spec = spec_of(pair, model, **recipe)
    whole = train(spec, pair)
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "another"))
    with pytest.raises(KilledError):
        train(spec, pair, kill_at(5))
    said = []
    resumed = loop.train(
        spec, pair, CPU, tick=lambda *_: None, say=said.append, command="medrobust train"
    )
    assert said == [f"continuing the interrupted training of {model} at step 4 of 6"]
    assert resumed.sha256 == whole.sha256
    assert resumed.sidecar["history"] == whole.sidecar["history"]
    assert not list(checkpoints.cached_path(spec).parent.glob("*.partial*"))


def test_another_seed_gives_other_weights_and_another_name(pair) -> None:
    a, b = (train(spec_of(pair, seed=seed), pair) for seed in (0, 1))
    assert a.sha256 != b.sha256
    assert a.path != b.path
    assert (
        loop.obtain(spec_of(pair), pair, CPU, tick=kill_at(1), say=print, command="medrobust train")
        == a
    )  # found, not trained again


def test_the_best_validation_loss_is_kept(pair) -> None:
    checkpoint = train(spec_of(pair, steps=10, lr=0.05), pair)
    history = checkpoint.sidecar["history"]
    best = min(history, key=lambda h: h["val_loss"])
    assert checkpoint.sidecar["best_step"] == best["step"]
    victim = presets.load(spec_of(pair, steps=10, lr=0.05), checkpoint, CPU)[0]
    assert validation.clean_validation(victim, pair.splits["val"], CPU, 0)[
        "val_loss"
    ] == pytest.approx(best["val_loss"], rel=1e-5)


def test_warm_up_keeps_no_weights_from_before_its_end(pair) -> None:
    checkpoint = train(spec_of(pair, steps=6, warm_up=(0.0, 0.6)), pair)
    assert checkpoint.sidecar["best_step"] == 6


@pytest.mark.parametrize(
    "recipe",
    [{"freeze_bn": 0.99}, {"early_stop": 1, "warm_up": (0.0, 0.7)}, {"warm_up": (0.5, 1.0)}],
)
def test_a_training_ends_with_weights_however_late_they_may_be_kept(pair, recipe) -> None:
    checkpoint = train(spec_of(pair, steps=6, schedule="trapezoid", **recipe), pair)
    assert checkpoint.sidecar["best_step"] == checkpoint.sidecar["history"][-1]["step"] == 6


def test_early_stopping_ends_a_training_that_no_longer_improves(pair) -> None:
    checkpoint = train(spec_of(pair, steps=40, lr=1e-9, early_stop=3), pair)
    assert checkpoint.sidecar["history"][-1]["step"] < 40


def test_half_precision_halves_the_file_and_keeps_the_predictions(pair) -> None:
    whole, half = (train(spec_of(pair, half=h), pair) for h in (False, True))
    assert half.path.stat().st_size < 0.6 * whole.path.stat().st_size
    x = pair.splits["test"].batch(range(8))
    a, b = (
        presets.load(spec_of(pair, half=h), c, CPU)[0](*x)[0]
        for h, c in ((False, whole), (True, half))
    )
    assert torch.allclose(a, b, atol=2e-2)


def test_classes_are_drawn_equally_often_however_rare(tmp_path: Path) -> None:
    path = write_folder_set(tmp_path, "skewed", "xray", per_class=30)
    for i in range(20):
        (tmp_path / "skewed" / "nodule" / f"image({i}).png").unlink()
    dataset = load(str(path), size=32, files=Files(data_root=tmp_path))
    sample = batches.BalancedBatches(dataset.splits["train"], 32, seed=0)
    labels = np.concatenate([sample(step)[1].numpy()[:, 0] for step in range(40)])
    assert np.allclose(np.bincount(labels) / len(labels), 1 / 3, atol=0.04)
    assert torch.equal(sample(3)[0][0], sample(3)[0][0])


@pytest.mark.parametrize("kind", ["light", "release", "strong"])
def test_augmentation_changes_images_a_little_stays_in_the_box_and_depends_on_the_step_alone(
    pair, kind
) -> None:
    x = pair.splits["train"].batch(range(32))[0]
    tracked = get_track_meta()
    a, b, c = (augment(x, kind, 0, step) for step in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == x.shape
    assert type(a) is torch.Tensor
    assert get_track_meta() is tracked
    assert 0 <= float(a.min()) <= float(a.max()) <= 1
    assert 0.005 < float((a - x).abs().mean()) < 0.2
    assert augment(x, "none", 0, 1) is x


def test_light_augmentation_turns_moves_and_zooms_as_far_as_it_says() -> None:
    """Three blobs of the drawing are followed: the centre tells the shift, the arms from it tell
    angle and zoom.
    """
    size, arm = 97, 30
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = size // 2
    spots = [(centre, centre), (centre, centre + arm), (centre + arm, centre)]
    blobs = torch.stack([torch.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 18) for r, c in spots])
    found = []
    for step in range(20):
        moved = augment(blobs.expand(16, -1, -1, -1).contiguous(), "light", 0, step)
        mass = moved.sum((2, 3))
        found.append(
            torch.stack(
                [(moved * rows).sum((2, 3)) / mass, (moved * columns).sum((2, 3)) / mass], -1
            )
        )
    place = torch.cat(found)  # (320, 3 blobs, row and column)
    shift = (place[:, 0] - centre).abs() / size
    assert 0.055 < float(shift.max()) < 0.07
    assert shift.max(0).values.min() > 0.05  # in both directions
    along, down = place[:, 1] - place[:, 0], place[:, 2] - place[:, 0]
    angle = torch.rad2deg(torch.atan2(along[:, 0], along[:, 1]))
    assert -11 < float(angle.min()) < -8
    assert 8 < float(angle.max()) < 11
    for side in (along, down):
        zoom = side.norm(dim=1) / arm
        assert 0.9 < float(zoom.min()) < 0.95
        assert 1.05 < float(zoom.max()) < 1.11


def test_a_victim_at_chance_is_called_trivial_in_its_sidecar(tmp_path) -> None:
    card = write_folder_set(tmp_path, "many", "mri", per_class=60)
    many = load(str(card), size=32, files=Files(data_root=tmp_path))
    checkpoint = train(spec_of(many, lr=1e-9), many)
    assert all(figures["trivial"] for figures in checkpoint.sidecar["validation"])


def test_the_sidecars_command_names_what_differs_from_the_preset(pair) -> None:
    spec = spec_of(pair, half=True)
    for part in (
        "--model late",
        "--size 32",
        "--model-param width=4",
        "--recipe steps=6",
        "--recipe eval_every=2",
        "--half",
    ):
        assert part in commands.training_command(spec, pair)
    assert "lr" not in commands.training_command(spec, pair)


@pytest.mark.parametrize(
    "recipe",
    [
        {"steps": 0},
        {"lr": -1},
        {"speed": 3},
        {"steps": 5, "epochs": 2},
        {"schedule": "none"},
        {"settle_bn": True},
    ],
)
def test_a_faulty_recipe_is_refused_before_any_work(pair, recipe) -> None:
    with pytest.raises(UserError, match="recipe of late"):
        spec_of(pair, **recipe)


def test_what_two_settings_of_a_recipe_ask_of_each_other_is_said_plainly(pair) -> None:
    with pytest.raises(
        UserError,
        match=(
            r"^recipe of late: settle_bn needs freeze_bn, the share of the training after which it"
            r" begins$"
        ),
    ):
        spec_of(pair, settle_bn=True)


def test_a_checkpoint_of_another_architecture_width_or_class_count_is_refused(
    pair, drawn_root
) -> None:
    checkpoint = train(spec_of(pair), pair)
    swapped = load(
        f"{drawn_root / 'chests.yaml'}+{drawn_root / 'heads.yaml'}",
        size=32,
        files=Files(data_root=drawn_root),
    )
    for spec, message in (
        (spec_of(pair, "mail"), "does not fit this model: it lacks"),
        (spec_of(pair, params={"width": 8}), "another width or another number of classes"),
        (spec_of(swapped), "another width or another number of classes"),
    ):
        with pytest.raises(UserError, match=message):
            presets.load(spec, checkpoint, CPU)


def test_a_damaged_checkpoint_is_refused(pair) -> None:
    checkpoint = train(spec_of(pair), pair)
    data = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(data[:-10])
    with pytest.raises(UserError, match="sha256 differs"):
        checkpoints.open_checkpoint(checkpoint.path)
    checkpoint.path.with_suffix(".json").unlink()
    with pytest.raises(UserError, match="cannot read the safetensors file"):
        presets.load(spec_of(pair), checkpoints.open_checkpoint(checkpoint.path), CPU)
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        checkpoints.open_checkpoint(checkpoint.path.with_name("absent.safetensors"))


def test_a_damaged_progress_file_starts_the_training_again(pair) -> None:
    spec = spec_of(pair)
    partial = checkpoints.cached_path(spec).with_name(
        f"{checkpoints.cached_path(spec).stem}.partial.safetensors"
    )
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"not safetensors")
    said = []
    checkpoint = loop.train(
        spec, pair, CPU, tick=lambda *_: None, say=said.append, command="medrobust train"
    )
    assert "starting again" in said[0]
    assert safetensors.torch.load_file(checkpoint.path)
