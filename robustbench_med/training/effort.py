"""What a training took, in steps and passes."""

from __future__ import annotations

from typing import TypedDict

from robustbench_med.training.checkpoints import Checkpoint
from robustbench_med.training.objective import objective
from robustbench_med.training.spec import Layer, TrainSpec


class TrainingCost(TypedDict):
    """What a training took: steps, samples a step, passes a sample and step
    (`objectives.Passes`).
    """

    steps: int
    batch_size: int
    forward: float
    inner: float
    backward: float
    seconds: float | None


def cost_of(spec: TrainSpec, checkpoint: Checkpoint) -> TrainingCost | None:
    """What a training took; None for foreign weights."""
    if not checkpoint.sidecar:
        return None
    names = [str(m) for m in range(len(spec.channels))]
    layers = [_uniform(layer) for layer in spec.defense]
    passes = objective(layers, spec.shapes, names, spec.seed).passes
    return {
        "steps": checkpoint.sidecar["history"][-1]["step"],
        "batch_size": spec.recipe.batch_size,
        "forward": passes.forward,
        "inner": passes.inner,
        "backward": passes.backward,
        "seconds": checkpoint.sidecar.get("seconds"),
    }


def _uniform(layer: Layer) -> Layer:
    """A defence with one radius for every modality: passes do not depend on radii."""
    if "eps" not in layer.params:
        return layer
    return layer.model_copy(update={"params": {**layer.params, "eps": "1"}})
