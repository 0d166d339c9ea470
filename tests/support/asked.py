"""One small network as a module, a function, and behind a server."""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import yaml

from robustbench_med import evaluate, load_data
from robustbench_med.api import Results

SIZE, N = 32, 12
TASKS = {"mri": 4, "xray": 3}
ASKED = {
    "square": {"queries": 40},
    "hopskipjump": {"steps": 1, "evaluations": 20, "initial": 20},
    "boundary": {"steps": 30, "initial": 20},
}
UNDER = {"boundary": {"norm": "L2", "eps": "5"}, "hopskipjump": {"eps": "0.35"}}
"""Another threat than the common one, where an attack needs it."""
COMMON = {
    "data": "phantoms",
    "size": SIZE,
    "limit": N,
    "eps": "40/255",
    "control": False,
    "challenge": False,
    "quiet": True,
}


class Plain(torch.nn.Module):
    """A convolution and a layer a modality, a head a task."""

    def __init__(self) -> None:
        super().__init__()
        self.mri, self.xray = (
            torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5, 4), torch.nn.ReLU(), torch.nn.Flatten())
            for _ in range(2)
        )
        self.heads = torch.nn.ModuleList(torch.nn.Linear(2 * 4 * 49, n) for n in (4, 3))

    def forward(self, mri: torch.Tensor, xray: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = torch.cat([self.mri(mri), self.xray(xray)], 1)
        return tuple(head(features) for head in self.heads)


@cache
def network() -> torch.nn.Module:
    """A network that is right about its images, each computed by itself: other batches round
    otherwise.
    """
    torch.manual_seed(0)
    net, data = Plain(), load_data("phantoms", size=SIZE).splits["test"]
    x, y = data.batch(range(N)), data.labels[:N]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        loss = sum(torch.nn.functional.cross_entropy(z, y[:, t]) for t, z in enumerate(net(*x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return OneByOne(net.eval())


class OneByOne(torch.nn.Module):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, mri: torch.Tensor, xray: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = [self.net(m[None], x[None]) for m, x in zip(mri, xray, strict=True)]
        return tuple(torch.cat(task) for task in zip(*rows, strict=True))


@torch.no_grad()
def scores(net: torch.nn.Module, *images: np.ndarray) -> list[np.ndarray]:
    return [z.numpy() for z in net(*(torch.from_numpy(np.array(m, np.float32)) for m in images))]


def served(net: torch.nn.Module) -> Callable[[dict[str, np.ndarray]], dict[str, list]]:
    names = load_data("phantoms", size=SIZE).tasks

    def predict(images: dict[str, np.ndarray]) -> dict[str, list]:
        scale = 255 if images["mri"].dtype == np.uint8 else 1
        found = scores(net, *(images[name] / np.float32(scale) for name in ("mri", "xray")))
        return {name: z.astype(float).tolist() for name, z in zip(names, found, strict=True)}

    return predict


def contract(folder: Path, **more: object) -> Path:
    names = load_data("phantoms", size=SIZE).tasks
    usual = {
        "name": "device",
        "version": "1",
        "images": {"mri": "images.mri", "xray": "images.xray"},
        "answers": {name: f"scores.{name}" for name in names},
        "timeout": 0.7,
    }
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(usual | more))
    return path


def attacked(model: object, out: Path, attack: str, **more: object) -> Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(
            model,
            attack=attack,
            attack_params=ASKED[attack],
            out=out,
            **(COMMON | UNDER.get(attack, {}) | more),
        )


def figure(results: Results) -> tuple[float, list[float]]:
    (record,) = results.records
    return record.figures.robust, [task.robust for task in record.figures.tasks]
