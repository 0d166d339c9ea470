"""Training a victim by a preset's recipe: class-balanced, resumable, the same weights for the same seed."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med import checkpoints, statistics
from robustbench_med.checkpoints import Checkpoint
from robustbench_med.data import Dataset, Samples
from robustbench_med.errors import UserError, unknown
from robustbench_med.evaluation import Setting, batches, clean_pass, seeded
from robustbench_med.models import registry
from robustbench_med.spec import Recipe, TrainSpec, validate
from robustbench_med.versions import versions

FROZEN_LR = 0.15
"""Factor on a trapezoid's learning rate once BatchNorm is frozen: without its normalisation the full rate diverges."""

Tick = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what the training stands at)."""


def preset(name: str) -> dict[str, Any]:
    """A preset by name; an unknown one is a UserError."""
    if name not in registry.presets():
        raise unknown("preset", name, registry.presets())
    return registry.preset(name)


def make_spec(
    model: str, dataset: Dataset, preset_name: str, *, params: dict[str, Any], recipe: dict[str, Any], seed: int, half: bool = False
) -> TrainSpec:
    """The training a preset means for one model and data set, with the user's overrides of model parameters and recipe."""
    chosen = preset(preset_name)
    merged = {**chosen["recipe"], **_own(model, preset_name).get("recipe", {}), **recipe}
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if given in recipe:
            merged.pop(other, None)
    spec = TrainSpec(
        model=model,
        params={**_own(model, preset_name).get("params", {}), **params},
        data=dataset.name,
        manifest=dataset.manifest_hash,
        size=dataset.size,
        channels=dataset.channels,
        class_counts=dataset.class_counts,
        preset=preset_name,
        recipe=validate(Recipe, merged, f"recipe of {model}"),
        seed=seed,
        half=half,
        preprocessing=dataset.preprocessing,
    )
    build(spec)  # refuses bad parameters before any work is done
    return spec


def _own(model: str, preset_name: str) -> dict[str, Any]:
    """A preset's `params` and `recipe` for one model."""
    if model not in registry.MODELS:
        raise unknown("model", model, registry.MODELS)
    own: dict[str, Any] = preset(preset_name).get("models", {}).get(model, {})
    return own


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
        return untrained(spec.model, spec.preset, spec.channels, spec.class_counts, spec.size, spec.params)


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


def train(
    spec: TrainSpec, dataset: Dataset, device: torch.device, *, tick: Tick, say: Callable[[str], None], command: str | None = None
) -> Checkpoint:
    """Trains a victim and stores it below medrobust's home; continues an interrupted training of the same spec.

    Each step reseeds from (seed, step), so an interrupted training ends with the weights of an uninterrupted one.
    """
    recipe = spec.recipe
    victim = build(spec).to(device)
    n_train = max(len(c.ids) for c in dataset.splits["train"].components)
    epoch = math.ceil(n_train / recipe.batch_size)
    total = recipe.steps or (recipe.epochs or 0) * epoch
    every = min(recipe.eval_every or epoch, total)
    sample = BalancedBatches(dataset.splits["train"], recipe.batch_size, spec.seed)
    optimizer = _optimizer(victim, recipe)
    scheduler = _scheduler(optimizer, recipe, total)
    final = checkpoints.cached_path(spec)
    partial = final.with_name(f"{final.stem}.partial.safetensors")
    warm_up, penalty = getattr(victim, "warm_up", None), getattr(victim, "penalty", None)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    best_loss, best_step, since_best, step, running = math.inf, 0, 0, 0, 0.0

    resumed = checkpoints.load_progress(partial, say)
    if resumed is not None:
        tensors, facts = resumed
        victim.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
        best = {k[5:]: v for k, v in tensors.items() if k.startswith("best/")}
        _load_optimizer(optimizer, tensors)
        scheduler.load_state_dict(scheduler.state_dict() | facts["scheduler"])
        history, best_loss, best_step = facts["history"], facts["best_loss"], facts["best_step"]
        since_best, step = facts["since_best"], facts["step"]
        say(f"continuing the interrupted training of {spec.model} at step {step} of {total}")

    while step < total and not (recipe.early_stop and since_best >= recipe.early_stop):
        progress = step / total
        if recipe.warm_up and warm_up is not None:
            start, end = recipe.warm_up
            warm_up(min(max((progress - start) / max(end - start, 1e-9), 0.0), 1.0))
        victim.train()
        if recipe.freeze_bn is not None and progress >= recipe.freeze_bn:
            freeze_batch_norm(victim)
        x, y, _ = sample(step)
        x, y = [augment(m, recipe, spec.seed, step).to(device) for m in x], y.to(device)
        with seeded(device, spec.seed, "train", step):
            loss = multitask_loss(victim(*x), y)
            if penalty is not None:
                loss = loss + penalty()
            optimizer.zero_grad()
            loss.backward()
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(victim.parameters(), recipe.clip_norm)
        optimizer.step()
        if recipe.schedule != "plateau":
            scheduler.step()
        running += float(loss.detach())
        step += 1
        tick(step, total, f"loss {history[-1]['val_loss']:.3f}" if history else "")
        if step % every and step != total:
            continue
        val_loss = validation_loss(victim, dataset.splits["val"], device, spec.seed)
        history.append({"step": step, "train_loss": running / (step % every or every), "val_loss": val_loss})
        running = 0.0
        if recipe.schedule == "plateau":
            scheduler.step(val_loss)
        complete = recipe.warm_up is None or progress >= recipe.warm_up[1]
        settled = recipe.freeze_bn is None or progress >= recipe.freeze_bn
        if complete and settled and (val_loss < best_loss or not best):
            best_loss, best_step, since_best = val_loss, step, 0
            best = {name: tensor.detach().cpu().clone() for name, tensor in victim.state_dict().items()}
        else:
            since_best += 1
        facts = {
            "step": step,
            "history": history,
            "best_loss": best_loss if best else 1e30,
            "best_step": best_step,
            "since_best": since_best,
            "scheduler": _plain(scheduler.state_dict()),
        }
        tensors = {f"model/{k}": v for k, v in victim.state_dict().items()} | {f"best/{k}": v for k, v in best.items()}
        checkpoints.save_progress(partial, tensors | _optimizer_tensors(optimizer), facts)

    victim.load_state_dict(best)
    details = {
        "history": history,
        "best_step": best_step,
        "validation": validation_figures(victim, dataset, device, spec.seed),
        "synthetic": dataset.synthetic,
        "command": command or command_of(spec),
        "versions": versions(),
    }
    checkpoint = checkpoints.save(final, best, spec, details)
    partial.unlink(missing_ok=True)
    return checkpoint


