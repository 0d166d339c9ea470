"""The evaluation protocol: clean pass, attack, fresh draws, per-sample outcomes.

`release` retraces the authors' notebook: one draw, whatever the victim. `sound` asks what a single
use in the clinic would
see: a stochastic victim is found by trying, a sample counts with the fraction of K fresh draws that
    are right, samples that
are never right are not attacked, and the draws an attacker optimised on are never reported.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med import statistics
from robustbench_med.attacks import (
    Minimal,
    PassCount,
    Ray,
    Streams,
    Threat,
    View,
    attack_code,
    derive_seed,
    entry_of,
)
from robustbench_med.data import Samples
from robustbench_med.evaluation import examples
from robustbench_med.evaluation.batching import drawing_of, drawn, together
from robustbench_med.evaluation.figures import mean_losses, minimal_norm, target_rate, task_figures
from robustbench_med.evaluation.types import Arrays, Clean, Drawing, Method, Outcome, Setting, Tick


def clean_pass(
    victim: nn.Module,
    samples: Samples,
    setting: Setting,
    tick: Tick,
    *,
    stochastic: bool,
    drawing: Drawing | None = None,
) -> Clean:
    """Predictions on unperturbed samples.

    Args:
        stochastic: whether two passes may differ (`probes.examine`).
        drawing: what a prediction depends on besides its sample; None: as the victim's signature
            says.
    """
    start = time.perf_counter()
    drawing = drawing or drawing_of(victim, stochastic=stochastic)
    draws = setting.draws if stochastic and setting.protocol == "sound" else 1
    view = View(victim, [tuple(m.shape[1:]) for m in samples.batch([0])], draws=draws)  # type: ignore[misc]
    parts, ids = [], samples.ids
    for rows in together(np.arange(len(samples)), len(samples), setting, whole=drawing == "batch"):
        x = view.pack(samples.batch(rows)).to(setting.device)
        with drawn(view, drawing, setting, ids, rows, "clean"):
            parts.append(predict(view, x, samples.labels[rows]))
        tick(len(rows))
    right, vote, probabilities = join(parts)
    return Clean(
        stochastic,
        drawing,
        right,
        vote,
        probabilities,
        draws,
        (view.passes.forward, 0),
        time.perf_counter() - start,
    )


def attack_pass(
    victim: nn.Module,
    samples: Samples,
    clean: Clean,
    threat: Threat,
    method: Method,
    setting: Setting,
    tick: Tick,
) -> Outcome:
    """Attacks every sample that is ever right and measures it on fresh draws. `clean` is the clean
    pass under the same setting.
    """
    start = time.perf_counter()
    labels, ids, attack = samples.labels, samples.ids, method.name
    aims = labels if method.goals is None else method.goals
    shapes = [tuple(m.shape[1:]) for m in samples.batch([0])]
    view = View(victim, shapes, draws=clean.draws, batch_draws=setting.batch_draws)  # type: ignore[arg-type]
    sources = [(source.view(shapes, setting), source.drawing) for source in method.sources]
    compute = computation(method, threat, [view for view, _ in sources])
    tasks = list(threat.tasks)
    targets = np.arange(len(samples))
    if setting.protocol == "sound":
        targets = np.flatnonzero(clean.right[:, tasks].max(1) > 0)
        tick(len(samples) - len(targets))
    size, l2 = np.zeros((2, len(samples), len(view.segments)), np.float32)
    smallest = (
        np.zeros((len(samples), len(tasks)), np.float32)
        if entry_of(attack, method.engine).minimal is not None
        else None
    )
    reused, attacked = np.zeros(2), 0
    adversarials: dict[int, Tensor] = {}
    losses: list[NDArray[Any]] = []
    whole = is_whole(clean.drawing, method)
    how: Drawing = (
        "batch" if whole and clean.drawing == "sample" else clean.drawing
    )  # engines pass no generators on
    for rows in together(targets, len(samples), setting, whole=whole):
        x = view.pack(samples.batch(rows)).to(setting.device)
        streams = Streams.seeded(setting.seed, [ids[row] for row in rows], attack)
        view.losses = None
        with drawn(view, how, setting, ids, rows, attack, sources=sources):
            y = aims[rows].to(setting.device)
            found, spent = recall(method, rows, x)
            reused += spent
            if found is None:
                so_far = replace(view.passes)
                found = compute(view, x, y, threat, streams)
                remember(method, rows, found, view.passes, so_far)
        x_adv = found.detach() if isinstance(found, Tensor) else found.within(view, x, threat)
        view.check(x_adv, x, threat)
        aimed = np.isin(rows, targets)  # of a chunk that stays together the others are passengers
        hit = torch.from_numpy(aimed).to(x.device)
        if smallest is not None:
            smallest[rows[aimed]] = found.size.T[hit].cpu().numpy()
        for kind, distance in (("Linf", size), ("L2", l2)):
            distance[rows[aimed]] = view.distances(x_adv, x, kind)[hit].cpu().numpy()  # type: ignore[arg-type]
        adversarials.update(zip(rows[aimed].tolist(), x_adv[hit].cpu(), strict=True))
        if view.losses is not None:
            losses.append(view.losses[:, hit].cpu().numpy())
        attacked += len(rows)
        tick(int(aimed.sum()))
    searched = astuple(view.passes)
    attack_passes = np.rint(reused + searched).astype(int).tolist()

    parts = []
    for rows in together(
        np.arange(len(samples)), len(samples), setting, whole=clean.drawing == "batch"
    ):
        x = view.pack(samples.batch(rows))
        x = torch.stack([adversarials.get(int(row), x[i]) for i, row in enumerate(rows)]).to(
            setting.device
        )
        with drawn(view, clean.drawing, setting, ids, rows, attack, "fresh"):
            parts.append(predict(view, x, labels[rows]))
        tick(len(rows))
    right, vote, probabilities = join(parts)
    vote_right = vote == labels.numpy()
    if setting.protocol == "sound":  # never right and attacked: wrong, whatever the lucky draw says
        for t in tasks:
            lucky = clean.right[:, t] == 0
            right[lucky, t] = 0
            vote_right[lucky, t] = False

    groups = samples.label_groups
    figures: dict[str, Any] = {
        "tasks": [
            task_figures(
                t,
                clean,
                right,
                vote_right,
                vote,
                probabilities,
                labels.numpy(),
                samples.label_rows[:, t],
                groups[:, t],
            )
            for t in range(labels.shape[1])
        ]
    }
    if smallest is not None:
        figures["minimal_norm"] = minimal_norm(smallest, clean.right[:, tasks].mean(1), threat)
    if losses:
        figures["attack_loss"] = mean_losses(np.concatenate(losses, 1))
    if method.goals is not None:
        figures["target_rate"] = target_rate(method.goals.numpy(), vote, tasks)
    lost = [
        statistics.not_finite(clean.probabilities[t], probabilities[t])
        & (labels[:, t] >= 0).numpy()
        for t in tasks
    ]
    figures["not_finite"] = int(np.any(lost, 0).sum())
    for name in ("clean", "clean_vote", "robust", "robust_vote", "asr", "balanced_accuracy", "auc"):
        values = [figures["tasks"][t][name] for t in tasks]
        figures[name] = None if any(v is None for v in values) else float(np.mean(values))
    for name in ("clean", "robust"):
        n = min(figures["tasks"][t][f"n_effective_{name}"] for t in tasks)
        figures[f"{name}_interval"] = list(statistics.wilson(figures[name], n))
    arrays: Arrays = {
        "ids": np.array(ids),
        "labels": labels.numpy(),
        "clean_right": clean.right,
        "clean_vote": clean.vote,
        "robust_right": right,
        "robust_vote": vote,
        "linf": size,
        "l2": l2,
    }
    if smallest is not None:
        arrays["minimal_size"] = smallest
    for t, (before, after) in enumerate(zip(clean.probabilities, probabilities, strict=True)):
        arrays[f"clean_probabilities_{t}"], arrays[f"robust_probabilities_{t}"] = before, after
    for t in range(labels.shape[1]):
        arrays[f"image_{t}"], arrays[f"group_{t}"] = samples.label_rows[:, t], groups[:, t]
    arrays |= examples.keep(samples, adversarials, view, examples.rows(arrays, tasks))
    cost = {
        "attack_forward": attack_passes[0],
        "attack_backward": attack_passes[1],
        "attack_forward_per_sample": attack_passes[0] / max(attacked, 1),
        "attack_backward_per_sample": attack_passes[1] / max(attacked, 1),
        "evaluation_forward": clean.passes[0] + view.passes.forward - searched[0],
        "attacked_samples": len(targets),
        "nonfinite_gradients": view.nonfinite_gradients,
        "seconds": time.perf_counter() - start,
        "clean_seconds": clean.seconds,
    }
    return Outcome(figures, arrays, cost)


def is_whole(drawing: Drawing, method: Method) -> bool:
    """Whether an attack sees fixed chunks: predictions depend on the batch, or somebody else may
    draw for it as a whole.

    That is a source, another library, or an attack of the user's, which may ask global generators.
    """
    foreign = method.engine != "native" or attack_code(method.name, method.parameters) is not None
    return (
        drawing == "batch" or foreign or any(source.drawing == "batch" for source in method.sources)
    )


def computation(method: Method, threat: Threat, sources: Sequence[View]) -> Callable[..., Any]:
    """The attack with its arguments bound: `(view, x, y, threat, streams)` -> adversarials, or what
    comes before the radius (`Attack.before_radius`).
    """
    bound = dict(method.parameters) | ({"sources": sources} if sources else {})
    entry = entry_of(method.name, method.engine)
    return functools.partial(entry.before_radius or entry.function, **bound)


def recall(method: Method, rows: NDArray[np.int64], x: Tensor) -> tuple[Any, NDArray[np.float64]]:
    """What an earlier radius of the sweep found for these samples, None if there was none, and the
    forward and backward passes it took.
    """
    if method.found is None or not all(int(row) in method.found for row in rows):
        return None, np.zeros(2)
    parts, forward, backward = zip(*(method.found[int(row)] for row in rows), strict=True)
    return parts[0].join(parts, x), np.array([sum(forward), sum(backward)])


def remember(
    method: Method,
    rows: NDArray[np.int64],
    found: Minimal | Ray,
    after: PassCount,
    before: PassCount,
) -> None:
    """Keeps what was found for the other radii of the sweep, on the CPU, with each sample's share
    of the passes.
    """
    if method.found is not None:
        forward, backward = (
            (b - a) / len(rows) for a, b in zip(astuple(before), astuple(after), strict=True)
        )
        method.found.update(
            {row: (found.of(i), forward, backward) for i, row in enumerate(rows.tolist())}
        )


def single_draw(clean: Clean, method: Method) -> bool:
    """Whether a random victim is attacked with the gradient of one draw, which overstates its
    robustness.
    """
    return clean.stochastic and method.name != "noise" and method.parameters.get("eot", 1) == 1


GOALS = ("random", "least-likely")


def choose_goals(kind: str, clean: Clean, samples: Samples, seed: int) -> Tensor:
    """(n, T) classes for a targeted attack, -1 where a task has no label or the label is the goal.

    Args:
        kind: "random" (another class, drawn for each sample), "least-likely" (under the clean
            pass), or the number of a class.
    """
    labels, goals = samples.labels.numpy(), np.full(tuple(samples.labels.shape), -1)
    for t, probabilities in enumerate(clean.probabilities):
        classes = probabilities.shape[1]
        for i, (sample, y) in enumerate(zip(samples.ids, labels[:, t], strict=True)):
            if y < 0:
                continue
            if kind == "random":
                goals[i, t] = (
                    y + 1 + derive_seed(seed, "goal", sample, t) % (classes - 1)
                ) % classes
            elif kind == "least-likely":
                goals[i, t] = next(c for c in probabilities[i].argsort() if c != y)
            elif int(kind) < classes and int(kind) != y:
                goals[i, t] = int(kind)
    return torch.from_numpy(goals)


def predict(
    view: View, x: Tensor, labels: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[NDArray[np.float32]]]:
    """Fraction right (B, T), majority vote (B, T) and mean softmax per task (B, C), over the view's
    draws.

    A draw whose logits are not finite predicts no class (vote -1 where none does), and makes the
    sample's probabilities NaN.
    """
    counts: list[Tensor] = []
    sums: list[Tensor] = []
    for logits_of_tasks in view.predictions(x):
        for t, logits in enumerate(logits_of_tasks):
            finite = logits.isfinite().all(1, keepdim=True)
            hit = torch.zeros_like(logits).scatter_(
                1, logits.argmax(1, keepdim=True), finite.to(logits.dtype)
            )
            probability = torch.where(finite, logits, torch.nan).softmax(1)
            if len(counts) <= t:
                counts.append(hit)
                sums.append(probability)
            else:
                counts[t] += hit
                sums[t] += probability
    y = labels.to(x.device)
    right = [
        count.gather(1, y[:, t : t + 1].clamp_min(0)).squeeze(1) * (y[:, t] >= 0) / view.draws
        for t, count in enumerate(counts)
    ]
    vote = [torch.where(count.any(1), count.argmax(1), -1) for count in counts]
    return (
        torch.stack(right, 1).cpu().numpy(),
        torch.stack(vote, 1).cpu().numpy(),
        [(s / view.draws).cpu().numpy() for s in sums],
    )


def join(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.int64], list[NDArray[np.float32]]]],
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[NDArray[np.float32]]]:
    """Batches of `predict` into one."""
    right, vote, probabilities = zip(*parts, strict=True)
    return (
        np.concatenate(right),
        np.concatenate(vote),
        [np.concatenate(task) for task in zip(*probabilities, strict=True)],
    )
