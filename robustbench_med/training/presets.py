"""What a preset means for a model: its recipe and parameters, its specification, and the network
built of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from robustbench_med import naming
from robustbench_med.attacks import seeded
from robustbench_med.data import Dataset
from robustbench_med.dataspec import Reading
from robustbench_med.errors import UserError, unknown
from robustbench_med.models import registry, user_file
from robustbench_med.parsing import validate
from robustbench_med.training import checkpoints, defenses
from robustbench_med.training.checkpoints import Checkpoint, Held
from robustbench_med.training.objective import objective
from robustbench_med.training.spec import Layer, Recipe, TrainSpec

LENGTH = frozenset({"steps", "epochs"})
"""A recipe has exactly one of these: another one takes the place of both."""


def preset(name: str) -> dict[str, Any]:
    """A preset by name; an unknown one is a UserError."""
    if name not in registry.presets():
        raise unknown("preset", name, registry.presets())
    return registry.preset(name)


def make_spec(
    model: str,
    dataset: Dataset,
    preset_name: str,
    *,
    params: dict[str, Any],
    recipe: dict[str, Any],
    seed: int,
    layers: Sequence[Layer] = (),
    start: Checkpoint | None = None,
) -> TrainSpec:
    """The training a preset means for one model, its defences and data set.

    Args:
        model: a name of the registry, or `file.py:function` of the user's own.
        dataset: what it is trained on.
        preset_name: such as "quick".
        params: constructor parameters, over those of the preset.
        recipe: fields of `Recipe`, over those of the preset, the model and the defences.
        seed: of weights, batches and augmentation.
        layers: defences that change the training.
        start: weights that it begins with, instead of drawn ones.

    Raises:
        UserError: an unknown name, a bad parameter, a network that cannot be built.

    Example:
        spec = make_spec("late", dataset, "quick", params={"width": 8}, recipe={}, seed=0)
    """
    check_square(model, dataset)
    spec = TrainSpec(
        model=model,
        params={
            **_own(model, preset_name).get("params", {}),
            **checkpoints.model_parameters(start, model, params),
        },
        data=dataset.name,
        manifest=dataset.manifest_hash,
        size=dataset.size,
        channels=dataset.channels,
        class_counts=dataset.class_counts,
        preset=preset_name,
        recipe=choose_recipe(model, preset_name, layers, recipe),
        seed=seed,
        preprocessing=dataset.preprocessing,
        defense=tuple(layers),
        fold=dataset.fold,
        source_sha256=registry.source_sha256(model),
        code=defenses.code_of_layers(layers),
        revisions={name: n for name, n in defenses.revisions(model, layers).items() if n > 1},
        start=start.path if start else None,
        start_sha256=start.sha256 if start else "",
        start_reading=start.reading if start else Reading(),
        tables=dataset.tables,
        optional=dataset.optional,
    )
    objective(layers, dataset.shapes, dataset.modalities, seed, dataset.optional)
    build(spec)  # refuses bad parameters before any work is done
    return spec


def check_square(model: str, dataset: Dataset) -> None:
    """Refuses (UserError) images that models which are built here do not take."""
    if registry.network_of(model) is None and any(
        shape[1:] != (dataset.size, dataset.size)
        for m, shape in enumerate(dataset.shapes)
        if m not in dataset.tables
    ):
        shapes = ", ".join(f"{height} x {width}" for _, height, width in dataset.shapes)
        raise UserError(
            f"model {model!r} takes square images of one size for all modalities;"
            f" those of {dataset.name} are {shapes}"
        )


def check_parts(dataset: Dataset) -> None:
    """Refuses (UserError) data that nothing can be trained on."""
    missing = [part for part in ("train", "val") if part not in dataset.splits]
    if missing:
        raise UserError(
            f"{dataset.name} has no part to {'train' if 'train' in missing else 'validate'} on;"
            " give data={'train': ..., 'val': ..., 'test': ...}, weights, or a model that is"
            " trained"
        )


def choose_recipe(
    model: str, preset_name: str, layers: Sequence[Layer], overrides: Mapping[str, Any]
) -> Recipe:
    """The usual recipe with the user's settings on top; an unknown one or a bad value is a
    UserError.
    """
    usual = usual_recipe(model, preset_name, layers)
    if not LENGTH.isdisjoint(overrides):
        usual = _without_length(usual)
    return validate(Recipe, usual | dict(overrides), f"recipe of {model}")


def usual_recipe(model: str, preset_name: str, layers: Sequence[Layer]) -> dict[str, Any]:
    """A preset's recipe for a model and its defences: the general one, the model's, then the
    defences'.
    """
    settings = preset(preset_name)
    merged: dict[str, Any] = settings["recipe"] | _own(model, preset_name).get("recipe", {})
    for layer in layers:
        own = settings.get("defenses", {}).get(layer.name, {}).get("recipe", {})
        if not LENGTH.isdisjoint(own):
            merged = _without_length(merged)
        merged = merged | own
    return merged


def _without_length(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key not in LENGTH}


def _own(model: str, preset_name: str) -> dict[str, Any]:
    """A preset's `params` and `recipe` for one model; a model of the user's own has none."""
    check_model(model)
    own: dict[str, Any] = preset(preset_name).get("models", {}).get(model, {})
    return own


def check_model(model: str) -> None:
    """Refuses (UserError) an unknown model, and a file of the user's that cannot be used."""
    if naming.is_own(model):
        try:
            user_file.load(model)
        except ValueError as error:
            raise UserError(str(error)) from error
    elif model not in registry.MODELS:
        raise unknown("model", model, registry.MODELS)


