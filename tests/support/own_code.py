"""Attacks, losses, defences and models of the user's own."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from robustbench_med import evaluate
from support.files import ROOT

SHORT = [
    "--size",
    "32",
    "--recipe",
    "steps=3",
    "--recipe",
    "batch_size=8",
    "--recipe",
    "lr=0.05",
    "--limit",
    "6",
]


SMALL = {
    "size": 32,
    "recipe": {"steps": 3, "batch_size": 8, "lr": 0.05},
    "limit": 6,
    "eps": "64/255",
    "quiet": True,
}


MODEL = """
import torch
import helper

class Net(torch.nn.Module):
    def __init__(self, channels, class_counts):
        super().__init__()
        self.heads = torch.nn.ModuleList(torch.nn.Linear(64 * sum(channels), n) for n in class_counts)
    def forward(self, *xs):
        return tuple(head(helper.features(xs)) for head in self.heads)

def build(channels, class_counts):
    return Net(channels, class_counts)
"""


HELPER = """
import torch

def features(xs):
    return torch.cat([torch.nn.functional.adaptive_avg_pool2d(x, 8).flatten(1) for x in xs], 1)
"""


IDENTITY = "def mine(view, x, y, threat, streams):\n    return x\n"


FGSM = (
    "def mine(view, x, y, threat, streams):\n"
    "    gradient = view.gradient(x, y, threat).direction\n"
    "    return view.project(x + view.steepest(gradient, threat), x, threat)\n"
)


REGISTER = "from robustbench_med.attacks import ATTACKS\nATTACKS['mine'] = mine\n"


DEFENSE = """
import torch
from robustbench_med import register_defense

class Contrast(torch.nn.Module):
    stochastic = False
    def __init__(self, *, strength: float = 0.2) -> None:
        super().__init__()
        self.strength = strength
    def forward(self, x):
        return x + self.strength * (0.5 - x)

register_defense("contrast", Contrast)
"""


OBJECTIVE = """
from dataclasses import dataclass
from robustbench_med.objectives import PGDAT, SCHEMES

@dataclass
class Halved(PGDAT):
    steps: int = 1
    def loss(self, victim, x, perturbed, y):
        return 0.5 * super().loss(victim, x, perturbed, y)

SCHEMES["halved"] = Halved
"""


def write_own(folder: Path) -> None:
    for name, text in (
        ("attack", FGSM + REGISTER),
        ("defense", DEFENSE),
        ("objective", OBJECTIVE),
        ("model", MODEL),
        ("helper", HELPER),
    ):
        (folder / f"{name}.py").write_text(text)


def tiny(folder: Path) -> list[object]:
    """Options of a small quick victim: a linear model of the user's own, with a module beside
    it.
    """
    write_own(folder)
    return ["--model", f"{folder / 'model.py'}:build", *SHORT]


def measured(folder: Path, attack: str, **given: Any) -> dict[str, Any]:
    """The record of an attack on that victim."""
    write_own(folder)
    found = evaluate(
        f"{folder / 'model.py'}:build",
        attack,
        out=folder / "o",
        control=False,
        **{**SMALL, **given},
    )
    (record,) = found.records
    return record


def records(out: Path) -> dict[str, dict[str, Any]]:
    """The records of a folder, by hash."""
    found = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    return {record["hash"]: record for record in found}


def of(attack: str, out: Path) -> list[dict[str, Any]]:
    return [
        record for record in records(out).values() if record["spec"]["attack"]["name"] == attack
    ]


FORKED = """
import json, os, sys, tempfile
from robustbench_med.cli import program as cli
from robustbench_med.models import encoders  # MONAI takes seconds to import, here once for all
from robustbench_med.reports import write
from robustbench_med.runs import run as runner
from support.short import shorten, unsynced
shorten(), unsynced()
said = []
for arguments in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            sys.argv = arguments
            cli.main()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        errors.seek(0)
        said.append([os.waitstatus_to_exitcode(status), errors.read()])
print("SAID", json.dumps(said))
"""


def again(commands: list[str], tmp_path: Path, home: Path, *more: object) -> list[str]:
    """Runs commands as they stand, each in a process that knows of none before, in another folder;
    what they said.
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            FORKED,
            json.dumps([[*shlex.split(command), *map(str, more)] for command in commands]),
        ],
        cwd=elsewhere,
        env=os.environ
        | {"MEDROBUST_HOME": str(home), "COLUMNS": "400", "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.rpartition("SAID ")[2])
    for code, text in said:
        assert code == 0, text
    return [text for _, text in said]
