"""A universal perturbation in an evaluation: made on one part of the samples, judged on the other.

Samples are parted by patient, and each part is judged under the perturbation that was made on the
other: all samples are judged, none under a perturbation that has seen its patient.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from robustbench_med.attacks import RefusedError, derive_seed
from robustbench_med.attacks.universal import make
from robustbench_med.data import Samples
from robustbench_med.evaluation.batching import batches, drawn
from robustbench_med.evaluation.returned import keep_targets
from robustbench_med.evaluation.types import Attacked, AttackPass, Method
from robustbench_med.naming import NORMS, OWN_THREAT

REVISION = 1
NAME = "universal"


def is_universal(method: Method) -> bool:
    """Whether one perturbation is for all samples."""
    return method.engine == OWN_THREAT and method.name == NAME


def parts_of(samples: Samples, seed: int) -> NDArray[np.int64]:
    """(n,) 0 or 1: halves of the samples that share no patient and no image.

    Raises:
        RefusedError: all samples hang together.
    """
    n, groups = len(samples), samples.label_groups
    shared = [np.unique(column, return_inverse=True)[1] for column in groups.T]
    first = n + np.cumsum([0, *(int(column.max()) + 1 for column in shared)])
    nodes = np.concatenate([column + start for column, start in zip(shared, first, strict=False)])
    rows = np.tile(np.arange(n), len(shared))
    graph = coo_array((np.ones(len(rows)), (rows, nodes)), shape=(int(first[-1]),) * 2)
    _, component = connected_components(graph, directed=False)
    component = component[:n]
    names = {int(c): samples.ids[int(np.argmax(component == c))] for c in np.unique(component)}
    order = sorted(names, key=lambda c: derive_seed(seed, NAME, "part", names[c]))
    parts, sizes = np.zeros(n, np.int64), [0, 0]
    for c in order:
        part = int(sizes[1] < sizes[0])
        parts[component == c] = part
        sizes[part] += int((component == c).sum())
    if min(sizes) == 0:
        raise RefusedError(
            "a universal perturbation is made on some patients and judged on others, and all"
            f" {n} samples here are of one (or share images with one another)"
        )
    return parts


def attack_parts(case: AttackPass, targets: NDArray[np.int64]) -> Attacked:
    """Makes both perturbations and gives each target that of the other part.

    Raises:
        RefusedError: one part has targets and the other none, so that nothing is there to make
            the perturbation on.
    """
    view, n = case.view, len(case.samples)
    parts = parts_of(case.samples, case.setting.seed)
    sizes = {norm: np.zeros((n, len(view.segments)), np.float32) for norm in NORMS}
    attacked = Attacked(sizes, None, parts=parts)
    begun = view.passes.forward, view.passes.backward
    for part in (0, 1):
        judged, making = targets[parts[targets] == part], targets[parts[targets] != part]
        if not len(judged):
            continue
        if not len(making):
            raise RefusedError(
                "a universal perturbation is made on one half of the patients and judged on the"
                f" other, and in one half all {int((parts != part).sum())} samples are wrong before"
                " any attack: there is nothing to make it on; take more samples (--limit)"
            )
        source = Making(case, making, part)
        delta = make(view, source.batches, case.threat, **case.method.parameters)
        for rows in batches(judged, case.setting.batch_size):
            x = view.pack(case.samples.batch(rows)).to(case.setting.device)
            moved = view.project(x + delta.to(x), x, case.threat)
            keep_targets(case, attacked, rows, np.ones(len(rows), bool), x, moved)
    attacked.searched.forward = view.passes.forward - begun[0]
    attacked.searched.backward = view.passes.backward - begun[1]
    return attacked


class Making:
    """The samples that the perturbation of a part is made on, all of the other part."""

    def __init__(self, case: AttackPass, rows: NDArray[np.int64], part: int) -> None:
        self.case, self.rows, self.part = case, rows, part

    def batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """x (B, D) and y (B, T) of one batch after another; what a victim draws differs from step
        to step.
        """
        case, setting = self.case, self.case.setting
        drawing = case.clean.drawing
        size = setting.chunk if drawing == "batch" else setting.batch_size
        for rows in batches(self.rows, size):
            x = case.view.pack(case.samples.batch(rows)).to(setting.device)
            y = case.samples.labels[rows].to(setting.device)
            purpose = (NAME, "part", self.part, "step", step, case.samples.ids[int(rows[0])])
            with drawn(case.view, drawing, setting, case.samples.ids, rows, *purpose):
                yield x, y
