"""Training a victim by a preset's recipe: class-balanced, resumable, the same weights for the same
seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.attacks import seeded
from robustbench_med.data import Dataset
from robustbench_med.training import batch_norm, checkpoints, optimisation
from robustbench_med.training import defenses as defense
from robustbench_med.training.augmentation import augment
from robustbench_med.training.batches import BalancedBatches
from robustbench_med.training.checkpoints import Checkpoint
from robustbench_med.training.presets import build
from robustbench_med.training.spec import TrainSpec
from robustbench_med.training.validation import (
    robust_validation,
    validation_figures,
    validation_loss,
)
from robustbench_med.version import versions

Tick = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what the training stands at)."""


def obtain(
    spec: TrainSpec,
    dataset: Dataset,
    device: torch.device,
    *,
    tick: Tick,
    say: Callable[[str], None],
    command: str,
) -> Checkpoint:
    """The checkpoint of a spec: from the cache, from the zoo, or trained now."""
    found = checkpoints.find(spec)
    return (
        found
        if found is not None
        else train(spec, dataset, device, tick=tick, say=say, command=command)
    )


def train(
    spec: TrainSpec,
    dataset: Dataset,
    device: torch.device,
    *,
    tick: Tick,
    say: Callable[[str], None],
    command: str,
) -> Checkpoint:
    """Trains a victim and stores it below medrobust's home; continues an interrupted training of
    the same spec.

    `command`, the line that trains the same again, goes into the sidecar.

    Each step reseeds from (seed, step), so an interrupted training ends with the weights of an
    uninterrupted one.
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
    freeze_at = (
        total
        if recipe.freeze_bn is None
        else next(s for s in range(total + 1) if s / total >= recipe.freeze_bn)
    )
    optimizer = optimisation.optimizer(victim, recipe)
    scheduler = optimisation.scheduler(optimizer, recipe, total, freeze_at)
    final = checkpoints.cached_path(spec)
    partial = final.with_name(f"{final.stem}.partial.safetensors")
    warm_up = getattr(victim, "warm_up", None)
    objective = defense.objective(spec.defense, dataset.shapes, dataset.modalities, spec.seed)
    settled = batch_norm.Settled(victim) if recipe.settle_bn else None
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    best_score, best_step, since_best, step, running, seconds = (
        (math.inf, math.inf),
        0,
        0,
        0,
        0.0,
        0.0,
    )

    resumed = checkpoints.load_progress(partial, say)
    if resumed is not None:
        tensors, facts = resumed
        victim.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
        best = {k[5:]: v for k, v in tensors.items() if k.startswith("best/")}
        optimisation.restore(optimizer, tensors)
        scheduler.load_state_dict(scheduler.state_dict() | facts["scheduler"])
        objective.restore({k[10:]: v for k, v in tensors.items() if k.startswith("objective/")})
        history, best_score, best_step = (
            facts["history"],
            tuple(facts["best_score"]),
            facts["best_step"],
        )
        since_best, step, seconds = facts["since_best"], facts["step"], facts["seconds"]
        say(f"continuing the interrupted training of {spec.name} at step {step} of {total}")

    started = time.perf_counter() - seconds

    def prepared(batch: int) -> tuple[list[Tensor], Tensor]:
        x, y, _ = sample(batch)
        return [augment(m, recipe.augmentation, spec.seed, batch).to(device) for m in x], y.to(
            device
        )

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
        history.append(
            {"step": step, "train_loss": running / (step % every or every), "val_loss": val_loss}
        )
        robust = robust_validation(victim, objective, dataset.splits["val"], device, spec.seed)
        score = (
            (0.0, val_loss)
            if robust is None
            else (1 - robust["robust_val_accuracy"], robust["robust_val_loss"])
        )
        history[-1] |= robust or {}
        running = 0.0
        optimisation.check_finite(history[-1], victim, spec.name, step, partial)
        if recipe.schedule == "plateau":
            scheduler.step(val_loss)
        complete = recipe.warm_up is None or progress >= recipe.warm_up[1]
        frozen = recipe.freeze_bn is None or step > freeze_at
        eligible = (
            complete and frozen
        ) or step == total  # where no validation is late enough, the last one counts
        if eligible and (score < best_score or not best):
            best_score, best_step, since_best = score, step, 0
            best = {
                name: tensor.detach().cpu().clone() for name, tensor in victim.state_dict().items()
            }
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
        tensors = {f"model/{k}": v for k, v in victim.state_dict().items()} | {
            f"best/{k}": v for k, v in best.items()
        }
        tensors |= {f"objective/{k}": v for k, v in objective.tensors().items()}
        checkpoints.save_progress(partial, tensors | optimisation.tensors(optimizer), facts)

    victim.load_state_dict(best)
    details = {
        "history": history,
        "best_step": best_step,
        "seconds": time.perf_counter() - started,
        "validation": validation_figures(victim, dataset, device, spec.seed),
        "synthetic": dataset.synthetic,
        "command": command,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    checkpoint = checkpoints.save(final, best, spec, details)
    partial.unlink(missing_ok=True)
    return checkpoint


def cost_of(spec: TrainSpec, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Steps, batch size, passes a sample and step (`objectives.Passes`), and seconds of a training;
    None for foreign weights.
    """
    if not checkpoint.sidecar:
        return None
    shapes = [(c, spec.size, spec.size) for c in spec.channels]
    names = [str(m) for m in range(len(shapes))]
    uniform = [
        (
            layer.model_copy(update={"params": {**layer.params, "eps": "1"}})
            if "eps" in layer.params
            else layer
        )
        for layer in spec.defense
    ]
    passes = defense.objective(uniform, shapes, names, spec.seed).passes  # whatever the radii
    return {
        "steps": checkpoint.sidecar["history"][-1]["step"],
        "batch_size": spec.recipe.batch_size,
        **passes._asdict(),
        "seconds": checkpoint.sidecar.get("seconds"),
    }
