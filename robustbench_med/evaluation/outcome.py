"""What is kept of an attack pass: outcomes by sample, and its cost."""

from __future__ import annotations

import time
from dataclasses import astuple

import numpy as np

from robustbench_med.evaluation import examples, querying
from robustbench_med.evaluation.types import Arrays, AttackCost, Attacked, AttackPass, Judged


def outcome_arrays(case: AttackPass, attacked: Attacked, fresh: Judged) -> Arrays:
    """What is kept of every sample (n rows each), and example images."""
    samples, clean = case.samples, case.clean
    arrays: Arrays = {
        "ids": np.array(samples.ids),
        "labels": samples.labels.numpy(),
        "clean_right": clean.right,
        "clean_vote": clean.vote,
        "robust_right": fresh.right,
        "robust_vote": fresh.vote,
    }
    if case.threat.each:
        arrays["radii"] = np.array(case.threat.each)
    arrays |= {norm.lower(): sizes for norm, sizes in attacked.distances.items()}
    if clean.rejected is not None and fresh.rejected is not None:
        arrays |= {"clean_rejected": clean.rejected, "robust_rejected": fresh.rejected}
    if attacked.parts is not None:
        arrays["part"] = attacked.parts
    if attacked.smallest is not None:
        arrays["minimal_size"] = attacked.smallest
    arrays |= querying.arrays_of(attacked.queries)
    for t, before in enumerate(clean.probabilities):
        arrays[f"clean_probabilities_{t}"] = before
        arrays[f"robust_probabilities_{t}"] = fresh.probabilities[t]
    rows, groups = samples.label_rows, samples.label_groups
    for t in range(rows.shape[1]):
        arrays[f"image_{t}"], arrays[f"group_{t}"] = rows[:, t], groups[:, t]
    shown = examples.rows(arrays, case.threat.tasks)
    return arrays | examples.keep(samples, attacked.adversarials, case.view, shown)


def attack_cost(
    case: AttackPass, attacked: Attacked, *, n_targets: int, started: float
) -> AttackCost:
    """Passes and seconds of a pass; `started` by `time.perf_counter`."""
    spent = attacked.reused + astuple(attacked.searched)
    forward, backward = np.rint(spent).astype(int).tolist()
    judging = case.view.passes.forward - attacked.searched.forward
    return {
        "attack_forward": forward,
        "attack_backward": backward,
        "attack_forward_per_sample": forward / max(attacked.computed, 1),
        "attack_backward_per_sample": backward / max(attacked.computed, 1),
        "evaluation_forward": case.clean.passes[0] + judging,
        "attacked_samples": n_targets,
        "nonfinite_gradients": case.view.nonfinite_gradients,
        "seconds": time.perf_counter() - started,
        "clean_seconds": case.clean.seconds,
    }
