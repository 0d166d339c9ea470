"""Training a victim by a preset's recipe: class-balanced, resumable, the same weights for the same seed."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med import batch_norm, checkpoints, defense, optimisation, statistics
from robustbench_med.attacks import seeded
from robustbench_med.augmentation import augment
from robustbench_med.batching import Setting, batches
from robustbench_med.checkpoints import Checkpoint
from robustbench_med.commands import data_option, includes, model_option, where
from robustbench_med.data import Dataset, Samples
from robustbench_med.errors import UserError, unknown
from robustbench_med.evaluation import clean_pass
from robustbench_med.models import own, registry
from robustbench_med.objectives import Objective, multitask_loss
from robustbench_med.spec import Layer, Recipe, TrainSpec, validate
from robustbench_med.versions import versions

ROBUST_VALIDATION = 128
"""Validation samples that an adversarial training attacks at every validation."""

Tick = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what the training stands at)."""


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
    half: bool = False,
    layers: Sequence[Layer] = (),
    start: Checkpoint | None = None,
) -> TrainSpec:
    """The training a preset means for one model, its defences and data set, with the user's overrides of model parameters and recipe.

    `start`: weights that it begins with, instead of drawn ones.
    """
    spec = TrainSpec(
        model=model,
        params={**_own(model, preset_name).get("params", {}), **checkpoints.model_parameters(start, model, params)},
        data=dataset.name,
        manifest=dataset.manifest_hash,
        size=dataset.size,
        channels=dataset.channels,
        class_counts=dataset.class_counts,
        preset=preset_name,
        recipe=choose_recipe(model, preset_name, layers, recipe),
        seed=seed,
        half=half,
        preprocessing=dataset.preprocessing,
        defense=tuple(layers),
        fold=dataset.fold,
        source_sha256=registry.source_sha256(model),
        code=defense.code_of_layers(layers),
        revisions={name: n for name, n in defense.revisions(model, layers).items() if n > 1},
        start=start.path if start else None,
        start_sha256=start.sha256 if start else "",
    )
    defense.objective(layers, dataset.shapes, dataset.modalities, seed)
    build(spec)  # refuses bad parameters before any work is done
    return spec


def choose_recipe(model: str, preset_name: str, layers: Sequence[Layer], given: Mapping[str, Any]) -> Recipe:
    """The usual recipe with the user's settings on top; an unknown one or a bad value is a UserError."""
    length = {"steps", "epochs"} if {"steps", "epochs"} & given.keys() else set()
    usual = {key: value for key, value in usual_recipe(model, preset_name, layers).items() if key not in length}
    return validate(Recipe, usual | dict(given), f"recipe of {model}")


def usual_recipe(model: str, preset_name: str, layers: Sequence[Layer]) -> dict[str, Any]:
    """A preset's recipe for a model and its defences: the general one, the model's, then the defences'."""
    chosen = preset(preset_name)
    merged: dict[str, Any] = chosen["recipe"] | _own(model, preset_name).get("recipe", {})
    for layer in layers:
        own = chosen.get("defenses", {}).get(layer.name, {}).get("recipe", {})
        if "steps" in own or "epochs" in own:
            merged = {key: value for key, value in merged.items() if key not in ("steps", "epochs")}
        merged = merged | own
    return merged


def _own(model: str, preset_name: str) -> dict[str, Any]:
    """A preset's `params` and `recipe` for one model; a model of the user's own has none."""
    check_model(model)
    found: dict[str, Any] = preset(preset_name).get("models", {}).get(model, {})
    return found


def check_model(model: str) -> None:
    """Refuses (UserError) an unknown model, and a file of the user's that cannot be used."""
    if own.is_own(model):
        try:
            own.load(model)
        except ValueError as error:
            raise UserError(str(error)) from error
    elif model not in registry.MODELS:
        raise unknown("model", model, registry.MODELS)


def preset_parameters(model: str, preset_name: str) -> dict[str, Any]:
    """A model's constructor parameters under a preset, defaults included."""
    return {**registry.parameters(model), **_own(model, preset_name).get("params", {})}


def untrained(
    model: str, preset_name: str, channels: tuple[int, ...], class_counts: tuple[int, ...], size: int, params: dict[str, Any]
) -> nn.Module:
    """A fresh victim under a preset; bad parameters are a UserError."""
    try:
        merged = {**_own(model, preset_name).get("params", {}), **params}
        return registry.build(model, channels, class_counts, merged, image_size=size)
    except (ValueError, TypeError) as error:
        raise UserError(f"model {model!r}: {error}") from error


