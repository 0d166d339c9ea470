"""The victims of entries: their weights, and a cell computed again."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from robustbench_med.data import Dataset, Files
from robustbench_med.data.fetch import download
from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError, nearest
from robustbench_med.models.registry import MODELS, ZOO
from robustbench_med.naming import is_own
from robustbench_med.parsing import validate
from robustbench_med.paths import home
from robustbench_med.runs import victims
from robustbench_med.runs.job import Job
from robustbench_med.runs.run import run
from robustbench_med.runs.session import load_one
from robustbench_med.runs.spec import RunSpec, VictimsSpec
from robustbench_med.store import entry_files
from robustbench_med.store.entry import AttackResult, Entry, ThreatResult, Weights
from robustbench_med.store.record import CONTROL

SHIPPED = "robustbench_med.results"
"""The entries that come with the package."""
CHEAP = ("fgsm", "bim", "pgd", "mim", "apgd", "apgd-t", "cw", "ddn", "fmn")
"""Attacks that are computed again, the first of an entry; else its noise control."""
TOLERANCE = 0.02
"""How far a figure computed again may lie from the entry's: kernels of other machines differ."""


def shipped() -> list[str]:
    """Ids of the entries that come with the package."""
    names = [file.name for file in files(SHIPPED).iterdir()]
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def is_entry(name: str) -> bool:
    """Whether a name is that of an entry rather than of a model."""
    own = name in MODELS or is_own(name)
    return name.endswith(".json") or (not own and name in shipped())


def find(name: str) -> Entry:
    """The entry of an id that comes with the package, or of a file.

    Raises:
        UserError: there is none.
    """
    if name.endswith(".json"):
        return entry_files.read_one(Path(name))
    if name not in shipped():
        raise UserError(f"no entry {name!r}; {nearest(name, shipped())}")
    with as_file(files(SHIPPED) / f"{name}.json") as path:
        return entry_files.read_one(path)


@contextlib.contextmanager
def weights_of(entry: Entry, files: Files) -> Iterator[Path]:
    """The weights of an entry's first training, while this lasts: of the zoo, the cache, or from
    where the entry says they are. They lie alone: their sidecar may be of another training.

    Raises:
        UserError: they are nowhere at hand, or are others; it names the command that trains them.
    """
    wanted = entry.victim.weights[0]
    path = _kept(wanted) or _fetched(entry, wanted, files)
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copyfile(path, Path(folder) / path.name))


def _fetched(entry: Entry, wanted: Weights, files: Files) -> Path:
    """Weights from where an entry says they are."""
    url = wanted.url or entry.about.urls.get(wanted.sha256[:12])
    if url is None:
        raise UserError(
            f"the weights of {entry.id} are not at hand; the command that trains them:"
            f" {training_command(entry, wanted)}"
        )
    target = (
        home()
        / "entries"
        / f"{wanted.sha256[:16]}{Path(urlparse(url).path).suffix or '.safetensors'}"
    )
    if not (target.is_file() and _sha256(target) == wanted.sha256):
        download(url, target, wanted.sha256, files, algorithm="sha256")
    return target


def weights_at_hand(entry: Entry) -> bool:
    """Whether the weights of its first training lie in the zoo or the cache, or it says where they
    are.
    """
    wanted = entry.victim.weights[0]
    return bool(wanted.url or entry.about.urls.get(wanted.sha256[:12]) or _kept(wanted))


def _kept(wanted: Weights) -> Path | None:
    name = Path(wanted.file).name
    with as_file(ZOO) as zoo:
        for path in (zoo / name, home() / "checkpoints" / name):
            if path.is_file() and _sha256(path) == wanted.sha256:
                return path
    return None


def training_command(entry: Entry, weights: Weights) -> str:
    """The command that trains a victim of an entry, on its first attack's way."""
    attack = entry.threats[0].attacks[0]
    seed = "" if weights.train_seed is None else f" (training seed {weights.train_seed})"
    return f"{attack.command}{seed}"


