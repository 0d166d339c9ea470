"""What a training minimises, of the defences that change it."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_med.dataspec import is_table
from robustbench_med.errors import UserError
from robustbench_med.parsing import named, parse_radii
from robustbench_med.training.defenses import entry_of
from robustbench_med.training.objectives import PGDAT, Objective, Standard
from robustbench_med.training.spec import Layer


def objective(
    layers: Sequence[Layer],
    shapes: Sequence[tuple[int, int, int]],
    modalities: Sequence[str],
    seed: int,
    optional: tuple[int, ...] = (),
) -> Objective:
    """What the training of these layers minimises; bad parameters are a UserError.

    Args:
        shapes: (C, H, W) of each modality; one radius for all leaves tables, (D, 1, 1), trusted.
        optional: modalities that samples may miss.
    """
    objective: Objective = Standard()
    sides = zip(modalities, shapes, strict=True)
    tables = [name for name, shape in sides if is_table(shape)]
    for layer in layers:
        _check(layer)
        entry, params = entry_of(layer.name), dict(layer.params)
        if entry.objective is None:
            continue
        if entry.role == "around":
            assert isinstance(objective, PGDAT)
            objective = entry.objective(objective, **params)
        elif entry.role in ("augmentation", "loss"):
            if optional and entry.role == "augmentation":
                raise UserError(
                    f"{layer.name} puts noise on every modality, and some of this data's samples"
                    " miss one; leave it out, or take data without missing modalities"
                )
            if tables and entry.role == "augmentation":
                raise UserError(
                    f"{layer.name} puts noise on every modality, and {tables[0]} is a clinical"
                    " table, whose categories bear none; leave the table out of the card"
                )
            objective = entry.objective(**params)
        else:
            eps = str(params.pop("eps"))
            radii = parse_radii(eps, modalities, trusted=tables)
            if "." in "".join(named(eps)):
                raise UserError(
                    f"{layer.name}: eps {eps}: training attacks images; columns of a table stay as"
                    " they are, name the images alone"
                )
            if not any(radii):
                raise UserError(f"{layer.name}: eps is 0 in every modality: nothing is attacked")
            objective = entry.objective(shapes=shapes, radii=radii, seed=seed, **params)
            if isinstance(objective, PGDAT):
                objective.optional = optional
    return objective


def _check(layer: Layer) -> None:
    params = layer.params
    if params.get("norm", "Linf") not in ("Linf", "L2"):
        raise UserError(f"{layer.name}: norm must be Linf or L2, got {params['norm']!r}")
    if params.get("attacked", "all") not in ("all", "random"):
        raise UserError(
            f"{layer.name}: attacked must be all or random (a choice of modalities a batch), got"
            f" {params['attacked']!r}"
        )
    for key in ("steps", "replays", "step_size", "gamma", "sigma"):
        if params.get(key, 1) <= 0:
            raise UserError(f"{layer.name}: {key} must be positive, got {params[key]!r}")
    if params.get("beta", 0) < 0:
        raise UserError(f"{layer.name}: beta must not be negative, got {params['beta']!r}")
