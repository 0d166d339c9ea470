"""Adversarial images in one call on tensors: `attack(model, x, y) -> x_adv`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med import parsing
from robustbench_med.attacks import CORRUPTIONS, RefusedError, Threat, View, seeded
from robustbench_med.data.columns import Column
from robustbench_med.data.given import TensorSamples
from robustbench_med.errors import Notice, UserError, nearest, unknown
from robustbench_med.evaluation import carrying, probes
from robustbench_med.evaluation.batching import drawing_of, shapes_of
from robustbench_med.evaluation.goals import choose_goals
from robustbench_med.evaluation.protocol import (
    attack_targets,
    choose_targets,
    clean_pass,
    is_whole,
)
from robustbench_med.evaluation.types import AttackPass, Clean, Method, Setting
from robustbench_med.models import abstaining
from robustbench_med.models.given import left_as_it_was, victim_of
from robustbench_med.naming import NORMS
from robustbench_med.progress import Display
from robustbench_med.runs import checks, corrupting, packages
from robustbench_med.runs.device import BatchSize
from robustbench_med.runs.inputs import refuse_beside_rejection
from robustbench_med.runs.spec import Cell, RunSpec, cells
from robustbench_med.runs.tensors import (
    Images,
    Modalities,
    modalities_of,
    samples_of,
)
from robustbench_med.runs.threats import (
    effort_of,
    engine_of,
    is_targeted,
    parameters_of_cell,
    threat_of,
)
from robustbench_med.runs.victims import refuse_neighbours
from robustbench_med.runs.wording import in_python

OPTIONS = (
    "attack_params",
    "target_task",
    "target",
    "seed",
    "draws",
    "chunk",
    "effort",
    "max_passes",
    "protocol",
    "l0_counts",
    "whole_range",
    "allow_batch_dependent",
)
"""Fields of a run that mean something for a batch of tensors."""
X = TypeVar("X", bound=Images)


@dataclass(frozen=True)
class _Data:
    """What a threat asks of data."""

    modalities: tuple[str, ...]
    tasks: tuple[str, ...]
    shapes: Sequence[tuple[int, int, int]]
    columns: tuple[tuple[Column, ...], ...] = ()
    optional: tuple[int, ...] = ()
    class_counts: tuple[int, ...] = ()


def attack(
    model: nn.Module,
    x: X,
    y: Tensor,
    attack: str = "pgd",
    *,
    eps: Any = None,
    norm: str = "Linf",
    stochastic: bool | None = None,
    ids: Sequence[str] | None = None,
    **options: Any,
) -> X:
    """Attacks a batch of images and returns the adversarial ones.

    They are those of a cell of `evaluate` with the same options, samples and `ids`: under the
    protocol `sound` a sample that the model never gets right comes back as it is. The model, its
    mode and parameters, `x` and the global random states stay as they were; it is attacked in
    evaluation mode, and attacks compute in float32.

    Args:
        model: takes the modalities as arguments; returns logits (B, classes), a tuple, list or
            mapping of them (one a task), or an object with `logits`. Normalisation lives inside it.
            Probabilities (of a softmax or sigmoid) are attacked through their logarithms.
        x: images (B, C, H, W) in [0, 1], or a list, tuple or mapping of them, one a modality; the
            model gets those of a mapping by keyword.
        y: labels (B,), or (B, T) of several tasks; -1: not labelled.
        attack: its name (`medrobust attacks`), one of your own (`register_attack`) among them.
        eps: a radius, such as "4/255" or 0.5, or one a modality, {"mri": "4/255", "xray": 0}
            ({"0": ..., "1": ...} of a list), those left out being trusted; None: the usual one.
        norm: "Linf", "L2", "L1" or "L0".
        stochastic: whether two passes may differ; None: found by trying it on eight images.
        ids: (B,) names of the samples: what is random in an attack on a sample depends on `seed`
            and its name; None: their numbers.
        **options: `attack_params`, `target_task` (the number of a task; "joint"), `target`, `seed`,
            `draws`, `chunk`, `effort`, `max_passes`, `protocol`, `l0_counts`, `whole_range`,
            `allow_batch_dependent`, as in `evaluate`.

    Returns:
        Adversarial images of the kind, shapes, device and dtype of `x`, inside the ball and [0, 1].

    Raises:
        UserError: bad images, labels, names or options; a model that cannot be attacked.

    Example:
        >>> x_adv = attack(model, x, y, "pgd", eps="4/255", attack_params={"steps": 40})
        >>> robust = (model(x_adv).argmax(1) == y).float().mean()
    """
    spec, cell = _asked(attack, eps, norm, options)
    images = modalities_of(x)
    with (
        torch.inference_mode(mode=False),
        left_as_it_was(model),
        seeded(images.device, cell.seed, "attack"),
    ):
        victim = _victim(model, images, spec, cell)
        samples = samples_of(images, y, victim.class_counts, ids)  # type: ignore[arg-type]
        threat = _threat(spec, cell, images, samples)
        nature = _nature(victim, samples, images.device, spec, stochastic)
        found = _adversarials(victim, nature, samples, threat, (spec, cell), images.device)
        return _like(x, images, threat, found)


@in_python()
def _asked(attack: str, eps: object, norm: str, options: Mapping[str, Any]) -> tuple[RunSpec, Cell]:
    """The options as those of a run of one cell."""
    packages.load()
    for name in options:
        if name not in OPTIONS:
            known = ("eps", "norm", "stochastic", "ids", *OPTIONS)
            raise UserError(f"attack: unknown option {name!r}; {nearest(name, known)}")
    if norm not in NORMS:
        raise unknown("norm", str(norm), NORMS)
    if attack == "transfer":
        raise UserError("transfer starts from other victims; use evaluate with source=...")
    fixed = {"model": "model", "attack": attack, "norm": norm, "control": False}
    given = {} if eps is None else {"eps": eps}
    spec = parsing.validate(RunSpec, {**fixed, **given, **options}, "attack")
    checks.check_attack_names(spec)
    checks.check_norms(spec)
    checks.check_attack_parameters(spec)
    checks.check_effort(spec, unaware=False)
    checks.check_target(spec)
    grid = cells(spec)
    if attack in CORRUPTIONS:
        given = spec.attack_params.get("severity", 3)
        grid = [cell.model_copy(update={"severity": given}) for cell in grid]
    if len(grid) != 1:
        raise UserError(f"attack: one attack, radius and seed a call, got {len(grid)} combinations")
    return spec, grid[0]


@in_python()
def _victim(model: nn.Module, images: Modalities, spec: RunSpec, cell: Cell) -> nn.Module:
    found = abstaining.aware(victim_of(model, images.tensors, images.names, by_name=images.by_name))
    if abstaining.may_abstain(found):
        refuse_beside_rejection(cell, spec)
    return found


def _threat(spec: RunSpec, cell: Cell, images: Modalities, samples: TensorSamples) -> Threat:
    tasks = tuple(f"task {t}" for t in range(samples.labels.shape[1]))
    data = _Data(images.names, tasks, images.shapes)
    threat = threat_of(cell, data, spec, None, targeted=is_targeted(cell, spec))
    if cell.attack not in corrupting.UNBOUNDED:
        return threat
    return replace(threat, norm="Linf", radii=tuple(float(r > 0) for r in threat.radii))


@in_python()
def _nature(
    victim: nn.Module,
    samples: TensorSamples,
    device: torch.device,
    spec: RunSpec,
    stochastic: bool | None,
) -> probes.Nature:
    """What the victim is: as it was told, else found by trying."""
    if stochastic is not None:
        return probes.Nature(stochastic, drawing_of(victim, stochastic=stochastic))
    nature = probes.examine(victim, samples, device, spec.seed[0])
    refuse_neighbours("the model", nature, spec)
    for note in nature.notes:
        warnings.warn(f"the model: {note}", Notice, stacklevel=4)
    return nature


def _adversarials(
    victim: nn.Module,
    nature: probes.Nature,
    samples: TensorSamples,
    threat: Threat,
    asked: tuple[RunSpec, Cell],
    device: torch.device,
) -> Mapping[int, Tensor]:
    """Flat adversarials (D,) on the CPU, by sample; one that is missing was not attacked."""
    spec, cell = asked
    params = parameters_of_cell(cell, spec, stochastic=nature.stochastic)
    effort = effort_of(cell.attack, spec, stochastic=nature.stochastic, unaware=False)
    method = Method(cell.attack, params, engine_of(cell.attack, spec), effort=effort)
    batch = BatchSize("auto", Display(quiet=True))

    def computed() -> Mapping[int, Tensor]:
        setting = Setting(
            spec.protocol, spec.draws, cell.seed, device, batch.size, chunk=spec.chunk
        )
        clean = clean_pass(
            victim,
            samples,
            setting,
            lambda n: None,
            stochastic=nature.stochastic,
            drawing=nature.drawing,
        )
        _say_not_finite(clean, threat)
        goals = None
        if threat.targeted:
            goals = choose_goals(str(spec.target), clean, samples, cell.seed)
        draws = min(clean.draws, setting.draws)
        view = View(victim, shapes_of(samples), draws=draws)
        case = AttackPass(view, samples, clean, threat, replace(method, goals=goals), setting)
        begun = carrying.begin(case, choose_targets(case))
        return attack_targets(begun, lambda n: None, lambda text: None).adversarials

    try:
        return computed() if is_whole(nature.drawing, method) else batch.fit(computed)
    except RefusedError as error:
        raise UserError(f"{cell.attack}: {error}") from error


def _say_not_finite(clean: Clean, threat: Threat) -> None:
    """Names (Notice) the samples whose logits of an attacked task are NaN or infinite."""
    of_tasks = np.stack([np.isnan(clean.probabilities[t]).any(1) for t in threat.tasks])
    lost = int(of_tasks.any(0).sum())
    if lost:
        warnings.warn(
            f"the model: its logits are not finite for {lost} of {of_tasks.shape[1]} samples, which"
            " are never right",
            Notice,
            stacklevel=4,
        )


def _like(x: X, images: Modalities, threat: Threat, found: Mapping[int, Tensor]) -> X:
    """The images with the adversarials in their places; a trusted modality as it was given."""
    moved = [m.detach().clone() for m in images.tensors]
    if found:
        rows = sorted(found)
        parts = View(nn.Identity(), images.shapes).unpack(torch.stack([found[r] for r in rows]))
        for given, part, radius in zip(moved, parts, threat.radii, strict=True):
            if radius > 0:
                given[torch.tensor(rows, device=given.device)] = part.to(given)
    if isinstance(x, Mapping):
        return dict(zip(x, moved, strict=True))  # type: ignore[return-value]
    if isinstance(x, list | tuple):
        return moved if isinstance(x, list) else tuple(moved)  # type: ignore[return-value]
    return moved[0]  # type: ignore[return-value]
