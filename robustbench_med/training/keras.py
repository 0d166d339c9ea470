"""Weights of the authors' Keras releases as safetensors, without TensorFlow: `.keras`,
`.weights.h5`, legacy `.h5`, or `.npz`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.errors import UserError, unknown
from robustbench_med.formats import archives, arrays, hdf5, yaml_file
from robustbench_med.formats.files import data_of, door
from robustbench_med.formats.weights import few
from robustbench_med.models.keras_layout import RELEASED, Layers, Variable, layout
from robustbench_med.paths import write_atomically
from robustbench_med.training import presets

Array = NDArray[Any]
LISTED = 8


@dataclass
class KerasFile:
    """What a file holds.

    Attributes:
        arrays: everything in the file, by its name there.
        layers: by class, in Keras' order: each layer's names by path (Keras 3) or in order (legacy,
            npz: trainable ones first).
        left: arrays that are no weights (state of the optimizer and of random generators), and why.
    """

    arrays: dict[str, Array] = field(default_factory=dict)
    layers: dict[str, list[dict[str, str] | list[str]]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """A finished import: the constructor parameters and facts of the network, and how many arrays
    were not taken, by reason.
    """

    params: dict[str, Any]
    channels: tuple[int, ...]
    class_counts: tuple[int, ...]
    left: Counter[str]


WHAT = "the Keras weights"


def convert(
    path: Path,
    model: str,
    out: Path,
    *,
    mapping: Path | None = None,
    params: Mapping[str, Any] | None = None,
) -> Imported:
    """Writes the weights of a Keras file as a checkpoint of `model`; every parameter is assigned
    and every array accounted for.

    Args:
        mapping: YAML, `weights: {our name: their name}` and `unused: [patterns]`, instead of the
            authors' layer order.
        params: constructor arguments besides the width, which the file tells.

    Raises:
        UserError: an unreadable file, and whatever does not fit, listed.
    """
    if model not in RELEASED:
        raise unknown("released model", model, RELEASED)
    if out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, got {out}")
    file = read(path)
    loaded = _mapping(mapping) if mapping is not None else None
    stems, heads = _kernels(file, loaded, path if mapping is None else mapping)
    arguments = {"width": stems[0].shape[-1], **(params or {})}
    channels, classes = tuple(s.shape[2] for s in stems), tuple(h.shape[1] for h in heads)
    victim = presets.untrained(model, "release", channels, classes, 128, arguments)
    if loaded is None:
        try:
            wanted = layout(victim)
        except ValueError as error:
            raise UserError(f"{model}: {error}") from error
        names, left = _by_layers(file, wanted, path)
    else:
        names, left = _by_mapping(file, loaded)
    state = _state(victim, file, names, path)
    write_atomically(
        out,
        lambda temporary: safetensors.torch.save_file(
            state, temporary, metadata={"imported_from": path.name}
        ),
    )
    return Imported(arguments, channels, classes, Counter(left.values()))


# --- reading --------------------------------------------------------------------------------------


def read(path: Path) -> KerasFile:
    """Reads a file; a format that is not one of Keras' published ones is a UserError."""
    if path.suffix == ".npz":
        found = arrays.load_npz(path, WHAT)
        with door(WHAT, path):
            return _flat(found)
    if path.suffix == ".keras":
        with archives.opened(path, WHAT) as archive:
            content = archives.member(archive, "model.weights.h5", "weights_bytes")
    else:
        with door(WHAT, path):
            content = data_of(path, "weights_bytes")
    try:
        with hdf5.opened(content, WHAT, path) as file:
            return _read_h5(file)
    except ImportError as error:
        raise UserError(
            "reading .keras and .h5 files needs h5py: pip install 'medrobust[keras]'"
        ) from error


def _read_h5(file: Any) -> KerasFile:
    import h5py

    legacy = file.get("model_weights", file)
    if "layer_names" in legacy.attrs:
        found = {}
        for layer in map(_text, legacy.attrs["layer_names"]):
            for i, weight in enumerate(map(_text, legacy[layer].attrs["weight_names"])):
                name = f"{layer}:{i}:{weight}"
                found[name] = hdf5.array_of(legacy[layer][weight], name)
        return _flat(found)
    if "layers" not in file:
        raise ValueError(
            "neither Keras 3's `layers` nor a legacy `layer_names` is there, but"
            f" {', '.join(file) or 'nothing'}"
        )
    keras_file = KerasFile()

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            keras_file.arrays[name] = hdf5.array_of(node, name)

    file.visititems(visit)
    numbered: dict[str, dict[int, dict[str, str]]] = {}
    for name in keras_file.arrays:
        parts = name.split("/")
        if parts[0] != "layers":
            keras_file.left[name] = f"of {parts[0]}"
        elif "seed_generator" in parts:
            keras_file.left[name] = "random states"
        else:
            kind, number = _numbered(parts[1])
            numbered.setdefault(kind, {}).setdefault(number, {})["/".join(parts[2:])] = name
    keras_file.layers = {
        kind: [layers[n] for n in sorted(layers)] for kind, layers in numbered.items()
    }
    return keras_file


