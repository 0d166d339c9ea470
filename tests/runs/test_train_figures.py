"""What a training says at its end: the victim's figures, and what is published beside them."""

from dataclasses import replace

import pytest
from support.trainings import CPU, spec_of, train

from robustbench_med.data import Published, load
from robustbench_med.reports.model_cards import _validation
from robustbench_med.runs.train import figures_line
from robustbench_med.training import presets
from robustbench_med.training.checkpoints import Validation
from robustbench_med.training.validation import validation_figures

PUBLISHED = Published(model="ResNet-18", size=28, accuracy=0.863, auc=0.901, source="MedMNIST v2")


def test_published_figures_stand_beside_the_victims() -> None:
    dataset = load("phantoms", size=32)
    spec = spec_of(dataset, steps=4)
    checkpoint = train(spec, dataset)
    victim = presets.load(spec, checkpoint, CPU)[0]
    dataset = replace(dataset, references=(PUBLISHED, None))
    known, unknown = validation_figures(victim, dataset, CPU, 0)
    assert known["auc"] == pytest.approx(checkpoint.sidecar["validation"][0]["auc"])
    line = figures_line(Validation.model_validate(known))
    assert f"AUC {known['auc']:.3f}" in line
    assert "(published of the test images, ResNet-18 at 28 px: accuracy 0.863, AUC 0.901)" in line
    assert "published" not in figures_line(Validation.model_validate(unknown))
    assert "ResNet-18 at 28 px, accuracy 0.863, AUC 0.901; MedMNIST v2" in _validation(known)
    assert _validation(unknown).endswith(f"AUC {unknown['auc']:.3f}") or unknown["trivial"]


def test_a_sidecar_of_an_older_version_has_no_area() -> None:
    old = {
        "task": "lung",
        "accuracy": 0.9,
        "balanced_accuracy": 0.8,
        "most_predicted_share": 0.5,
        "trivial": None,
    }
    line = figures_line(Validation.model_validate(old))
    assert line == (
        "task lung: validation accuracy 0.900, balanced 0.800, most predicted class 50%"
    )