def victim_options(entry: Entry) -> dict[str, Any]:
    """Model, defence and data of an entry, by field of a specification.

    Raises:
        UserError: its model is none of medrobust's: its code is not in the entry.
    """
    victim = entry.victim
    if victim.architecture not in MODELS:
        raise UserError(
            f"the model {victim.architecture} of {entry.id} is none of medrobust's;"
            f" {entry.about.paper.link if entry.about.paper else 'its authors'} may have its code"
        )
    return {
        "model": victim.architecture,
        "defense": "+".join(layer.name for layer in victim.defense) or "none",
        "defense_params": {
            f"{layer.name}.{key}": value
            for layer in victim.defense
            for key, value in layer.params.items()
        },
        "data": entry.data.name,
        "preset": victim.preset,
        "model_params": dict(victim.params),
        "size": entry.data.size,
    }


def load(
    name: str, data: Dataset | None, device: torch.device, job: Job, *, more: bool
) -> nn.Module:
    """The victim of an entry's first training.

    Args:
        name: id of a shipped entry, or an entry's file.
        data: the data set that it is for; None: the entry's.
        more: whether something else was said of the victim, which is refused.
    """
    if more:
        raise UserError(
            f"load_model: the entry {name} says what its victim is; leave out params, recipe,"
            " defense and checkpoint"
        )
    entry = find(name)
    if data is None:
        victim, size = entry.victim, entry.data.size
        data = load_one(entry.data.name, victim.preset, size, Preprocessing(), job)
    access = Files(say=job.display.say, progress=job.display.lazy_bar)
    with weights_of(entry, access) as weights:
        asked = {**victim_options(entry), "checkpoint": weights}
        spec = validate(VictimsSpec, asked, f"the entry {name}")
        return victims.load_module(spec, data, 0, device, job.display)


def recompute(entry: Entry, job: Job) -> str:
    """Computes a cell of an entry again: the quickest of its attacks, at its first threat.

    Returns:
        A sentence on what was found.

    Raises:
        UserError: its data or weights are not at hand, or the figure is another.
    """
    threat = entry.threats[0]
    cheap = [attack for attack in threat.attacks if attack.name in CHEAP]
    attack = min(cheap, key=lambda one: CHEAP.index(one.name), default=None)
    told = threat.noise if attack is None else attack.robust
    if told is None:
        raise UserError(f"{entry.id} has neither a quick attack nor noise to compute again")
    access = Files(job.data_root, job.accept_unverified, say=job.display.say)
    with weights_of(entry, access) as weights, tempfile.TemporaryDirectory() as folder:
        spec = RunSpec.model_validate(_cell(entry, threat, attack, weights))
        (record,) = run(spec, replace(job, out=Path(folder)))
    found, name = record.figures.robust, CONTROL if attack is None else attack.label
    said = f"{entry.id}: {name} at {threat.eps} gives {found:.4f}, the entry says {told:.4f}"
    if abs(found - told) > TOLERANCE or abs(record.figures.clean - threat.clean) > TOLERANCE:
        raise UserError(
            f"{said}; clean {record.figures.clean:.4f}, it says {threat.clean:.4f}: more than"
            f" {100 * TOLERANCE:.0f} points apart"
        )
    return said


def _cell(
    entry: Entry, threat: ThreatResult, attack: AttackResult | None, weights: Path
) -> dict[str, Any]:
    """The specification of one cell of an entry."""
    params = {} if attack is None else {f"{attack.name}.{k}": v for k, v in attack.params.items()}
    return {
        **victim_options(entry),
        "checkpoint": weights,
        "attack": [CONTROL if attack is None else attack.name],
        "attack_params": params,
        "eps": [threat.eps],
        "norm": [threat.norm],
        "target_task": threat.target,
        "limit": entry.data.n,
        "draws": max(threat.draws, 1),
        "seed": threat.evaluation_seeds[:1] or [0],
        "control": False,
        "challenge": False,
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
