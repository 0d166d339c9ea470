"""Samples and evaluations of small victims."""

from typing import Any

import numpy as np
import torch
from torch import nn

from robustbench_med.attacks import Threat, complete
from robustbench_med.data import Component, Samples
from robustbench_med.evaluation.probes import examine
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method, Setting, TransferSource
from support.victims import TwoHeads

CPU = torch.device("cpu")
SMALL_PAIRED: dict[str, Any] = {
    "data": "phantoms-paired",
    "model": "late",
    "model_params": {"width": 4},
    "recipe": {"steps": 10},
    "size": 16,
    "limit": 12,
}
"""A small run on paired patients."""


def samples_of(*images: np.ndarray, labels: np.ndarray) -> Samples:
    n = len(labels)
    ids = tuple(f"s{i:03d}" for i in range(n))
    component = Component(images, labels, ids, ids)
    return Samples((component,), np.arange(n)[:, None], tuple(i.shape[1] for i in images))


def two_head_samples(n: int = 40) -> Samples:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (n, *shape), dtype=np.uint8) for shape in TwoHeads.shapes]
    victim = TwoHeads().eval()
    logits = victim(*(torch.from_numpy(i).float() / 255 for i in images))
    labels = np.stack([z.argmax(1).numpy() for z in logits], 1)
    labels[::5, 0] = 1 - labels[::5, 0]  # a fifth is wrong at task 0 to begin with
    return samples_of(*images, labels=labels)


def setting(batch_size: int = 16, protocol: str = "sound", draws: int = 16) -> Setting:
    return Setting(protocol, draws, 0, CPU, batch_size)  # type: ignore[arg-type]


def evaluate(victim: nn.Module, samples: Samples, threat: Threat, name: str, how: Setting, **given):
    nature = examine(victim, samples, CPU, 0)
    stochastic = nature.stochastic
    clean = clean_pass(
        victim, samples, how, lambda n: None, stochastic=stochastic, drawing=nature.drawing
    )
    given = (
        {"eot": 4} if stochastic and name != "noise" and how.protocol == "sound" else {}
    ) | given
    known = complete(name, {})
    given = {key: value for key, value in given.items() if key in known}
    sources = (
        [TransferSource(victim, nature.stochastic, nature.drawing)] if name == "transfer" else []
    )
    return clean, attack_pass(
        victim,
        samples,
        clean,
        threat,
        Method(name, complete(name, given), sources=sources),
        how,
        lambda n: None,
    )
