"""The evaluation protocol: clean pass, attack, fresh draws, per-sample outcomes.

`release` retraces the authors' notebook: one draw, whatever the victim. `sound` asks what a single use in the clinic would
see: a stochastic victim is found by trying, a sample counts with the fraction of K fresh draws that are right, samples that
are never right are not attacked, and the draws an attacker optimised on are never reported.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med import statistics
from robustbench_med.attacks import ATTACKS, Streams, Threat, View, derive_seed
from robustbench_med.data import Samples

ProtocolName = Literal["sound", "release"]
Arrays = dict[str, NDArray[Any]]
Tick = Callable[[int], None]
"""Called with the number of samples that one stage (clean pass, attack, fresh draws) has finished."""


@dataclass(frozen=True)
class Setting:
    """How to evaluate: `draws` is K, passes per prediction of a stochastic victim."""

    protocol: ProtocolName
    draws: int
    seed: int
    device: torch.device
    batch_size: int


@dataclass
class Clean:
    """The clean pass over all samples: shared by every attack on one victim under one setting."""

    stochastic: bool
    right: NDArray[np.float32]
    """(n, T) fraction of draws that are right; 0 where a task is not labelled."""
    vote: NDArray[np.int64]
    """(n, T) class most draws predict."""
    probabilities: list[NDArray[np.float32]]
    """Per task (n, classes): softmax, mean over draws."""
    draws: int
    passes: tuple[int, int]
    seconds: float


@dataclass
class Outcome:
    """One attacked cell, per sample and summed up."""

    figures: dict[str, Any]
    arrays: Arrays
    cost: dict[str, Any] = field(default_factory=dict)


def is_stochastic(victim: nn.Module, samples: Samples, setting: Setting) -> bool:
    """Whether two evaluation-mode passes on the same input differ: found by trying, on the first batch."""
    x = [m.to(setting.device) for m in samples.batch(range(min(len(samples), setting.batch_size)))]
    with seeded(setting.device, setting.seed, "stochastic?"), torch.no_grad():
        first, second = victim(*x), victim(*x)
    return any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def clean_pass(victim: nn.Module, samples: Samples, setting: Setting, tick: Tick, *, stochastic: bool) -> Clean:
    """Predictions on unperturbed samples; `stochastic` as `is_stochastic` found or the victim declares."""
    start = time.perf_counter()
    draws = setting.draws if stochastic and setting.protocol == "sound" else 1
    view = View(victim, [tuple(m.shape[1:]) for m in samples.batch([0])], draws=draws)  # type: ignore[misc]
    parts, ids = [], samples.ids
    for rows in batches(np.arange(len(samples)), setting.batch_size):
        x = view.pack(samples.batch(rows)).to(setting.device)
        with seeded(setting.device, setting.seed, "clean", ids[rows[0]]):
            parts.append(predict(view, x, samples.labels[rows]))
        tick(len(rows))
    right, vote, probabilities = join(parts)
    return Clean(stochastic, right, vote, probabilities, draws, (view.passes.forward, 0), time.perf_counter() - start)


def attack_pass(
    victim: nn.Module,
    samples: Samples,
    clean: Clean,
    threat: Threat,
    attack: str,
    parameters: Mapping[str, Any],
    setting: Setting,
    tick: Tick,
) -> Outcome:
    """Attacks every sample that is ever right and measures it on fresh draws.

    Args:
        clean: the clean pass under the same setting.
        attack: name in `ATTACKS`.
        parameters: complete keyword arguments of the attack.
    """
    start = time.perf_counter()
    labels, ids = samples.labels, np.array(samples.ids)
    view = View(victim, [tuple(m.shape[1:]) for m in samples.batch([0])], draws=clean.draws)  # type: ignore[misc]
    tasks = list(threat.tasks)
    targets = np.arange(len(samples))
    if setting.protocol == "sound":
        targets = np.flatnonzero(clean.right[:, tasks].max(1) > 0)
        tick(len(samples) - len(targets))
    size, l2 = np.zeros((2, len(samples), len(view.segments)), np.float32)
    adversarials: dict[int, Tensor] = {}
    for rows in batches(targets, setting.batch_size):
        x = view.pack(samples.batch(rows)).to(setting.device)
        streams = Streams.seeded(setting.seed, list(ids[rows]), attack)
        with seeded(setting.device, setting.seed, attack, ids[rows[0]]):
            x_adv = ATTACKS[attack](view, x, labels[rows].to(setting.device), threat, streams, **parameters).detach()
        view.check(x_adv, x, threat)
        size[rows], l2[rows] = view.distances(x_adv, x, "Linf").cpu().numpy(), view.distances(x_adv, x, "L2").cpu().numpy()
        adversarials.update(zip(rows.tolist(), x_adv.cpu(), strict=True))
        tick(len(rows))
    attack_passes = (view.passes.forward, view.passes.backward)

    parts = []
    for rows in batches(np.arange(len(samples)), setting.batch_size):
        x = view.pack(samples.batch(rows))
        x = torch.stack([adversarials.get(int(row), x[i]) for i, row in enumerate(rows)]).to(setting.device)
        with seeded(setting.device, setting.seed, attack, "fresh", ids[rows[0]]):
            parts.append(predict(view, x, labels[rows]))
        tick(len(rows))
    right, vote, probabilities = join(parts)
    vote_right = vote == labels.numpy()
    if setting.protocol == "sound":  # never right and attacked: wrong, whatever the lucky draw says
        for t in tasks:
            lucky = clean.right[:, t] == 0
            right[lucky, t] = 0
            vote_right[lucky, t] = False

    figures: dict[str, Any] = {
        "tasks": [
            task_figures(t, clean, right, vote_right, vote, probabilities, labels.numpy(), samples.distinct_labels[t])
            for t in range(labels.shape[1])
        ]
    }
    n = min(samples.distinct_labels[t] for t in tasks)
    for name in ("clean", "clean_vote", "robust", "robust_vote", "asr", "balanced_accuracy", "auc"):
        values = [figures["tasks"][t][name] for t in tasks]
        figures[name] = None if any(v is None for v in values) else float(np.mean(values))
    for name in ("clean", "robust"):
        figures[f"{name}_interval"] = list(statistics.wilson(figures[name], n))
    arrays: Arrays = {
        "ids": ids,
        "labels": labels.numpy(),
        "clean_right": clean.right,
        "clean_vote": clean.vote,
        "robust_right": right,
        "robust_vote": vote,
        "linf": size,
        "l2": l2,
    }
    for t, (before, after) in enumerate(zip(clean.probabilities, probabilities, strict=True)):
        arrays[f"clean_probabilities_{t}"], arrays[f"robust_probabilities_{t}"] = before, after
    cost = {
        "attack_forward": attack_passes[0],
        "attack_backward": attack_passes[1],
        "attack_forward_per_sample": attack_passes[0] / max(len(targets), 1),
        "attack_backward_per_sample": attack_passes[1] / max(len(targets), 1),
        "evaluation_forward": clean.passes[0] + view.passes.forward - attack_passes[0],
        "attacked_samples": len(targets),
        "nonfinite_gradients": view.nonfinite_gradients,
        "seconds": time.perf_counter() - start,
        "clean_seconds": clean.seconds,
    }
    return Outcome(figures, arrays, cost)


def task_figures(
    t: int,
    clean: Clean,
    right: NDArray[np.float32],
    vote_right: NDArray[np.bool_],
    vote: NDArray[np.int64],
    probabilities: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    distinct: int,
) -> dict[str, Any]:
    """Figures of task t over its labelled samples; intervals count distinct images, not repeats of the shorter set."""
    known = labels[:, t] >= 0
    y, before, after = labels[known, t], clean.right[known, t], right[known, t]
    n_classes = probabilities[t].shape[1]
    clean_rate, robust_rate = float(before.mean()), float(after.mean())
    return {
        "n": int(known.sum()),
        "n_distinct": distinct,
        "clean": clean_rate,
        "clean_interval": list(statistics.wilson(clean_rate, distinct)),
        "clean_vote": float((clean.vote[known, t] == y).mean()),
        "clean_balanced_accuracy": statistics.balanced_accuracy(before, y, n_classes),
        "clean_auc": statistics.auc(clean.probabilities[t][known], y),
        "trivial": statistics.trivial(before, clean.vote[known, t], y, n_classes),
        "robust": robust_rate,
        "robust_interval": list(statistics.wilson(robust_rate, distinct)),
        "robust_vote": float(vote_right[known, t].mean()),
        # chance that a prediction which was right is wrong after the attack, draws before and after being independent
        "asr": float((before * (1 - after)).sum() / before.sum()) if before.sum() > 0 else None,
        "balanced_accuracy": statistics.balanced_accuracy(after, y, n_classes),
        "auc": statistics.auc(probabilities[t][known], y),
        "most_predicted_share": float(np.bincount(vote[known, t], minlength=n_classes).max() / known.sum()),
    }


def predict(view: View, x: Tensor, labels: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64], list[NDArray[np.float32]]]:
    """Fraction right (B, T), majority vote (B, T) and mean softmax per task (B, C), over the view's draws."""
    counts: list[Tensor] = []
    sums: list[Tensor] = []
    for drawn in view.predictions(x):
        for t, logits in enumerate(drawn):
            hit, probability = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1), logits.softmax(1)
            if len(counts) <= t:
                counts.append(hit)
                sums.append(probability)
            else:
                counts[t] += hit
                sums[t] += probability
    y = labels.to(x.device)
    right = [count.gather(1, y[:, t : t + 1].clamp_min(0)).squeeze(1) * (y[:, t] >= 0) / view.draws for t, count in enumerate(counts)]
    vote = [count.argmax(1) for count in counts]
    return torch.stack(right, 1).cpu().numpy(), torch.stack(vote, 1).cpu().numpy(), [(s / view.draws).cpu().numpy() for s in sums]


def join(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.int64], list[NDArray[np.float32]]]],
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[NDArray[np.float32]]]:
    """Batches of `predict` into one."""
    right, vote, probabilities = zip(*parts, strict=True)
    return np.concatenate(right), np.concatenate(vote), [np.concatenate(task) for task in zip(*probabilities, strict=True)]


def batches(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Consecutive chunks of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@contextlib.contextmanager
def seeded(device: torch.device, *parts: object) -> Iterator[None]:
    """Seeds the victim's own randomness (dropout, noise) from the parts, and restores the global state afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(*parts))
        yield
