"""Checkpoints: weights as safetensors, everything about them in a JSON sidecar. Of a user's pickle
the tensors alone are read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from robustbench_med.data.cards import Published
from robustbench_med.dataspec import Reading
from robustbench_med.errors import UserError
from robustbench_med.formats import json_file, weights
from robustbench_med.formats.files import checked, data_of, door, text_of
from robustbench_med.formats.weights import few
from robustbench_med.models.registry import ZOO
from robustbench_med.models.trial import tell
from robustbench_med.naming import label, training_hash
from robustbench_med.parsing import validate
from robustbench_med.paths import home, write_atomically, write_text
from robustbench_med.training import weight_names
from robustbench_med.training.spec import DRAWS, TrainSpec

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
"""What PyTorch saves: only tensors are read of it, and nothing that could run code."""


AS_IT_IS = Reading()
Origin = Literal["object", "build", "black box"]
"""Where a victim came from that no file of weights holds."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained victim on disk: `path` of the weights, their sha256, the sidecar (empty for foreign
    weights), and how it is read.
    """

    path: Path
    sha256: str
    sidecar: dict[str, Any]
    reading: Reading = AS_IT_IS

    def __repr__(self) -> str:
        return f"<weights {self.sha256[:8]}: {self.path}>"

    @property
    def origin(self) -> str:
        """Where it came from: zoo, cache or file."""
        if self.path.parent.name == "zoo":
            return "zoo"
        return "cache" if home() in self.path.parents else "file"


@dataclass(frozen=True, repr=False)
class Held(Checkpoint):
    """A victim that is there as an object, which no file holds, or as its own code builds it."""

    module: nn.Module = field(kw_only=True)
    made_by: Origin = "object"

    @property
    def origin(self) -> str:
        """Where it came from."""
        return self.made_by


def name_of(spec: TrainSpec) -> str:
    """File name (no suffix) of the checkpoint a spec leads to."""
    victim = "+".join((spec.name.replace(":", "-"), *(layer.name for layer in spec.defense)))
    fold = "" if spec.fold is None else f"-fold{spec.fold[0]}of{spec.fold[1]}"
    return f"{victim}-{spec.data}{fold}-{spec.preset}-s{spec.seed}-{training_hash(spec)[:12]}"


def cached_path(spec: TrainSpec) -> Path:
    """Where a spec's checkpoint is kept below medrobust's home."""
    return home() / "checkpoints" / f"{name_of(spec)}.safetensors"


def find(spec: TrainSpec) -> Checkpoint | None:
    """The checkpoint of a spec: medrobust's own cache first, then the zoo that comes with the
    package.
    """
    path, wanted = cached_path(spec), {training_hash(spec)}
    if path.with_suffix(".json").exists() and path.exists():
        cached = open_checkpoint(path)
        if cached.sidecar["training_hash"] not in wanted:
            raise UserError(
                f"{path} are the weights of another training"
                f" ({cached.sidecar['training_hash'][:12]}) than the one asked for; delete them and"
                " their sidecar"
            )
        return cached
    shipped = spec.model_copy(update={"half": True})
    wanted.add(training_hash(shipped))
    # the zoo's weights stay what they are under a later scheme; their sidecars name their own
    numbers = {name: n for name, n in spec.revisions.items() if name != DRAWS}
    wanted.add(training_hash(shipped.model_copy(update={"revisions": numbers})))
    for sidecar in ZOO.iterdir():
        if sidecar.name.endswith(".json") and read_sidecar(sidecar)["training_hash"] in wanted:
            with as_file(ZOO / sidecar.name.replace(".json", ".safetensors")) as weights:
                return open_checkpoint(weights)
    return None


def known(spec: TrainSpec) -> Checkpoint | None:
    """As `find`, but weights of the cache are taken for what their sidecar says, unread."""
    path = cached_path(spec)
    sidecar_path = path.with_suffix(".json")
    if not (sidecar_path.exists() and path.exists()):
        return find(spec)
    sidecar = read_sidecar(sidecar_path)
    if sidecar["training_hash"] != training_hash(spec):
        return find(spec)  # which refuses it
    return Checkpoint(path, sidecar["weights_sha256"], sidecar)


def sidecars() -> Iterator[dict[str, Any]]:
    """Every sidecar of the cache that can be read."""
    for path in sorted((home() / "checkpoints").glob("*.json")):
        with contextlib.suppress(UserError):
            yield read_sidecar(path)


def open_checkpoint(path: Path, reading: Reading | None = None) -> Checkpoint:
    """A file of weights: safetensors, or a PyTorch state_dict, whose tensors alone will be read, in
    the way that `reading` says.

    A sidecar beside a safetensors file must belong to these very weights. What does not fit is a
    UserError.
    """
    if path.suffix in (".keras", ".h5", ".hdf5", ".npz"):
        raise UserError(
            f"{path} is no safetensors file; `medrobust import-keras {path} --model NAME --out"
            " weights.safetensors` makes one"
        )
    with door("the checkpoint", path):
        checked(path, "weights_bytes")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    sidecar_path, reading = path.with_suffix(".json"), reading or Reading()
    is_pickled = path.suffix.lower() in PICKLED
    if reading.part is not None and not is_pickled:
        raise UserError(
            f"--checkpoint-part is for {', '.join(PICKLED)}; {path} holds one set of weights"
        )
    if is_pickled or not sidecar_path.exists():
        return Checkpoint(path, sha256, {}, reading)
    sidecar = read_sidecar(sidecar_path)
    if sidecar["weights_sha256"] != sha256:
        raise UserError(
            f"{path} is not the file its sidecar {sidecar_path.name} describes (sha256 differs);"
            " delete both and train again"
        )
    return Checkpoint(path, sha256, sidecar, reading)


class Point(BaseModel):
    """A validation during a training."""

    model_config = ConfigDict(extra="allow")

    step: int


class Validation(BaseModel):
    """What the weights do on the validation split, of one task."""

    task: str
    accuracy: float
    balanced_accuracy: float
    auc: float | None = None
    most_predicted_share: float
    trivial: str | None
    published: Published | None = None
    """What a publication reports of the task's test part; older sidecars say nothing."""