def preset_parameters(model: str, preset_name: str) -> dict[str, Any]:
    """A model's constructor parameters under a preset, defaults included."""
    return {**registry.parameters(model), **_own(model, preset_name).get("params", {})}


def untrained(
    model: str,
    preset_name: str,
    channels: tuple[int, ...],
    class_counts: tuple[int, ...],
    size: int,
    params: dict[str, Any],
    **kinds: tuple[int, ...],
) -> nn.Module:
    """A fresh victim under a preset; bad parameters are a UserError.

    Args:
        channels: of each modality.
        class_counts: of each task.
        size: pixels of a side of the images.
        params: constructor parameters, over those of the preset.
        kinds: `tables` and `optional` of `registry.build`.
    """
    try:
        merged = {**_own(model, preset_name).get("params", {}), **params}
        return registry.build(model, channels, class_counts, merged, image_size=size, **kinds)
    except (ValueError, TypeError) as error:
        raise UserError(f"model {model!r}: {error}") from error


def build(spec: TrainSpec) -> nn.Module:
    """The untrained victim of a spec, weights drawn from its seed."""
    with seeded(torch.device("cpu"), spec.seed, "init"):
        victim = untrained(
            spec.model,
            spec.preset,
            spec.channels,
            spec.class_counts,
            spec.size,
            spec.params,
            tables=spec.tables,
            optional=spec.optional,
        )
        try:
            defenses.harden(victim, spec.defense, spec.shapes)
        except ValueError as error:
            raise UserError(f"model {spec.model!r}: {error}") from error
    return victim


def load(
    spec: TrainSpec, checkpoint: Checkpoint, device: torch.device
) -> tuple[nn.Module, Checkpoint]:
    """The trained victim, ready for attack: evaluation mode, no parameter gradients; and its
    weights, with how they were read. What is there as an object stays in the mode that it is in.
    """
    if isinstance(checkpoint, Held):
        victim = checkpoint.module.to(device).requires_grad_(False)
        return victim.eval() if victim.training else victim, checkpoint
    victim = build(spec)
    loaded = checkpoints.load_weights(victim, checkpoint)
    return victim.to(device).eval().requires_grad_(False), loaded
