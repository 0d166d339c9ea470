"""What one test has trained or measured is there for the next, in every worker of a session: the
same specification gives the same weights, and the same network costs the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustbench_med.data import Dataset
from robustbench_med.evaluation import cost
from robustbench_med.training import checkpoints, loop
from robustbench_med.training.checkpoints import Checkpoint
from robustbench_med.training.spec import TrainSpec

obtain, measure = loop.obtain, cost.measure
COSTS: dict[Hashable, dict[str, Any]] = {}


def obtain_from(shared: Path):
    """`loop.obtain` that trains only what no test has trained before; `shared` keeps weights and
    sidecars under the names of medrobust's cache, which hold the hash of the training.
    """

    def remembered(spec: TrainSpec, dataset: Dataset, device: torch.device, **given) -> Checkpoint:
        path = checkpoints.cached_path(spec)
        if not path.exists():
            copy(shared / path.name, path.parent)
        checkpoint = obtain(spec, dataset, device, **given)
        if checkpoint.path == path:
            copy(path, shared)
        return checkpoint

    return remembered


def copy(weights: Path, folder: Path) -> None:
    """Copies weights that have their sidecar, which comes last: who sees it sees whole weights."""
    if not weights.with_suffix(".json").exists() or (folder / weights.name).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for source in (weights, weights.with_suffix(".json")):
        temporary = folder / f".{source.name}.{os.getpid()}.tmp"
        shutil.copyfile(source, temporary)
        temporary.replace(folder / source.name)


def measure_once(victim: nn.Module, shapes: cost.Shapes) -> dict[str, Any]:
    """`cost.measure`, once for victims of the same classes, settings, weights' shapes and device."""
    key = (anatomy(victim), str(shapes), str(next(victim.parameters()).device))
    if key not in COSTS:
        COSTS[key] = measure(victim, shapes)
    return dict(COSTS[key])


def anatomy(victim: nn.Module) -> Hashable:
    """All of a victim that its cost may depend on: its modules' classes with their plain
    attributes, and the shapes and types of its weights.
    """
    modules = tuple(
        (
            name,
            type(module),
            module.extra_repr(),
            str([item for item in vars(module).items() if isinstance(item[1], (int, float, str))]),
        )
        for name, module in victim.named_modules()
    )
    weights = tuple((name, w.shape, w.dtype) for name, w in victim.state_dict().items())
    return modules, weights
