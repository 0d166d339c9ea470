"""Training a victim by a preset's recipe: class-balanced, resumable, the same weights for the same
seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.attacks import seeded
from robustbench_med.data import Dataset
from robustbench_med.errors import UserError
from robustbench_med.evaluation.cost import device_name
from robustbench_med.progress import Tick
from robustbench_med.training import batch_norm, checkpoints, interrupted, optimisation
from robustbench_med.training.augmentation import augment
from robustbench_med.training.averaging import Average
from robustbench_med.training.batches import BalancedBatches
from robustbench_med.training.checkpoints import Checkpoint
from robustbench_med.training.interrupted import Standing
from robustbench_med.training.objective import objective
from robustbench_med.training.objectives import Objective, Standard
from robustbench_med.training.objectives.regularised import Regularised
from robustbench_med.training.presets import build
from robustbench_med.training.spec import TrainSpec
from robustbench_med.training.validation import (
    clean_validation,
    robust_validation,
    validation_figures,
)
from robustbench_med.version import versions


def obtain(
    spec: TrainSpec,
    dataset: Dataset,
    device: torch.device,
    *,
    tick: Tick,
    say: Callable[[str], None],
    command: str,
) -> Checkpoint:
    """The checkpoint of a spec: from the cache, from the zoo, or trained now (`train`), by one of
    all processes that want it: the others wait.
    """
    checkpoint = checkpoints.find(spec)
    if checkpoint is not None:
        interrupted.tidy(checkpoints.cached_path(spec))
        return checkpoint
    for split in ("train", "val"):
        dataset.check_labelled(split, dataset.splits[split])
    with interrupted.alone(checkpoints.cached_path(spec), say):
        checkpoint = checkpoints.find(spec)  # another process may have trained it meanwhile
        if checkpoint is not None:
            return checkpoint
        return _train(spec, dataset, device, tick=tick, say=say, command=command)


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

    Each step reseeds from (seed, step), so an interrupted training ends with the weights of an
    uninterrupted one.

    Args:
        spec: everything that determines the weights (`presets.make_spec`).
        dataset: the data that the spec names.
        device: where to train.
        tick: called after each step with the steps done, the steps in all, and the loss.
        say: called with a line about a training that goes on, or cannot go on.
        command: the line that trains the same again; it goes into the sidecar.

    Returns:
        The best weights by the validation, and their sidecar.

    Raises:
        UserError: the training has diverged, or its files cannot be written.

    Example:
        spec = make_spec("late", dataset, "quick", params={}, recipe={}, seed=0)
        checkpoint = train(spec, dataset, device, tick=tick, say=print, command="")
        victim = load(spec, checkpoint, device)
    """
    with interrupted.alone(checkpoints.cached_path(spec), say):
        return _train(spec, dataset, device, tick=tick, say=say, command=command)


def _train(
    spec: TrainSpec,
    dataset: Dataset,
    device: torch.device,
    *,
    tick: Tick,
    say: Callable[[str], None],
    command: str,
) -> Checkpoint:
    training = Training(spec, dataset, device, say)
    training.restore()
    while not training.finished:
        training.step()
        tick(training.standing.step, training.total, training.note)
        if training.is_due:
            with training.judged():
                training.validate()
            training.save_progress()
    return training.save(command)


