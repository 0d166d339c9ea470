"""Small trainings, and ones that are killed."""

import torch

from robustbench_med.data import Dataset
from robustbench_med.training import loop, presets

CPU = torch.device("cpu")


def spec_of(
    dataset: Dataset,
    model: str = "late",
    *,
    seed: int = 0,
    half: bool = False,
    params=None,
    **recipe,
):
    params = params or ({"width": 4} if model == "late" else {})
    recipe = {"steps": 6, "eval_every": 2, "batch_size": 8} | recipe
    spec = presets.make_spec(model, dataset, "quick", params=params, recipe=recipe, seed=seed)
    return spec.model_copy(update={"half": half})


def train(spec, dataset: Dataset, tick=lambda *_: None):
    return loop.train(spec, dataset, CPU, tick=tick, say=lambda _: None, command="medrobust train")


class KilledError(Exception):
    pass


def kill_at(step: int):
    def tick(done: int, total: int, note: str) -> None:
        if done == step:
            raise KilledError

    return tick
