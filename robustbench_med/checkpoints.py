"""Checkpoints: weights as safetensors, everything about them in a JSON sidecar. Never pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from robustbench_med.errors import UserError
from robustbench_med.models.own import label
from robustbench_med.models.registry import ZOO
from robustbench_med.naming import training_hash
from robustbench_med.paths import home, write_atomically, write_text
from robustbench_med.spec import TrainSpec

CONVERT = (
    "python -c \"import torch, safetensors.torch as s; d = torch.load('{0}', weights_only=True); "
    "s.save_file({{k: v.clone() for k, v in d.get('state_dict', d).items()}}, '{0}.safetensors')\""
)


@dataclass(frozen=True)
class Checkpoint:
    """A trained victim on disk: `path` of the weights, their sha256, and the sidecar (empty for foreign weights)."""

    path: Path
    sha256: str
    sidecar: dict[str, Any]

    @property
    def origin(self) -> str:
        """Where it came from: zoo, cache or file."""
        return "zoo" if self.path.parent.name == "zoo" else "cache" if home() in self.path.parents else "file"


def name_of(spec: TrainSpec) -> str:
    """File name (no suffix) of the checkpoint a spec leads to."""
    victim = "+".join((spec.name.replace(":", "-"), *(layer.name for layer in spec.defense)))
    fold = "" if spec.fold is None else f"-fold{spec.fold[0]}of{spec.fold[1]}"
    return f"{victim}-{spec.data}{fold}-{spec.preset}-s{spec.seed}-{training_hash(spec)[:12]}"


def cached_path(spec: TrainSpec) -> Path:
    """Where a spec's checkpoint is kept below medrobust's home."""
    return home() / "checkpoints" / f"{name_of(spec)}.safetensors"


def find(spec: TrainSpec) -> Checkpoint | None:
    """The checkpoint of a spec: medrobust's own cache first, then the zoo that comes with the package."""
    path = cached_path(spec)
    if path.with_suffix(".json").exists() and path.exists():
        return open_checkpoint(path)
    wanted = {training_hash(spec), training_hash(spec.model_copy(update={"half": True}))}
    for sidecar in ZOO.iterdir():
        if sidecar.name.endswith(".json") and json.loads(sidecar.read_text())["training_hash"] in wanted:
            with as_file(ZOO / sidecar.name.replace(".json", ".safetensors")) as weights:
                return open_checkpoint(weights)
    return None


def open_checkpoint(path: Path) -> Checkpoint:
    """A safetensors file; its sidecar, when there is one, must belong to these very weights. Formats that can run code are refused."""
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"):
        raise UserError(f"{path} is a pickle, which can run code when it is read; convert it once: {CONVERT.format(path)}")
    if path.suffix in (".keras", ".h5", ".hdf5", ".npz"):
        raise UserError(f"{path} is no safetensors file; `medrobust import-keras {path} --model NAME --out weights.safetensors` makes one")
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        sidecar_path = path.with_suffix(".json")
        sidecar = json.loads(sidecar_path.read_text(encoding="utf-8")) if sidecar_path.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}") from error
    if sidecar and sidecar.get("weights_sha256") != sha256:
        raise UserError(f"{path} is not the file its sidecar {sidecar_path.name} describes (sha256 differs); delete both and train again")
    return Checkpoint(path, sha256, sidecar)


def find_sidecar(file_name: str, sha256: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The sidecar of these very weights in one of the folders, medrobust's cache or the zoo; empty where there is none."""
    name = Path(file_name).with_suffix(".json").name
    for sidecar in (*(folder / name for folder in folders), home() / "checkpoints" / name, ZOO / name):
        if sidecar.is_file():
            try:
                found: dict[str, Any] = json.loads(sidecar.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UserError(f"cannot read the sidecar {sidecar}: {error}") from error
            if found.get("weights_sha256") == sha256:
                return found
    return {}


def model_parameters(checkpoint: Checkpoint | None, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor parameters of a checkpoint's victim: what its sidecar tells, the given ones on top; another model is a UserError."""
    if checkpoint is None or not checkpoint.sidecar:
        return dict(given)
    trained = checkpoint.sidecar["training"]
    if trained["model"] != label(model):
        raise UserError(f"{checkpoint.path} was trained as {trained['model']!r}, not {label(model)!r}")
    return {**trained["params"], **given}


def load_weights(victim: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads weights in place, half precision widened; another architecture or class count is a UserError."""
    try:
        state = safetensors.torch.load_file(checkpoint.path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{checkpoint.path} is not a readable safetensors file: {error}") from error
    expected = victim.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        what = " and ".join(f"{verb} {shortened(names)}" for verb, names in (("lacks", missing), ("has besides", extra)) if names)
        raise UserError(f"{checkpoint.path} does not fit this model: it {what}; was it trained as another model or with other parameters?")
    other = [f"{n} is {tuple(state[n].shape)}, needed {tuple(t.shape)}" for n, t in expected.items() if t.shape != state[n].shape]
    if other:
        raise UserError(
            f"{checkpoint.path} does not fit this model and data: {shortened(other)}; another width or another number of classes?"
        )
    victim.load_state_dict({name: state[name].to(tensor.dtype) for name, tensor in expected.items()})


def shortened(names: Sequence[str], most: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def save(path: Path, state: dict[str, torch.Tensor], spec: TrainSpec, details: dict[str, Any]) -> Checkpoint:
    """Writes weights, then the sidecar that makes them count."""
    tensors = {
        name: (tensor.half() if spec.half and tensor.is_floating_point() else tensor).contiguous().cpu() for name, tensor in state.items()
    }
    if spec.half and not all(t.isfinite().all() for t in tensors.values()):
        raise UserError(f"{spec.name}: a weight is too large for half precision; train without --half")
    write_atomically(path, lambda temporary: safetensors.torch.save_file(tensors, temporary))
    sidecar = {
        "training": spec.model_dump(mode="json"),
        "training_hash": training_hash(spec),
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **details,
    }
    write_text(path.with_suffix(".json"), json.dumps(sidecar, indent=1))
    return open_checkpoint(path)


def export(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Copies weights and sidecar into a folder."""
    for source in (checkpoint.path, checkpoint.path.with_suffix(".json")):
        write_atomically(folder / source.name, lambda temporary, source=source: shutil.copyfile(source, temporary))  # type: ignore[misc]
    return open_checkpoint(folder / checkpoint.path.name)


# --- interrupted trainings ---------------------------------------------------------------------------------------------------


def save_progress(path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """One file with the whole state of a training, so that a kill leaves either the old state or the new one."""
    flat = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: safetensors.torch.save_file(flat, temporary, metadata={"facts": json.dumps(facts)}))


def load_progress(path: Path, say: Callable[[str], None]) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The state `save_progress` wrote, or None when there is none that can be read."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["facts"])  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        say(f"the interrupted training {path} cannot be read ({error}); starting again")
        return None
