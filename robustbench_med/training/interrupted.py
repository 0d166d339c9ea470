"""Interrupted trainings: the whole state of a training in one file, from which one process at a
time goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch

from robustbench_med.errors import UserError
from robustbench_med.formats import weights
from robustbench_med.formats.files import UnreadableError, door
from robustbench_med.owners.lock import Lock
from robustbench_med.paths import sweep, write_atomically

NEVER = 1e30
"""The score of weights that there are none of yet, as JSON writes it."""


@dataclass
class Standing:
    """Where a training stands between two steps."""

    step: int = 0
    """Steps done."""
    history: list[dict[str, float]] = field(default_factory=list)
    """A point for each validation: step, losses, and robust figures of an adversarial training."""
    best_score: tuple[float, float] = (math.inf, math.inf)
    """Of the best weights, the smaller the better: robust error (0 in a clean training), loss."""
    best_step: int = 0
    since_best: int = 0
    """Validations since the best one."""

    def facts(self, *, kept: bool, scheduler: dict[str, Any], seconds: float) -> dict[str, Any]:
        """What the file says besides tensors; `kept`: whether there are best weights yet."""
        return {
            "step": self.step,
            "history": self.history,
            "best_score": self.best_score if kept else (NEVER, NEVER),
            "best_step": self.best_step,
            "since_best": self.since_best,
            "scheduler": scheduler,
            "seconds": seconds,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """What `facts` wrote."""
        error, loss = facts["best_score"]
        return cls(
            step=facts["step"],
            history=facts["history"],
            best_score=(error, loss),
            best_step=facts["best_step"],
            since_best=facts["since_best"],
        )


def path_of(checkpoint: Path) -> Path:
    """Where the state of a training lies that will write this checkpoint."""
    return checkpoint.with_name(f"{checkpoint.stem}.partial.safetensors")


@contextlib.contextmanager
def alone(checkpoint: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Inside, no other process trains what writes this checkpoint; what killed trainings left
    behind is gone.
    """
    lock = Lock(checkpoint.with_suffix(".lock"))
    with lock.waited(say, f"the training of {checkpoint.stem}"):
        sweep(checkpoint.parent)
        yield


def tidy(checkpoint: Path) -> None:
    """Takes away what a training left that was killed after it had written its weights: its state,
    no younger than they, and its lock.
    """
    partial, lock = path_of(checkpoint), Lock(checkpoint.with_suffix(".lock"))
    with contextlib.suppress(OSError, UserError):  # somebody trains it anew; a read-only cache
        stale = partial.exists() and partial.stat().st_mtime <= checkpoint.stat().st_mtime
        if (stale or lock.path.exists()) and lock.take():
            if stale:
                partial.unlink(missing_ok=True)
            lock.release()


def save_progress(path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """One file with the whole state of a training, so that a kill leaves either the old state or
    the new one.

    It holds its name, which names the training, and a hash of all that it says.
    """
    flat = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"name": path.name, **facts})
    metadata = {"facts": text, "sha256": progress_hash(flat, text)}
    write_atomically(
        path, lambda temporary: safetensors.torch.save_file(flat, temporary, metadata=metadata)
    )


def load_progress(
    path: Path, say: Callable[[str], None]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The state `save_progress` wrote, or None when there is none; a damaged one, or another
    training's, is refused in a line.
    """
    if not path.exists():
        return None
    try:
        tensors, metadata = weights.load(path, "the interrupted training")
        with door("the interrupted training", path):
            text = metadata["facts"]
            if metadata["sha256"] != progress_hash(tensors, text):
                raise ValueError("its sha256 differs")
            facts: dict[str, Any] = json.loads(text)
            if facts["name"] != path.name:
                raise ValueError(f"it is {facts['name']}")
    except UnreadableError as error:
        say(
            f"the interrupted training {path} is damaged or another's ({error.reason}) and not gone"
            " on from; starting again"
        )
        return None
    return tensors, facts


def progress_hash(tensors: Mapping[str, torch.Tensor], facts: str) -> str:
    """sha256 of facts and of every tensor with its name, type and shape."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
