"""Whether a prediction is that of the image alone: not of its neighbours, of the number of the
call, of a gradient being asked for, or of a hash of the pixels; at clean images and adversarials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import Threat, View
from robustbench_med.evaluation.batching import drawn
from robustbench_med.evaluation.gradients import Probing
from robustbench_med.evaluation.probes import KERNELS

TINY = 1e-6
"""A move of every pixel that float32 can hold and no image shows."""
LEVEL = 1 / 255


@dataclass(frozen=True)
class Stability:
    """What other passes said of the same images.

    Attributes:
        n: images that were tried.
        changed: in words what changed a prediction -> of how many images.
        jump: change of the logits, as a share of their range, where a pixel moves by a grey level,
            or all by next to nothing; median over images, of the task where it is largest.
    """

    n: int
    changed: Mapping[str, int]
    jump: float


def examine(probing: Probing, judged: Sequence[NDArray[np.float32]] | None = None) -> Stability:
    """Asks a deterministic victim again about a few samples, clean and moved.

    Args:
        judged: mean softmax (n, classes) of each task for all moved samples, as they were judged;
            None: they were not.
    """
    view = probing.view()
    x, moved = probing.pair(view, probing.rows)
    images = torch.cat((x, moved)) if probing.moved else x
    tasks = probing.threat.tasks
    with (
        drawn(view, "none", probing.setting, probing.samples.ids, probing.rows, "stability"),
        torch.no_grad(),
    ):
        together = answers(view, images, tasks)
        jump = largest_jump(view, images, together, probing.threat)
        alone = [answers(view, image[None], tasks) for image in images]
        parts = [answers(view, part, tasks) for part in images.split(len(x))]
        passes = {
            "when it stands alone": joined(alone),
            "with other neighbours": joined(parts),
            "when it is asked again": answers(view, images, tasks),
        }
        with torch.enable_grad():
            asked = answers(view, images.clone().requires_grad_(), tasks)
        passes["when a gradient is asked for"] = [z.detach() for z in asked]
    changed = {what: int(differ(together, other).sum()) for what, other in passes.items()}
    before = [probing.clean.vote[probing.rows][:, t] for t in tasks]
    changed["after the attack"] = int(otherwise([z[: len(x)] for z in together], before).sum())
    if judged is not None and probing.moved:
        votes = [judged[t][probing.rows].argmax(1) for t in tasks]
        changed["where it was judged"] = int(
            otherwise([z[-len(x) :] for z in together], votes).sum()
        )
    return Stability(len(images), {what: n for what, n in changed.items() if n}, jump)


def answers(view: View, x: Tensor, tasks: Sequence[int]) -> list[Tensor]:
    """Logits of the attacked tasks, (B, classes) each."""
    logits = view.logits(x)
    return [logits[t][:, : view.class_counts[t]] for t in tasks]


def joined(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The logits of several batches as those of one."""
    return [torch.cat(task) for task in zip(*parts, strict=True)]


def differ(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """(B,) whether logits of an image differ by more than other kernels round."""
    found = []
    for a, b in zip(one, other, strict=True):
        a, b = a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0)
        found.append((a - b).abs().amax(1) > KERNELS * torch.maximum(a.abs(), b.abs()).max())
    return torch.stack(found).any(0)


def otherwise(logits: Sequence[Tensor], votes: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """(B,) whether another class was voted for, by more than other kernels round."""
    found = []
    for z, vote in zip(logits, votes, strict=True):
        y = torch.from_numpy(vote).to(z.device)
        lead = z.amax(1) - z.gather(1, y.clamp_min(0)[:, None]).squeeze(1)
        found.append(((y >= 0) & (lead > 2 * KERNELS * z.abs().amax())).cpu().numpy())
    return np.any(found, axis=0)


def largest_jump(view: View, x: Tensor, base: Sequence[Tensor], threat: Threat) -> float:
    """See `Stability.jump`; what a sample misses stays missing."""
    inwards = torch.where(x > 0.5, -1.0, 1.0)
    pixel = torch.zeros_like(x)
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(0, x.shape[1], (len(x), 1), generator=generator).to(x.device)
    pixel.scatter_(1, columns, 1.0)
    largest = 0.0
    for moved in (x + TINY * inwards, x + LEVEL * inwards * pixel):
        moved = view.missing_as_in(x, moved, threat.optional)
        for one, other in zip(base, answers(view, moved, threat.tasks), strict=True):
            span = (one.amax(1) - one.amin(1)).median().clamp_min(1e-30)
            change = ((one - other).abs().amax(1) / span).median()
            largest = max(largest, float(change.nan_to_num(0, 0, 0)))
    return largest