def _flat(found: dict[str, Array]) -> KerasFile:
    """A file whose arrays are named `layer:i`, layers in the order of `model.layers`."""
    keras_file, seen = KerasFile(found), dict[str, list[str]]()
    for name in found:
        layer, colon, _ = name.partition(":")
        if not colon:
            raise ValueError(
                f"the array {name!r} is not named layer:number, as docs/keras.md shows"
            )
        if layer not in seen:
            seen[layer] = []
            keras_file.layers.setdefault(_numbered(layer)[0], []).append(seen[layer])
        if found[name].dtype.kind in "ui":  # a dropout layer's generator
            keras_file.left[name] = "random states"
        seen[layer].append(name)
    return keras_file


def _numbered(name: str) -> tuple[str, int]:
    """`conv2d_3` is the class conv2d and number 3, `conv2d` number 0."""
    match = re.fullmatch(r"(.*?)_(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# --- whose array is whose -------------------------------------------------------------------------


def _by_layers(
    file: KerasFile, wanted: Layers, path: Path
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Their names of each of our parameters by class, number and path; and what is left, with the
    reason.
    """
    names: dict[str, list[str]] = {}
    left, faults = dict(file.left), []
    there = {
        kind: kept
        for kind, layers in file.layers.items()
        if (kept := [layer for layer in layers if set(_names(layer)) - left.keys()])
    }
    for kind in sorted(wanted.keys() | there.keys()):
        theirs, ours = there.get(kind, []), wanted.get(kind, [])
        if len(theirs) != len(ours):
            faults.append(f"{len(theirs)} layers {kind}, expected {len(ours)}")
            continue
        for number, (layer, variables) in enumerate(zip(theirs, ours, strict=True)):
            pairs, wrong = _pairs(layer, variables)
            faults += [f"{kind} {number}: {fault}" for fault in wrong]
            for name, variable in pairs:
                if variable.one and not (file.arrays[name] == 1).all():
                    faults.append(
                        f"{name} is {file.arrays[name].ravel()[0]:g}, in the release always 1"
                    )
                if variable.name is None:
                    left[name] = "that the release never uses"
                else:
                    names.setdefault(variable.name, []).append(name)
    _refuse(path, faults)
    return names, left


def _names(layer: dict[str, str] | list[str]) -> list[str]:
    return list(layer.values()) if isinstance(layer, dict) else layer


def _pairs(
    layer: dict[str, str] | list[str], variables: Sequence[Variable]
) -> tuple[list[tuple[str, Variable]], list[str]]:
    """Each of a layer's arrays with its variable, and what does not fit."""
    if isinstance(layer, list):
        ordered = sorted(variables, key=lambda v: not v.trainable)
        if len(layer) != len(ordered):
            return [], [f"{len(layer)} arrays, expected {len(ordered)}"]
        return list(zip(layer, ordered, strict=True)), []
    by_path = {v.path: v for v in variables}
    faults = [f"lacks {p}" for p in by_path.keys() - layer.keys()] + [
        f"has {p} besides" for p in layer.keys() - by_path.keys()
    ]
    return [(layer[p], v) for p, v in by_path.items() if p in layer], sorted(faults)


def _mapping(path: Path) -> dict[str, Any]:
    loaded = yaml_file.load(path, "the mapping")
    if (
        not isinstance(loaded, dict)
        or not isinstance(loaded.get("weights"), dict)
        or loaded.keys() - {"weights", "unused"}
    ):
        raise UserError(
            f"{path} must hold `weights:` (our name: their name) and may hold `unused:` (a list);"
            " see docs/keras.md"
        )
    for ours, theirs in loaded["weights"].items():
        for name in (ours, *(theirs if isinstance(theirs, list) else [theirs])):
            if not isinstance(name, str):
                raise UserError(f"{path}: {name!r} under `weights:` is no name; names are text")
    return loaded


def _by_mapping(
    file: KerasFile, mapping: Mapping[str, Any]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    names = {
        ours: theirs if isinstance(theirs, list) else [theirs]
        for ours, theirs in mapping["weights"].items()
    }
    used = [name for theirs in names.values() for name in theirs]
    left = dict(file.left)
    for name in file.arrays.keys() - set(used):
        if any(fnmatch(name, pattern) for pattern in mapping.get("unused") or []):
            left[name] = "that the mapping calls unused"
    faults = [
        f"the mapping names {name}, which is not there" for name in used if name not in file.arrays
    ]
    faults += [f"the mapping uses {name} {n} times" for name, n in Counter(used).items() if n > 1]
    faults += [
        f"{name} is neither mapped nor unused"
        for name in sorted(file.arrays.keys() - set(used) - left.keys())
    ]
    _refuse(None, faults)
    return names, left


def _kernels(
    file: KerasFile, mapping: Mapping[str, Any] | None, path: Path
) -> tuple[list[Array], list[Array]]:
    """The kernels of the stems (7, 7, C, width) and of the heads (features, classes), which tell
    the network's facts; `path`: what is to blame where there are none.
    """
    if mapping is not None:
        stem_names = _mapped(mapping["weights"], r"stem\.\d\.0\.weight")
        head_names = _mapped(mapping["weights"], r"heads\.\d\.weight")
    else:
        stem_names = [_names(layer)[0] for layer in file.layers.get("conv2d", [])][:2]
        head_names = [_names(layer)[0] for layer in file.layers.get("dense", [])]
    stems = [file.arrays[name] for name in stem_names if name in file.arrays]
    heads = [file.arrays[name] for name in head_names if name in file.arrays]
    shaped = all(a.ndim == 4 for a in stems) and all(a.ndim == 2 for a in heads)
    if not stems or not heads or not shaped:
        what = "its weights" if mapping is None else "the weights that it names"
        raise UserError(
            f"{path}: {what} do not look like the authors' networks: no two stem convolutions and"
            " no heads are where they should be"
        )
    return stems, heads


def _mapped(weights: Mapping[str, Any], pattern: str) -> list[str]:
    """Their names of our weights whose names fit a pattern, in our order."""
    return [str(weights[ours]) for ours in sorted(weights) if re.fullmatch(pattern, ours)]


# --- arrays to tensors ----------------------------------------------------------------------------


def _state(
    victim: nn.Module, file: KerasFile, names: Mapping[str, Sequence[str]], path: Path
) -> dict[str, Tensor]:
    """The victim's whole state out of the file's arrays."""
    state, faults = {}, []
    expected = {
        n: t for n, t in victim.state_dict().items() if not n.endswith("num_batches_tracked")
    }
    faults += [f"nothing is assigned to {name}" for name in sorted(expected.keys() - names.keys())]
    faults += [
        f"{name} is no parameter of this model" for name in sorted(names.keys() - expected.keys())
    ]
    for name, tensor in expected.items():
        arrays = [file.arrays[theirs] for theirs in names.get(name, [])]
        if not arrays:
            continue
        array = arrays[0] if len(arrays) == 1 else np.concatenate([a.ravel() for a in arrays])
        turned = to_torch(array, tuple(tensor.shape))
        if turned is None:
            faults.append(
                f"{names[name][0]} is {array.shape}, which does not make {name}"
                f" {tuple(tensor.shape)}"
            )
        elif not np.isfinite(turned).all():
            faults.append(f"{names[name][0]} is not finite")
        else:
            state[name] = torch.from_numpy(np.ascontiguousarray(turned, np.float32))
    _refuse(path, faults)
    return {
        n: state[n] if n in state else torch.zeros_like(t) for n, t in victim.state_dict().items()
    }


def to_torch(array: Array, shape: tuple[int, ...]) -> Array | None:
    """A Keras array in PyTorch's layout, or None where it does not make `shape`.

    Convolution kernels are (H, W, in, out) and become (out, in, H, W), depth-wise ones (H, W,
    channels, 1) become (channels, 1, H, W), dense ones (in, out) become (out, in); everything else
    differs by axes of length 1 at most.
    """
    if array.ndim == len(shape) == 4:
        turned = [array.transpose(3, 2, 0, 1), array.transpose(2, 3, 0, 1)]
    elif array.ndim == len(shape) == 2:
        turned = [array.T]
    else:
        turned = (
            [array.reshape(shape)]
            if [n for n in array.shape if n != 1] == [n for n in shape if n != 1]
            else []
        )
    return next((each for each in turned if each.shape == shape), None)


def _refuse(path: Path | None, faults: Sequence[str]) -> None:
    if faults:
        where = f"{path} does not fit" if path is not None else "the mapping does not fit"
        raise UserError(f"{where}: {few(faults, LISTED)}")