def build(spec: TrainSpec) -> nn.Module:
    """The untrained victim of a spec, weights drawn from its seed."""
    with seeded(torch.device("cpu"), spec.seed, "init"):
        victim = untrained(spec.model, spec.preset, spec.channels, spec.class_counts, spec.size, spec.params)
        try:
            defense.harden(victim, spec.defense, [(c, spec.size, spec.size) for c in spec.channels])
        except ValueError as error:
            raise UserError(f"model {spec.model!r}: {error}") from error
    return victim


def load(spec: TrainSpec, checkpoint: Checkpoint, device: torch.device) -> nn.Module:
    """The trained victim, ready for attack: evaluation mode, no parameter gradients."""
    victim = build(spec)
    checkpoints.load_weights(victim, checkpoint)
    return victim.to(device).eval().requires_grad_(False)


def obtain(spec: TrainSpec, dataset: Dataset, device: torch.device, *, tick: Tick, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint of a spec: from the cache, from the zoo, or trained now."""
    found = checkpoints.find(spec)
    return found if found is not None else train(spec, dataset, device, tick=tick, say=say)


class BalancedBatches:
    """Batches in which every class of a data set is equally likely; unpaired sets are paired afresh in every batch."""

    def __init__(self, samples: Samples, batch_size: int, seed: int) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.classes = []
        for component in samples.components:
            _, kind = np.unique(component.labels, axis=0, return_inverse=True)
            self.classes.append([np.flatnonzero(kind.reshape(-1) == k) for k in range(kind.max() + 1)])

    def __call__(self, step: int) -> tuple[list[Tensor], Tensor, NDArray[np.int64]]:
        """Modalities, labels (B, T) and component rows of one step: a function of the seed and the step alone."""
        rng = np.random.default_rng([self.seed, step])
        index = np.empty((self.batch_size, len(self.classes)), np.int64)
        for k, classes in enumerate(self.classes):
            chosen = rng.integers(len(classes), size=self.batch_size)
            index[:, k] = [classes[c][int(u * len(classes[c]))] for c, u in zip(chosen, rng.random(self.batch_size), strict=True)]
        labels = np.concatenate([c.labels[index[:, k]] for k, c in enumerate(self.samples.components)], 1)
        return self.samples.gather(index), torch.from_numpy(labels), index


def train(spec: TrainSpec, dataset: Dataset, device: torch.device, *, tick: Tick, say: Callable[[str], None]) -> Checkpoint:
    """Trains a victim and stores it below medrobust's home; continues an interrupted training of the same spec.

    Each step reseeds from (seed, step), so an interrupted training ends with the weights of an uninterrupted one.
    """
    recipe = spec.recipe
    victim = build(spec)
    if spec.start is not None:
        checkpoints.load_weights(victim, checkpoints.open_checkpoint(spec.start))
    victim = victim.to(device)
    n_train = max(len(c.ids) for c in dataset.splits["train"].components)
    epoch = math.ceil(n_train / recipe.batch_size)
    total = recipe.steps or (recipe.epochs or 0) * epoch
    every = min(recipe.eval_every or epoch, total)
    sample = BalancedBatches(dataset.splits["train"], recipe.batch_size, spec.seed)
    freeze_at = total if recipe.freeze_bn is None else next(s for s in range(total + 1) if s / total >= recipe.freeze_bn)
    optimizer = optimisation.optimizer(victim, recipe)
    scheduler = optimisation.scheduler(optimizer, recipe, total, freeze_at)
    final = checkpoints.cached_path(spec)
    partial = final.with_name(f"{final.stem}.partial.safetensors")
    warm_up = getattr(victim, "warm_up", None)
    objective = defense.objective(spec.defense, dataset.shapes, dataset.modalities, spec.seed)
    settled = batch_norm.Settled(victim) if recipe.settle_bn else None
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    best_score, best_step, since_best, step, running, seconds = (math.inf, math.inf), 0, 0, 0, 0.0, 0.0

    resumed = checkpoints.load_progress(partial, say)
    if resumed is not None:
        tensors, facts = resumed
        victim.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
        best = {k[5:]: v for k, v in tensors.items() if k.startswith("best/")}
        optimisation.restore(optimizer, tensors)
        scheduler.load_state_dict(scheduler.state_dict() | facts["scheduler"])
        objective.restore({k[10:]: v for k, v in tensors.items() if k.startswith("objective/")})
        history, best_score, best_step = facts["history"], tuple(facts["best_score"]), facts["best_step"]
        since_best, step, seconds = facts["since_best"], facts["step"], facts["seconds"]
        say(f"continuing the interrupted training of {spec.name} at step {step} of {total}")

    started = time.perf_counter() - seconds

    def prepared(batch: int) -> tuple[list[Tensor], Tensor]:
        x, y, _ = sample(batch)
        return [augment(m, recipe.augmentation, spec.seed, batch).to(device) for m in x], y.to(device)

    while step < total and not (recipe.early_stop and since_best >= recipe.early_stop):
        progress = step / total
        if recipe.warm_up and warm_up is not None:
            start, end = recipe.warm_up
            warm_up(min(max((progress - start) / max(end - start, 1e-9), 0.0), 1.0))
        if settled is not None and step == freeze_at:
            settled.settle(lambda number: prepared(total + number)[0], device, spec.seed)
        victim.train()
        if step >= freeze_at:
            batch_norm.freeze(victim)
        batch = objective.replay(step)
        x, y = prepared(batch)
        optimizer.zero_grad()
        with seeded(device, spec.seed, "train", step):
            loss = objective.backward(victim, x, y, step)
        optimisation.check_finite({"loss": float(loss)}, victim, spec.name, step, partial)
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(victim.parameters(), recipe.clip_norm)
        optimizer.step()
        if recipe.schedule != "plateau":
            scheduler.step()
        running += float(loss)
        step += 1
        tick(step, total, f"loss {history[-1]['val_loss']:.3f}" if history else "")
        if step % every and step != total:
            continue
        val_loss = validation_loss(victim, dataset.splits["val"], device, spec.seed)
        history.append({"step": step, "train_loss": running / (step % every or every), "val_loss": val_loss})
        robust = robust_validation(victim, objective, dataset.splits["val"], device, spec.seed)
        score = (0.0, val_loss) if robust is None else (1 - robust["robust_val_accuracy"], robust["robust_val_loss"])
        history[-1] |= robust or {}
        running = 0.0
        optimisation.check_finite(history[-1], victim, spec.name, step, partial)
        if recipe.schedule == "plateau":
            scheduler.step(val_loss)
        complete = recipe.warm_up is None or progress >= recipe.warm_up[1]
        frozen = recipe.freeze_bn is None or step > freeze_at
        eligible = (complete and frozen) or step == total  # where no validation is late enough, the last one counts
        if eligible and (score < best_score or not best):
            best_score, best_step, since_best = score, step, 0
            best = {name: tensor.detach().cpu().clone() for name, tensor in victim.state_dict().items()}
        elif best:
            since_best += 1
        facts = {
            "step": step,
            "history": history,
            "best_score": best_score if best else (1e30, 1e30),
            "best_step": best_step,
            "since_best": since_best,
            "scheduler": optimisation.plain(scheduler),
            "seconds": time.perf_counter() - started,
        }
        tensors = {f"model/{k}": v for k, v in victim.state_dict().items()} | {f"best/{k}": v for k, v in best.items()}
        tensors |= {f"objective/{k}": v for k, v in objective.tensors().items()}
        checkpoints.save_progress(partial, tensors | optimisation.tensors(optimizer), facts)

    victim.load_state_dict(best)
    details = {
        "history": history,
        "best_step": best_step,
        "seconds": time.perf_counter() - started,
        "validation": validation_figures(victim, dataset, device, spec.seed),
        "synthetic": dataset.synthetic,
        "command": command_of(spec, dataset),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    checkpoint = checkpoints.save(final, best, spec, details)
    partial.unlink(missing_ok=True)
    return checkpoint


@torch.no_grad()
def validation_loss(victim: nn.Module, samples: Samples, device: torch.device, seed: int) -> float:
    """Multi-task loss over a split in evaluation mode, one draw, always the same draw."""
    victim.eval()
    total = 0.0
    with seeded(device, seed, "validation"):
        for rows in batches(np.arange(len(samples)), 128):
            x = [m.to(device) for m in samples.batch(rows)]
            total += float(multitask_loss(victim(*x), samples.labels[rows].to(device))) * len(rows)
    return total / len(samples)


def robust_validation(
    victim: nn.Module, objective: Objective, samples: Samples, device: torch.device, seed: int
) -> dict[str, float] | None:
    """Loss and accuracy on perturbed validation images, by which an adversarial training picks its checkpoint; None where it is clean.

    Robust accuracy peaks long before the training ends (robust overfitting, arXiv 2002.11569). The first `ROBUST_VALIDATION`
    samples, one draw, always the same.
    """
    victim.eval()
    n = min(len(samples), ROBUST_VALIDATION)
    loss = accuracy = 0.0
    with seeded(device, seed, "robust validation"):
        for rows in batches(np.arange(n), 128):
            x, y = [m.to(device) for m in samples.batch(rows)], samples.labels[rows].to(device)
            perturbed = objective.validation(victim, x, y, int(rows[0]))
            if perturbed is None:
                return None
            with torch.no_grad():
                logits = victim(*perturbed)
                loss += float(multitask_loss(logits, y)) * len(rows) / n
                hits = torch.stack([z.argmax(1) == y[:, t] for t, z in enumerate(logits)], 1).sum(1)
                accuracy += float((hits / (y >= 0).sum(1).clamp_min(1)).sum()) / n
    return {"robust_val_loss": loss, "robust_val_accuracy": accuracy}


def validation_figures(victim: nn.Module, dataset: Dataset, device: torch.device, seed: int) -> list[dict[str, Any]]:
    """Per task on the validation split: balanced accuracy, share of the most predicted class, and why it is trivial, if it is."""
    samples = dataset.splits["val"]
    setting = Setting("sound", 8, seed, device, 128)
    clean = clean_pass(victim.eval(), samples, setting, lambda _: None, stochastic=bool(getattr(victim, "stochastic", False)))
    figures = []
    for t, (name, classes) in enumerate(zip(dataset.tasks, dataset.classes, strict=True)):
        y = samples.labels[:, t].numpy()
        known = y >= 0
        right, vote = clean.right[known, t], clean.vote[known, t]
        figures.append(
            {
                "task": name,
                "accuracy": float(right.mean()),
                "balanced_accuracy": statistics.balanced_accuracy(right, y[known], len(classes)),
                "most_predicted_share": statistics.most_predicted_share(vote, len(classes)),
                "trivial": statistics.trivial(right, vote, y[known], len(classes)),
            }
        )
    return figures


def command_of(spec: TrainSpec, dataset: Dataset) -> str:
    """The command line that trains this spec, from any folder: the preset, and what differs from it."""
    data = data_option(dataset.given or spec.data)
    parts = ["medrobust", "train", "--model", model_option(spec.model), "--data", data, "--preset", spec.preset, "--seed", str(spec.seed)]
    chosen = preset(spec.preset)
    usual = Recipe.model_validate(usual_recipe(spec.model, spec.preset, spec.defense))
    if spec.start is not None:
        parts += ["--checkpoint", str(spec.start.resolve())]
    if spec.defense:
        parts += ["--defense", "+".join(layer.name for layer in spec.defense)]
    for layer in spec.defense:
        own = defense.parameters(layer.name) | chosen.get("defenses", {}).get(layer.name, {}).get("params", {})
        parts += [part for k, v in layer.params.items() if v != own[k] for part in ("--defense-param", f"{k}={v}")]
    if spec.fold is not None:
        parts += ["--folds", str(spec.fold[1]), "--fold", str(spec.fold[0])]
    if spec.size != chosen["size"]:
        parts += ["--size", str(spec.size)]
    defaults = preset_parameters(spec.model, spec.preset)
    for name, value in spec.params.items():
        if value != defaults.get(name):
            parts += ["--model-param", f"{name}={json.dumps(value)}"]
    for name, value in spec.preprocessing.model_dump(exclude_defaults=True).items():
        parts += ["--preprocess", f"{name}={value}"]
    for name, value in spec.recipe:
        if value != getattr(usual, name) and not (value is None and name in ("steps", "epochs")):
            parts += ["--recipe", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    own = includes({spec.model, *(layer.name for layer in spec.defense)})
    return shlex.join([*parts, *own, *where(dataset), *(["--half"] if spec.half else []), "--force"])


def cost_of(spec: TrainSpec, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Steps, batch size, passes a sample and step (`objectives.Passes`), and seconds of a training; None for foreign weights."""
    if not checkpoint.sidecar:
        return None
    shapes = [(c, spec.size, spec.size) for c in spec.channels]
    names = [str(m) for m in range(len(shapes))]
    uniform = [
        layer.model_copy(update={"params": {**layer.params, "eps": "1"}}) if "eps" in layer.params else layer for layer in spec.defense
    ]
    passes = defense.objective(uniform, shapes, names, spec.seed).passes  # whatever the radii
    return {
        "steps": checkpoint.sidecar["history"][-1]["step"],
        "batch_size": spec.recipe.batch_size,
        **passes._asdict(),
        "seconds": checkpoint.sidecar.get("seconds"),
    }
