"""Files of models of the user's own."""

import textwrap
from pathlib import Path

import torch
from torch import Tensor, nn

from robustbench_med.models import registry
from support.cli import SMALL, medrobust

NET = """
import sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, class_counts):
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()) for c in channels)
        self.heads = nn.ModuleList(nn.Linear(128 * len(channels), n) for n in class_counts)
        self.gain = nn.Parameter(torch.zeros(1))

    def logits(self, *m):
        f = torch.cat([e(x) for e, x in zip(self.encoders, m)], 1)
        return tuple(h(f) for h in self.heads)

    def forward(self, *m):
{forward}

def build(channels, class_counts):
{build}
"""


PLAIN = "return self.logits(*m)"
KILLED = """
import os, traceback
from pathlib import Path
attacked = any(frame.name == "attack_pass" for frame in traceback.extract_stack())
if attacked and any(x.requires_grad for x in m):
    asked = Path(os.environ["DEATHS"])
    if asked.exists() and (left := int(asked.read_text())):
        asked.write_text(str(left - 1))
        os.kill(os.getpid(), 9)
return self.logits(*m)
"""
"""The forward of a model that kills its process during an attack, as often as a file says."""


def written(
    folder: Path,
    forward: str = PLAIN,
    build: str = "return Net(channels, class_counts)",
    name: str = "model.py",
) -> str:
    """A file with a small network whose forward is these lines, as `--model` takes it."""
    indented = {
        "forward": textwrap.indent(forward, " " * 8),
        "build": textwrap.indent(build, " " * 4),
    }
    (folder / name).write_text(
        NET.replace("{forward}", indented["forward"]).replace("{build}", indented["build"])
    )
    return f"{folder / name}:build"


def built(model: str, channels: tuple[int, ...] = (1, 1)) -> nn.Module:
    return registry.build(model, channels, (4, 3), {}, image_size=32)


def run(model: str, out: Path, *more: object, check: int = 0, attack: str = "fgsm", limit: int = 5):
    arguments = [
        "--attack",
        attack,
        "--no-control",
        "--limit",
        limit,
        "--batch-size",
        4,
        *SMALL,
        "--out",
        out,
    ]
    return medrobust("run", "--model", model, *arguments, *more, check=check)


def images(n: int, channels: tuple[int, ...] = (1, 1)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(n, c, 32, 32, generator=generator) for c in channels]