def multitask_loss(logits: tuple[Tensor, ...], y: Tensor) -> Tensor:
    """Cross-entropies of the tasks, weighted 1/T; unlabelled samples (-1) do not count."""
    losses = [
        F.cross_entropy(z, y[:, t], ignore_index=-1, reduction="sum") / (y[:, t] >= 0).sum().clamp_min(1) for t, z in enumerate(logits)
    ]
    return torch.stack(losses).mean()


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
                "most_predicted_share": float(np.bincount(vote).max() / len(vote)),
                "trivial": statistics.trivial(right, vote, y[known], len(classes)),
            }
        )
    return figures


def freeze_batch_norm(victim: nn.Module) -> None:
    """BatchNorm layers use and keep their running statistics, as in inference."""
    for module in victim.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def augment(x: Tensor, recipe: Recipe, seed: int, step: int) -> Tensor:
    """Augmented images (B, C, H, W), a function of the seed and the step.

    `light`: each image rotated by up to 10 degrees, moved by up to 6 % of a side and zoomed by up to 8 %. `release`: each image
    appears as it is, rotated by 20 degrees, moved by (5, 5) pixels, or blurred 3x3, as in the authors' notebook.
    """
    rng = np.random.default_rng([seed, step, 1])
    if recipe.augmentation == "light":
        angle, zoom = np.radians(rng.uniform(-10, 10, len(x))), rng.uniform(0.92, 1.08, len(x))
        shift = rng.uniform(-0.12, 0.12, (len(x), 2))  # in units of half a side
        theta = np.stack(
            [zoom * np.cos(angle), -zoom * np.sin(angle), shift[:, 0], zoom * np.sin(angle), zoom * np.cos(angle), shift[:, 1]], 1
        )
        grid = F.affine_grid(torch.from_numpy(theta.reshape(-1, 2, 3)).to(x), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)
    if recipe.augmentation == "release":
        from monai.transforms import Affine, GaussianSmooth

        rotate = Affine(rotate_params=math.radians(20), padding_mode="zeros", image_only=True)
        move = Affine(translate_params=(5, 5), padding_mode="zeros", image_only=True)
        blur = GaussianSmooth(sigma=0.8, approx="erf")
        choice = rng.integers(4, size=len(x))
        changed = [image if c == 0 else torch.as_tensor((rotate, move, blur)[c - 1](image)) for image, c in zip(x, choice, strict=True)]
        return torch.stack([torch.Tensor(image).clamp(0, 1) for image in changed])
    return x


def command_of(spec: TrainSpec) -> str:
    """The command line that trains this spec: the preset, and what differs from it."""
    parts = ["medrobust", "train", "--model", spec.model, "--data", spec.data, "--preset", spec.preset, "--seed", str(spec.seed)]
    chosen = preset(spec.preset)
    usual = Recipe.model_validate({**chosen["recipe"], **_own(spec.model, spec.preset).get("recipe", {})})
    if spec.size != chosen["size"]:
        parts += ["--size", str(spec.size)]
    defaults = preset_parameters(spec.model, spec.preset)
    for name, value in spec.params.items():
        if value != defaults[name]:
            parts += ["--model-param", f"{name}={json.dumps(value)}"]
    for name, value in spec.preprocessing.model_dump(exclude_defaults=True).items():
        parts += ["--preprocess", f"{name}={value}"]
    for name, value in spec.recipe:
        if value is not None and value != getattr(usual, name):
            parts += ["--recipe", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*parts, *(["--half"] if spec.half else []), "--force"])


def _optimizer(victim: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(victim.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def _scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, total: int) -> Any:
    if recipe.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=total + 1)
    if recipe.schedule == "trapezoid":
        ramp = min(50, max(total // 10, 1))
        frozen = math.inf if recipe.freeze_bn is None else recipe.freeze_bn * total

        def factor(t: int) -> float:
            shape = min((t + 1) / ramp, 1.0, max(0.02, (total - t) / (0.4 * total)))
            return shape * (FROZEN_LR if t >= frozen else 1.0)

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=70, min_lr=1e-5)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state without its functions."""
    return {k: v for k, v in state.items() if isinstance(v, (int, float, str, list, bool, type(None))) and k != "lr_lambdas"}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    tensors = {f"optimizer/{i}/{k}": v for i, values in state.items() for k, v in values.items()}
    schedule = [[group["lr"], *group["betas"]] for group in optimizer.param_groups]  # one-cycle moves the first beta too
    return tensors | {"schedule": torch.tensor(schedule, dtype=torch.float64)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, i, key = name.split("/")
            state.setdefault(int(i), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, (lr, *betas) in zip(groups, tensors["schedule"].tolist(), strict=True):
        group["lr"], group["betas"] = lr, tuple(betas)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
