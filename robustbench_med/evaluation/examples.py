"""Which samples of a cell are worth showing, and their images before and after the attack: what
galleries are drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import View
from robustbench_med.data import Samples

PER_RULE = 4
MAX_BYTES = 400_000  # of one record's example images, before compression


def rows(arrays: Mapping[str, NDArray[Any]], tasks: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    """Rows by rule: `first` n, and `worst` n: whose true classes lost most probability, summed over
    the attacked tasks.
    """
    labels, lost = arrays["labels"], np.zeros(len(arrays["labels"]))
    for t in tasks:
        y = labels[:, t : t + 1].clip(0)
        before, after = (
            np.nan_to_num(np.take_along_axis(arrays[f"{when}_probabilities_{t}"], y, 1)[:, 0])
            for when in ("clean", "robust")
        )
        lost += np.where(labels[:, t] >= 0, before - after, 0)
    order = np.argsort(-lost, kind="stable")
    return {"first": np.arange(min(PER_RULE, len(lost))), "worst": order[:PER_RULE]}


def keep(
    samples: Samples,
    adversarials: Mapping[int, Tensor],
    view: View,
    by_rule: Mapping[str, NDArray[np.int64]],
) -> dict[str, NDArray[Any]]:
    """Images before (uint8) and after (float16) the attack; fewer of each rule, but one, where they
    would take too much room.

    Args:
        adversarials: flat adversarials (D,) by row; a row that is missing was not attacked.
        by_rule: rows to show, `rows` of the outcomes.

    Returns:
        `examples` (k,) rows, `examples_rule` (k,), and for each modality m `examples_clean_m`,
        `examples_adversarial_m` (k, C, H, W).
    """
    n = max(1, MAX_BYTES // (3 * view.dim * len(by_rule)))
    few = {rule: indices[:n] for rule, indices in by_rule.items()}
    index = np.concatenate(list(few.values()))
    clean = samples.batch(index)
    packed = view.pack(clean)
    attacked = view.unpack(
        torch.stack([adversarials.get(int(row), packed[i]) for i, row in enumerate(index)])
    )
    arrays: dict[str, NDArray[Any]] = {
        "examples": index,
        "examples_rule": np.repeat(list(few), [len(i) for i in few.values()]),
    }
    for m, (before, after) in enumerate(zip(clean, attacked, strict=True)):
        arrays[f"examples_clean_{m}"] = (before * 255).round().to(torch.uint8).numpy()
        arrays[f"examples_adversarial_{m}"] = after.half().numpy()
    return arrays
