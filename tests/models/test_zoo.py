"""The zoo that comes with the package: small, whole, found without training, and as good as its
sidecars say.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import asked

from robustbench_med.data import load
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.evaluation.types import Setting
from robustbench_med.models.registry import ZOO
from robustbench_med.runs import commands
from robustbench_med.training import checkpoints, defenses, presets

SIDECARS = sorted(Path(str(ZOO)).glob("*.json"))


VICTIMS = {  # model, defence: least accuracy on either task
    ("drifa-net", "none"): 0.95,
    ("late", "none"): 0.95,
    ("mail", "none"): 0.95,
    ("mail", "pgd-at"): 0.85,
    ("mail", "trades"): 0.6,
    ("robust-mail", "none"): 0.8,
}


def test_the_zoo_has_these_victims_in_less_than_three_megabytes_each() -> None:
    facts = [json.loads(path.read_text())["training"] for path in SIDECARS]
    found = sorted(
        (spec["model"], "+".join(layer["name"] for layer in spec.get("defense", ())) or "none")
        for spec in facts
    )
    assert found == sorted(VICTIMS)
    sizes = [path.with_suffix(".safetensors").stat().st_size for path in SIDECARS]
    assert max(sizes) < 3e6
    assert sum(sizes) < 12e6


@pytest.mark.parametrize(("model", "name"), VICTIMS)
def test_a_victim_of_the_zoo_is_found_without_training_and_is_as_good_on_test_images_as_its_sidecar_says(
    model: str, name: str
) -> None:
    dataset = load("phantoms", size=64)
    layers = defenses.plan(model, name, {}, presets.preset("quick")).training
    spec = presets.make_spec(model, dataset, "quick", params={}, recipe={}, seed=0, layers=layers)
    found = checkpoints.find(spec)
    assert found is not None
    assert found.origin == "zoo"
    written = commands.training_command(spec.model_copy(update={"half": True}), dataset)
    then, now = (asked(*line.split()[1:]) for line in (found.sidecar["command"], written))
    assert then[0] == now[0]
    assert then[1].force
    assert now[1].force
    victim = presets.load(spec, found, torch.device("cpu"))[0]
    samples = dataset.splits["test"].head(128)
    clean = clean_pass(
        victim,
        samples,
        Setting("sound", 2, 0, torch.device("cpu"), 64),
        lambda n: None,
        stochastic=victim.stochastic,
    )
    promised = np.array([figures["accuracy"] for figures in found.sidecar["validation"]])
    assert (np.abs(clean.right.mean(0) - promised) < 0.08).all()
    assert (clean.right.mean(0) > VICTIMS[model, name]).all()
