"""Validation passes: which images, and when they are made."""

import shutil

import numpy as np
import torch
from support.objects import CELL

from robustbench_med import evaluate, make_data
from robustbench_med.runs import cell
from robustbench_med.store.store import Store
from robustbench_med.store.validation import VALIDATIONS


def test_a_limit_draws_validation_images_of_all_classes_and_a_second_run_adds_what_is_missing(
    tmp_path, monkeypatch
) -> None:
    labels = np.repeat([0, 1], 40)  # sorted, as arrays come
    images = np.random.default_rng(0).random((80, 1, 4, 4), np.float32)
    data = make_data((images[::2], labels[::2]), val=(images, labels), name="sorted")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    how = {"data": data, "out": tmp_path, "limit": 20, "version": "1", **CELL}
    evaluate(model, "fgsm", **how)
    (kept,) = Store(tmp_path, VALIDATIONS).records()
    drawn = Store(tmp_path, VALIDATIONS).arrays(kept)["labels"]
    assert kept.spec.data.n == len(drawn) == 20
    assert 4 <= drawn.sum() <= 16  # the first 20 are all of one class
    shutil.rmtree(tmp_path / VALIDATIONS.folder)
    monkeypatch.setattr(cell, "attack_pass", None)
    evaluate(model, "fgsm", **how)
    (again,) = Store(tmp_path, VALIDATIONS).records()
    assert again.hash == kept.hash
