"""What can be named with `--model`, and what it costs before anything is trained."""

from __future__ import annotations

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


def costs(
    models: list[str],
    preset: str,
    size: int | None,
    modalities: int,
    classes: list[int],
    params: dict[str, Any],
    device: str,
    checkpoint: Path | None = None,
) -> list[dict[str, Any]]:
    """One row a model: what one sample costs on this device. Without `checkpoint` untrained: cost
    does not depend on weights.
    """
    check_owners(params, list(map(label, models)), "model")
    weights = open_checkpoint(checkpoint) if checkpoint is not None else None
    if weights is not None and len(models) > 1:
        raise UserError("--checkpoint belongs to one model; measure them one by one")
    chosen = presets.preset(preset)
    size = size or chosen["size"]
    channels = 1 if chosen["channels"] == "native" else chosen["channels"]
    rows = []
    for model in models:
        own = model_parameters(weights, model, of(params, label(model)))
        victim = presets.untrained(
            model, preset, (channels,) * modalities, tuple(classes), size, own
        )
        if weights is not None:
            load_weights(victim, weights)
        victim = victim.to(choose_device(device))
        rows.append(
            {
                "model": label(model),
                "size": size,
                **cost.measure(victim, [(channels, size, size)] * modalities),
            }
        )
    return rows


def list_models(preset: str) -> tuple[list[dict[str, Any]], str]:
    """What can be named with `--model`, with its cost under a preset, and the preset's
    description.
    """
    chosen = presets.preset(preset)
    channels = 1 if chosen["channels"] == "native" else chosen["channels"]
    rows = []
    for name, entry in MODELS.items():
        victim = presets.untrained(name, preset, (channels, channels), (4, 3), chosen["size"], {})
        operations = cost.flops(victim, [(channels, chosen["size"], chosen["size"])] * 2)
        rows.append(
            {
                "model": name,
                "parameters": cost.parameters(victim),
                "gflops": operations / 1e9,
                "gmacs": operations / 2e9,
                "stochastic": bool(getattr(victim, "stochastic", False)),
                "paper": entry.paper,
                "arguments": presets.preset_parameters(name, preset),
            }
        )
    return rows, chosen["description"]
