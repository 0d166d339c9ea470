"""Trains the networks beneath the victims, each once, in seconds."""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robustbench_med import load_data
from robustbench_med.data import Dataset, Samples
from robustbench_med.paths import home, writable_folder, write_atomically
from support.broken.networks import BASES, SIDE, Net

STEPS, BATCH, RATE = 600, 64, 2e-3
EPS, ATTACK_STEPS = 4 / 255, 4
"""Of adversarial training."""


def pairing(name: str, data_root: Path) -> Dataset:
    """A pairing at 28 pixels."""
    return load_data(name, size=SIDE, data_root=data_root, accept_unverified=True)


def network(base: str, data: Dataset) -> Net:
    """An untrained network for a pairing, its weights from its seed."""
    torch.manual_seed(BASES[base].seed)
    return BASES[base].build(data.channels, data.class_counts)


def trained(base: str, data: Dataset) -> dict[str, Tensor]:
    """The weights of a base network, from `$MEDROBUST_HOME` where they lie from before."""
    name = f"{base} on {data.label}".replace(" ", "-")
    path = home() / "broken" / f"{name}.safetensors"
    if not path.is_file():
        writable_folder(path.parent)
        net = network(base, data)
        fit(net, data.splits["train"], adversarial=BASES[base].adversarial)
        write_atomically(path, partial(save_file, net.state_dict()))
    return load_file(path)


def fit(net: Net, samples: Samples, *, adversarial: bool) -> None:
    """Adam on cross-entropy whose classes weigh alike; an adversarial one sees images moved within
    EPS, after a third of the steps on clean ones.
    """
    torch.manual_seed(net.n_modalities)
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    weights = [
        len(column) / (column.unique().numel() * column.bincount().float())
        for column in samples.labels.T
    ]
    for step in range(STEPS):
        rows = torch.randint(len(samples), (BATCH,)).tolist()
        x, y = samples.batch(rows), samples.labels[rows]
        if adversarial and step >= STEPS // 3:
            x = moved(net.eval(), x, y)
        net.train()
        logits = net(*x)
        loss = sum(
            F.cross_entropy(z, y[:, t], weights[t], label_smoothing=0.05)
            for t, z in enumerate(logits)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval().requires_grad_(False)


def moved(net: nn.Module, x: list[Tensor], y: Tensor) -> list[Tensor]:
    """Images moved by PGD within EPS."""
    deltas = [torch.empty_like(m).uniform_(-EPS, EPS) for m in x]
    for _ in range(ATTACK_STEPS):
        leaves = [(m + d).clamp(0, 1).requires_grad_() for m, d in zip(x, deltas, strict=True)]
        loss = sum(F.cross_entropy(z, y[:, t]) for t, z in enumerate(net(*leaves)))
        gradients = torch.autograd.grad(loss, leaves)
        deltas = [
            (d + EPS / 2 * g.sign()).clamp(-EPS, EPS)
            for d, g in zip(deltas, gradients, strict=True)
        ]
    return [(m + d).clamp(0, 1) for m, d in zip(x, deltas, strict=True)]