class Sidecar(BaseModel):
    """What readers of a sidecar rely on; it may say more."""

    training: dict[str, Any]
    training_hash: str
    weights_sha256: str
    history: list[Point] = Field(min_length=1)
    best_step: int
    validation: list[Validation]
    command: str


def read_sidecar(path: Traversable) -> dict[str, Any]:
    """A sidecar that is whole and whose hash is that of the training it tells of; else a
    UserError.
    """
    try:
        with door("the sidecar", path):
            text = text_of(path) if isinstance(path, Path) else path.read_text(encoding="utf-8")
            sidecar = json_file.object_of(text)
            if training_hash(validate(Sidecar, sidecar, "it").training) != sidecar["training_hash"]:
                raise ValueError("its training_hash is not that of its training")
    except UserError as error:
        raise UserError(
            f"{path} is no sidecar of medrobust's ({getattr(error, 'reason', error)}); train again,"
            " or move it away from weights that come from elsewhere"
        ) from error
    return sidecar


def find_sidecar(file_name: str, sha256: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The sidecar of these very weights in one of the folders, medrobust's cache or the zoo; empty
    where there is none.
    """
    name = Path(file_name).with_suffix(".json").name
    for path in (*(folder / name for folder in folders), home() / "checkpoints" / name, ZOO / name):
        if path.is_file() and (sidecar := read_sidecar(path))["weights_sha256"] == sha256:
            return sidecar
    return {}


def model_parameters(
    checkpoint: Checkpoint | None, model: str, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Constructor parameters of a checkpoint's victim: what its sidecar tells, the overrides on
    top; another model is a UserError.
    """
    if checkpoint is None or not checkpoint.sidecar:
        return dict(overrides)
    trained = checkpoint.sidecar["training"]
    if trained["model"] != label(model):
        raise UserError(
            f"{checkpoint.path} was trained as {trained['model']!r}, not {label(model)!r}"
        )
    return {**trained["params"], **overrides}


def load_weights(victim: nn.Module, checkpoint: Checkpoint) -> Checkpoint:
    """Loads weights in place, half precision widened; a UserError where they are another
    architecture's or class count's, or not finite.

    Infinities that a fresh victim has at the same places (an attention mask) are none of its
    training's.

    Returns:
        The checkpoint, with how it was read.
    """
    state, part = read_weights(checkpoint)
    expected = victim.state_dict()
    names = weight_names.found(
        checkpoint.path,
        {name: tuple(tensor.shape) for name, tensor in state.items()},
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        checkpoint.reading.map,
    )
    if names:
        tell(f"{checkpoint.path}: {weight_names.told(names, len(expected))}")
        renamed = weight_names.renamed(state, names)
        state = {new: state[old] for old, new in renamed.items() if new is not None}
    other = [
        f"{n} is {tuple(state[n].shape)}, needed {tuple(t.shape)}"
        for n, t in expected.items()
        if t.shape != state[n].shape
    ]
    if other:
        raise UserError(
            f"{checkpoint.path} does not fit this model and data: {few(other)}; another width"
            " or another number of classes?"
        )
    odd = [name for name, fresh in expected.items() if not plain(state[name], fresh)]
    if odd:
        raise UserError(
            f"{checkpoint.path}: {few(odd)}: sparse, quantised, complex or without numbers;"
            " save plain float tensors"
        )
    broken = [name for name, fresh in expected.items() if not sound(state[name], fresh)]
    if broken:
        raise UserError(
            f"{checkpoint.path} holds weights that are NaN or infinite: {few(broken)}; its"
            " training has diverged"
        )
    victim.load_state_dict(
        {name: state[name].to(tensor.dtype) for name, tensor in expected.items()}
    )
    return replace(checkpoint, reading=checkpoint.reading.taken(part, names))


def plain(weights: torch.Tensor, fresh: torch.Tensor) -> bool:
    """Whether weights are a tensor of numbers as a fresh victim's: dense, not quantised, not on the
    meta device.
    """
    dense = weights.layout == torch.strided and not weights.is_meta and not weights.is_quantized
    return dense and weights.is_complex() == fresh.is_complex()


def sound(weights: torch.Tensor, fresh: torch.Tensor) -> bool:
    """Whether weights are finite, but for infinities of a fresh victim's own."""
    return bool((weights.isfinite() | (weights.isinf() & (weights == fresh.to(weights)))).all())


def read_weights(checkpoint: Checkpoint) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a checkpoint by name, the very bytes that were hashed, and which part of the
    file they are; a file that cannot be read is a UserError.
    """
    path = checkpoint.path
    with door("the checkpoint", path):
        data = data_of(path, "weights_bytes")
    if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
        raise UserError(f"{path} has changed since it was opened; start again")
    if path.suffix.lower() not in PICKLED:
        return weights.tensors_of(data, "the safetensors file", path), ""
    tensors, part, others = weights.unpickled(data, path, checkpoint.reading.part)
    if others and checkpoint.reading.part is None:
        tell(
            f"{path}: the weights under {part or 'its top'} are taken; it holds others too,"
            f" --checkpoint-part takes them: {few(others, 6)}"
        )
    return tensors, part


def save(
    path: Path, state: dict[str, torch.Tensor], spec: TrainSpec, details: dict[str, Any]
) -> Checkpoint:
    """Writes weights, then the sidecar that makes them count."""
    tensors = {
        name: (
            (tensor.half() if spec.half and tensor.is_floating_point() else tensor)
            .contiguous()
            .cpu()
        )
        for name, tensor in state.items()
    }
    if spec.half and not all(t.isfinite().all() for t in tensors.values()):
        raise UserError(
            f"{spec.name}: a weight is too large for half precision; train without --half"
        )
    path.with_suffix(".json").unlink(missing_ok=True)  # a kill leaves weights that do not count
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
    """Copies weights, then the sidecar that makes them count, into a folder."""
    copy, sidecar = (
        folder / checkpoint.path.name,
        checkpoint.path.with_suffix(".json").read_text("utf-8"),
    )
    copy.with_suffix(".json").unlink(missing_ok=True)  # a kill leaves weights that do not count
    write_atomically(copy, functools.partial(shutil.copyfile, checkpoint.path))
    write_text(copy.with_suffix(".json"), sidecar)
    return open_checkpoint(copy)
