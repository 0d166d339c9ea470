"""Models of the user's own whose code loads their weights."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_med.attacks import seeded
from robustbench_med.errors import UserError
from robustbench_med.formats.weights import few
from robustbench_med.provenance.networks import weights_of
from robustbench_med.training import presets
from robustbench_med.training.checkpoints import Held
from robustbench_med.training.defenses import Plan
from robustbench_med.training.spec import TrainSpec


def as_built(spec: TrainSpec, defended: Plan, *, train: bool | None) -> Held | None:
    """A model of the user's own as its code builds it, where that loads its weights; None where it
    is to be trained.

    Args:
        train: what the user says of it; None: nothing.

    Raises:
        UserError: it is not to be trained, but draws weights; or nobody says whether it is to be,
            and it draws none.
    """
    if not spec.source_sha256 or defended.training or train:
        return None
    one, other = drawn_weights(spec, 1), drawn_weights(spec, 2)
    drawn = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
    if train is None and not drawn:
        raise UserError(
            f"{spec.name} builds the same weights whatever the seed, so its code seems to load"
            " them: --no-train evaluates it with these, --train trains it over"
        )
    if train is None:
        return None
    if drawn:
        raise UserError(
            f"--no-train: {spec.name} draws {few(drawn)} anew each time that it is built, its code"
            " loads no weights for them; give --checkpoint, or leave out --no-train"
        )
    network = presets.build(spec)
    return Held(
        Path(spec.name), weights_of(network, spec.name), {}, module=network, made_by="build"
    )


def drawn_weights(spec: TrainSpec, seed: int) -> dict[str, Tensor]:
    """The weights that a model's code makes which cannot choose a seed by itself."""
    with seeded(torch.device("cpu"), seed, "drawn?"), seeds_ignored():
        network = presets.untrained(
            spec.model, spec.preset, spec.channels, spec.class_counts, spec.size, spec.params
        )
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@contextlib.contextmanager
def seeds_ignored() -> Iterator[None]:
    """Inside, the seeds of the global generators cannot be set: a network that is drawn under a
    seed of its own is drawn all the same.
    """
    places: list[tuple[Any, str]] = [
        (torch, "manual_seed"),
        (torch.random, "manual_seed"),
        (np.random, "seed"),
        (random, "seed"),
    ]
    kept = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, lambda *_: torch.default_generator)
    try:
        yield
    finally:
        for (module, name), function in zip(places, kept, strict=True):
            setattr(module, name, function)
