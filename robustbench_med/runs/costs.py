"""What can be named with `--model`, and what it costs before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.evaluation import cost
from robustbench_med.models.registry import MODELS
from robustbench_med.naming import label
from robustbench_med.parameters import check_owners, of
from robustbench_med.runs.device import choose_device
from robustbench_med.training import presets
from robustbench_med.training.checkpoints import load_weights, model_parameters, open_checkpoint

MOST_CLASSES = 100_000


@dataclass(frozen=True)
class CostsSpec:
    """What `medrobust cost` measures.

    Attributes:
        model: names, or files of the user's.
        preset: sizes and parameters.
        size: pixels of a side; None: the preset's.
        modalities: how many.
        classes: of each task.
        model_params: constructor arguments.
        checkpoint: weights of the one model named; None: untrained, cost does not depend on them.
    """

    model: list[str]
    preset: str = "quick"
    size: int | None = None
    modalities: int = 2
    classes: tuple[int, ...] = (4, 3)
    model_params: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None


@dataclass(frozen=True)
class ModelCost:
    """What one sample of `size` pixels costs a model on a device."""

    model: str
    size: int
    parameters: int
    gflops: float
    gmacs: float
    latency_ms: float
    peak_memory_mib: float
    device: str


@dataclass(frozen=True)
class ModelSummary:
    """A model of the registry under a preset: its costs are for two grey modalities and tasks of 4
    and 3 classes.
    """

    model: str
    parameters: int
    gflops: float
    gmacs: float
    stochastic: bool
    paper: str
    arguments: dict[str, Any]


def costs(spec: CostsSpec, device: str) -> list[ModelCost]:
    """What one sample costs each model on this device.

    Raises:
        UserError: an unknown model, preset or parameter, a checkpoint for several models.
    """
    if spec.size is not None and not 16 <= spec.size <= 1024:
        raise UserError(f"--size takes 16 to 1024 pixels, got {spec.size}")
    if not all(2 <= number <= MOST_CLASSES for number in spec.classes):
        raise UserError(
            f"--classes takes tasks of 2 to {MOST_CLASSES:,} classes, got"
            f" {','.join(map(str, spec.classes))}"
        )
    check_owners(spec.model_params, [label(model) for model in spec.model], "model")
    weights = open_checkpoint(spec.checkpoint) if spec.checkpoint is not None else None
    if weights is not None and len(spec.model) > 1:
        raise UserError("--checkpoint belongs to one model; measure them one by one")
    size, channels = _size_and_channels(spec.preset)
    size = spec.size or size
    rows = []
    for model in spec.model:
        params = model_parameters(weights, model, of(spec.model_params, label(model)))
        victim = presets.untrained(
            model, spec.preset, (channels,) * spec.modalities, spec.classes, size, params
        )
        if weights is not None:
            load_weights(victim, weights)
        victim = victim.to(choose_device(device))
        facts = cost.measure(victim, [(channels, size, size)] * spec.modalities)
        rows.append(ModelCost(label(model), size, **facts))
    return rows


def list_models(preset: str) -> list[ModelSummary]:
    """What can be named with `--model`, with its cost under a preset."""
    size, channels = _size_and_channels(preset)
    rows = []
    for name, entry in MODELS.items():
        victim = presets.untrained(name, preset, (channels, channels), (4, 3), size, {})
        operations = cost.flops(victim, [(channels, size, size)] * 2)
        rows.append(
            ModelSummary(
                name,
                cost.parameters(victim),
                operations / 1e9,
                operations / 2e9,
                bool(getattr(victim, "stochastic", False)),
                entry.paper,
                presets.preset_parameters(name, preset),
            )
        )
    return rows


def _size_and_channels(preset: str) -> tuple[int, int]:
    """A preset's pixels of a side, and its channels, one where it takes them as they come."""
    sizes = presets.preset(preset)
    return sizes["size"], 1 if sizes["channels"] == "native" else sizes["channels"]