class Training:
    """A training between two steps: the victim, what changes it, and where it stands."""

    def __init__(
        self, spec: TrainSpec, dataset: Dataset, device: torch.device, say: Callable[[str], None]
    ) -> None:
        self.spec, self.recipe, self.dataset = spec, spec.recipe, dataset
        self.device, self.say = device, say
        self.victim = started(spec).to(device)
        self.total, self.every = lengths(spec, dataset)
        self.freeze_at = freeze_step(spec, self.total)
        self.batches = BalancedBatches(
            dataset.splits["train"], self.recipe.batch_size, self.spec.seed
        )
        self.optimizer = optimisation.optimizer(self.victim, self.recipe)
        self.scheduler = optimisation.scheduler(
            self.optimizer, self.recipe, self.total, self.freeze_at
        )
        self.objective = objective_of(spec, dataset)
        self.average = Average(self.victim, self.recipe.ema) if self.recipe.ema else None
        self.settled = batch_norm.Settled(self.victim) if self.recipe.settle_bn else None
        self.partial = interrupted.path_of(checkpoints.cached_path(spec))
        self.standing = Standing()
        self.best: dict[str, Tensor] = {}
        """The best weights so far, on the CPU."""
        self.running = 0.0
        """Sum of the losses since the last validation."""
        self.begun = time.perf_counter()

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or validations no longer improve."""
        patience = self.recipe.early_stop
        stopped = patience is not None and self.standing.since_best >= patience
        return self.standing.step >= self.total or stopped

    @property
    def is_due(self) -> bool:
        """Whether a validation follows the last step."""
        return self.standing.step % self.every == 0 or self.standing.step == self.total

    def judged(self) -> AbstractContextManager[None]:
        """Inside, the victim is what is validated and kept: as it is, or with averaged weights."""
        return nullcontext() if self.average is None else self.average.worn()

    @property
    def note(self) -> str:
        """What the training stands at, in words."""
        if not self.standing.history:
            return ""
        point = self.standing.history[-1]
        return f"loss {point['val_loss']:.3f}" + (
            f", AUC {point['val_auc']:.3f}" if "val_auc" in point else ""
        )

    @property
    def seconds(self) -> float:
        """Seconds so far, those before an interruption among them."""
        return time.perf_counter() - self.begun

    def restore(self) -> None:
        """Goes to where an interrupted training of the same spec stood, if there is one."""
        resumed = interrupted.load_progress(self.partial, self.say)
        if resumed is None:
            return
        tensors, facts = resumed
        self.victim.load_state_dict(below("model", tensors))
        self.best = below("best", tensors)
        self.objective.restore(below("objective", tensors))
        if self.average is not None:
            self.average.restore(below("average", tensors))
        optimisation.restore(self.optimizer, tensors)
        self.scheduler.load_state_dict(self.scheduler.state_dict() | facts["scheduler"])
        self.standing = Standing.from_facts(facts)
        self.begun = time.perf_counter() - facts["seconds"]
        self.say(
            f"continuing the interrupted training of {self.spec.name} at step"
            f" {self.standing.step} of {self.total}"
        )

    def step(self) -> None:
        """One step of the optimizer, on one batch."""
        step = self.standing.step
        self.warm_up(step / self.total)
        self.prepare_batch_norm(step)
        x, y = self.batch(self.objective.replay(step))
        self.optimizer.zero_grad()
        with seeded(self.device, self.spec.seed, "train", step):
            loss = self.objective.backward(self.victim, x, y, step)
        self.check_finite({"loss": float(loss)}, step)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.victim.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        if self.recipe.schedule != "plateau":
            self.scheduler.step()
        self.running += float(loss)
        self.standing.step += 1

    def warm_up(self, progress: float) -> None:
        """Sets the model's own `warm_up`, if it has one, to where a share of the training is."""
        if not self.recipe.warm_up:
            return
        start, end = self.recipe.warm_up
        warm_up: Any = getattr(self.victim, "warm_up", None)
        if warm_up is not None:
            warm_up(min(max((progress - start) / max(end - start, 1e-9), 0.0), 1.0))

    def prepare_batch_norm(self, step: int) -> None:
        """Training mode, but BatchNorm in the last part as in inference."""
        if self.settled is not None and step == self.freeze_at:
            self.settled.settle(
                lambda number: self.batch(self.total + number)[0], self.device, self.spec.seed
            )
        self.victim.train()
        if step >= self.freeze_at:
            batch_norm.freeze(self.victim)

    def batch(self, number: int) -> tuple[list[Tensor], Tensor]:
        """Augmented modalities (B, C, H, W) and labels (B, T) of a batch, on the device."""
        x, y, _ = self.batches(number)
        kind, seed = self.recipe.augmentation, self.spec.seed
        moved = [
            m if i in self.spec.tables else augment(m, kind, seed, number) for i, m in enumerate(x)
        ]
        return [m.to(self.device) for m in moved], y.to(self.device)

    def validate(self) -> None:
        """Adds a point to the history, and keeps the weights if they are the best so far."""
        standing = self.standing
        steps = standing.step % self.every or self.every
        point = {"step": standing.step, "train_loss": self.running / steps, **self.figures()}
        standing.history.append(point)
        self.running = 0.0
        self.check_finite(point, standing.step)
        if self.recipe.schedule == "plateau":
            self.scheduler.step(point["val_loss"])
        score = self.score(point)
        if self.is_eligible and (score < standing.best_score or not self.best):
            standing.best_score, standing.best_step, standing.since_best = score, standing.step, 0
            self.best = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.victim.state_dict().items()
            }
        elif self.best:
            standing.since_best += 1

    def figures(self) -> dict[str, float]:
        """Loss, AUC and balanced accuracy of the validation images; of attacked ones too in an
        adversarial training.
        """
        where = self.dataset.splits["val"], self.device, self.spec.seed
        clean = clean_validation(self.victim, *where)
        return clean | (robust_validation(self.victim, self.objective, *where) or {})

    def score(self, point: Mapping[str, float]) -> tuple[float, float]:
        """Of the weights of a validation, the smaller the better."""
        by_auc = self.recipe.keep == "auc"
        if "robust_val_loss" in point:
            figure = "robust_val_balanced_accuracy" if by_auc else "robust_val_accuracy"
            return 1 - point[figure], point["robust_val_loss"]
        if not by_auc:
            return 0.0, point["val_loss"]
        if "val_auc" not in point:
            raise UserError(
                "keep=auc needs validation samples of every class of a task;"
                " --recipe keep=loss does without"
            )
        return 1 - point["val_auc"], point["val_loss"]

    @property
    def is_eligible(self) -> bool:
        """Whether the weights are late enough to be kept: warm, and with frozen BatchNorm; where no
        validation is, the last one counts.
        """
        step, recipe = self.standing.step, self.recipe
        warm = recipe.warm_up is None or (step - 1) / self.total >= recipe.warm_up[1]
        frozen = recipe.freeze_bn is None or step > self.freeze_at
        return (warm and frozen) or step == self.total

    def check_finite(self, figures: Mapping[str, float], step: int) -> None:
        """Ends (UserError) a training that has diverged."""
        optimisation.check_finite(figures, self.victim, self.spec.name, step, self.partial)

    def save_progress(self) -> None:
        """Keeps the whole state, for a training that is interrupted."""
        tensors = {f"model/{name}": tensor for name, tensor in self.victim.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        tensors |= {
            f"objective/{name}": tensor for name, tensor in self.objective.tensors().items()
        }
        if self.average is not None:
            tensors |= {f"average/{n}": tensor for n, tensor in self.average.tensors().items()}
        tensors |= optimisation.tensors(self.optimizer)
        facts = self.standing.facts(
            kept=bool(self.best), scheduler=optimisation.plain(self.scheduler), seconds=self.seconds
        )
        interrupted.save_progress(self.partial, tensors, facts)

    def save(self, command: str) -> Checkpoint:
        """The checkpoint of the best weights; nothing is left to go on from."""
        self.victim.load_state_dict(self.best)
        details = {
            "history": self.standing.history,
            "best_step": self.standing.best_step,
            "seconds": self.seconds,
            "validation": validation_figures(
                self.victim, self.dataset, self.device, self.spec.seed
            ),
            "synthetic": self.dataset.synthetic,
            "command": command,
            "threads": torch.get_num_threads(),
            "device": device_name(self.device),
            "versions": versions(),
        }
        path = checkpoints.cached_path(self.spec)
        checkpoint = checkpoints.save(path, self.best, self.spec, details)
        self.partial.unlink(missing_ok=True)
        return checkpoint


def objective_of(spec: TrainSpec, dataset: Dataset) -> Objective:
    """What the training minimises: that of its defences, or the cross-entropy as the recipe has
    it.

    Raises:
        UserError: soft labels beside a defence with an objective of its own.
    """
    recipe = spec.recipe
    minimised = objective(
        spec.defense, dataset.shapes, dataset.modalities, spec.seed, dataset.optional
    )
    if not recipe.label_smoothing and not recipe.mixup:
        return minimised
    if type(minimised) is not Standard:
        names = "+".join(layer.name for layer in spec.defense)
        raise UserError(
            f"label_smoothing and mixup belong to a plain training, and {names} minimises something"
            " else; leave them out (--recipe label_smoothing=0 --recipe mixup=0)"
        )
    return Regularised(recipe.label_smoothing, recipe.mixup, spec.seed)


def started(spec: TrainSpec) -> nn.Module:
    """The victim as its training begins: drawn weights, or those of `spec.start`."""
    victim = build(spec)
    if spec.start is not None:
        checkpoints.load_weights(
            victim, checkpoints.open_checkpoint(spec.start, spec.start_reading)
        )
    return victim


def lengths(spec: TrainSpec, dataset: Dataset) -> tuple[int, int]:
    """Steps of a training, and steps between two validations."""
    recipe = spec.recipe
    n_train = max(len(component.ids) for component in dataset.splits["train"].components)
    epoch = math.ceil(n_train / recipe.batch_size)
    total = recipe.steps or (recipe.epochs or 0) * epoch
    return total, min(recipe.eval_every or epoch, total)


def freeze_step(spec: TrainSpec, total: int) -> int:
    """The first step whose BatchNorm is frozen; `total` where it never is."""
    share = spec.recipe.freeze_bn
    if share is None:
        return total
    return next(step for step in range(total + 1) if step / total >= share)


def below(folder: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins with a folder, without it."""
    start = f"{folder}/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
