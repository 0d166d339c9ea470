"""First drafts of wrappers: what can be seen of a network, written as a file for `--model`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.errors import UserError
from robustbench_med.formats import json_file
from robustbench_med.formats.files import door
from robustbench_med.formats.text import line
from robustbench_med.models import contracts, user_file
from robustbench_med.models.onnx_file import OnnxFile
from robustbench_med.naming import is_own

SIZES = (224, 32, 64, 28, 96, 128, 256, 299, 384, 512)
"""Sides that are tried where nothing says which one a network wants."""
WEIGHTS = (".pth", ".ckpt", ".bin", ".safetensors")
INDENT = "        "


@dataclass
class Draft:
    """A wrapper that is not written yet.

    Attributes:
        imports: lines above.
        make: the expression that makes the network.
        weights: whether they come with it.
        notes: what was found, and what is left to say.
    """

    imports: list[str]
    make: str
    weights: bool
    notes: list[str] = field(default_factory=list)
    inputs: tuple[str, ...] = ("x",)
    call: str = "{}"
    channels: int | None = None
    size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    outputs: str = "(outputs,)"
    one_mode: bool = False


def wrapper_of(what: str) -> str:
    """The wrapper of a network, as a file for `--model`; of an ONNX file the contract.

    Args:
        what: `file.py:function or class`; a TorchScript file, a program of torch.export (.pt2), a
            folder of Hugging Face, an ONNX file.

    Raises:
        UserError: nothing of these, or a network that cannot be made or read.
    """
    path = Path(what)
    if what.endswith(".onnx"):
        return contract_for(path)
    if is_own(what):
        draft, network = of_code(what)
    elif path.is_dir():
        draft, network = of_hugging_face(path)
    elif path.suffix in WEIGHTS:
        raise UserError(
            f"{path} holds weights alone; name the code that makes their network, as in `medrobust"
            " wrap their_net.py:create_model`"
        )
    else:
        draft, network = of_file(path)
    if network is not None:
        look_at(network, draft)
    return text_of(draft, what)


def of_code(what: str) -> tuple[Draft, nn.Module | None]:
    """A class or function of the user's file, which runs."""
    try:
        own = user_file.load(what)
    except ValueError as error:
        raise UserError(str(error)) from error
    name, stem = what.rpartition(":")[2], own.path.stem
    draft = Draft([f"from {stem} import {name}"], f"{name}()", weights=False)
    parameters = inspect.signature(own.build).parameters.values()
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if needed:
        draft.make = f"{name}({', '.join(f'{each}=...' for each in needed)})"
        draft.notes.append(f"TODO {name} needs {', '.join(needed)}: put their values in")
        return draft, None
    try:
        network = own.build()
    except Exception as error:
        raise UserError(f"{what} raised {type(error).__name__}: {line(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{what} made a {type(network).__name__}, needed a torch.nn.Module")
    draft.notes.append(
        'TODO its weights: self.net.load_state_dict(torch.load("weights.pth", weights_only=True))'
    )
    return draft, network


def of_file(path: Path) -> tuple[Draft, nn.Module]:
    """A TorchScript file, or a program of torch.export."""
    with door("the network", path):
        if path.suffix == ".pt2":
            network = torch.export.load(path).module()
            made = f"torch.export.load({str(path)!r}).module()"
            return Draft([], made, weights=True, one_mode=True), network
        network = torch.jit.load(path, map_location="cpu")
    return Draft([], f"torch.jit.load({str(path)!r}, map_location='cpu')", weights=True), network


def of_hugging_face(path: Path) -> tuple[Draft, None]:
    """A folder that `save_pretrained` wrote; nothing of it is loaded."""
    config = json_file.load_object(path / "config.json", "the model's configuration")
    draft = Draft(
        ["from transformers import AutoModelForImageClassification"],
        f"AutoModelForImageClassification.from_pretrained({str(path)!r}, local_files_only=True)",
        weights=True,
        call="pixel_values={}",
        outputs="(outputs.logits,)",
    )
    size = config.get("image_size")
    draft.size = size if isinstance(size, int) else None
    draft.channels = (
        config.get("num_channels") if isinstance(config.get("num_channels"), int) else 3
    )
    classes = config.get("id2label")
    if isinstance(classes, Mapping):
        draft.notes.append(
            f"one task of {len(classes)} classes: {line(', '.join(map(str, classes.values())))}"
        )
    about = path / "preprocessor_config.json"
    if about.exists():
        told = json_file.load_object(about, "the preprocessing")
        draft.mean, draft.std = numbers(told.get("image_mean")), numbers(told.get("image_std"))
    return draft, None


def numbers(value: Any) -> list[float] | None:
    """A list of numbers, or nothing."""
    if isinstance(value, list | tuple) and value and all(isinstance(v, int | float) for v in value):
        return [float(v) for v in value]
    return None


def look_at(network: nn.Module, draft: Draft) -> None:
    """What shows of a network: its inputs, channels, normalisation, size and heads."""
    about = getattr(network, "default_cfg", None) or getattr(network, "pretrained_cfg", None)
    if isinstance(about, Mapping):
        draft.mean, draft.std = numbers(about.get("mean")), numbers(about.get("std"))
        size = about.get("input_size")
        draft.size = size[-1] if isinstance(size, list | tuple) and size else None
    draft.inputs = inputs_of(network)
    first = next((p for p in network.parameters() if p.dim() == 4), None)
    draft.channels = None if first is None else int(first.shape[1])
    if not draft.one_mode:
        network.eval()
    tried = [draft.size] if draft.size else list(SIZES)
    for size in tried:
        x = [torch.rand(2, draft.channels or 1, size, size) for _ in draft.inputs]
        try:
            with torch.no_grad():
                outputs = network(*x)
        except Exception:  # another size may do
            continue
        draft.size = draft.size or size
        describe(outputs, draft)
        return
    draft.notes.append(f"TODO it takes none of the sides {', '.join(map(str, tried))}: say which")


def inputs_of(network: nn.Module) -> tuple[str, ...]:
    """The names of what its forward needs."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return ("x",)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in parameters if p.kind in kinds and p.default is p.empty) or ("x",)


def describe(outputs: Any, draft: Draft) -> None:
    """Which head is which task, by what the network returned."""
    heads: dict[str, Any] = {"outputs": outputs}
    if isinstance(outputs, Mapping):
        heads = {f"outputs[{key!r}]": value for key, value in outputs.items()}
    elif isinstance(outputs, tuple | list):
        heads = {f"outputs[{i}]": value for i, value in enumerate(outputs)}
    elif isinstance(getattr(outputs, "logits", None), Tensor):
        heads = {"outputs.logits": outputs.logits}
    tasks = {where: z for where, z in heads.items() if isinstance(z, Tensor) and z.dim() == 2}
    for number, (where, z) in enumerate(tasks.items()):
        draft.notes.append(f"task {number}: {where}, {z.shape[1]} classes")
    if len(tasks) < len(heads):
        others = ", ".join(where for where in heads if where not in tasks)
        draft.notes.append(f"left out, no logits (B, classes): {line(others)}")
    if not tasks:
        raise UserError("what the network returns holds no logits (B, classes)")
    draft.outputs = f"({', '.join(tasks)},)"


def text_of(draft: Draft, what: str) -> str:
    """The file."""
    if draft.mean is None or draft.std is None:
        draft.notes.append(
            "TODO no normalisation was found: images come in [0, 1]; put in MEAN and STD of its"
            " training"
        )
    channels = draft.channels or 1
    mean, std = draft.mean or [0.0] * channels, draft.std or [1.0] * channels
    named = line(what).replace("\\", "/").replace('"', "'")
    lines = [f'"""{named} as a victim of medrobust; a draft that `medrobust wrap` wrote."""', ""]
    lines += ["import torch", *draft.imports, ""]
    lines += [f"# {note}" for note in draft.notes]
    lines += [f"MEAN, STD = {json.dumps(list(mean))}, {json.dumps(list(std))}"]
    lines += [f"SIZE = {draft.size}", "", "", "class Wrapped(torch.nn.Module):"]
    lines += [
        "    def __init__(self):",
        f"{INDENT}super().__init__()",
        f"{INDENT}self.net = {draft.make}",
    ]
    lines += [f'{INDENT}self.register_buffer("mean", torch.tensor(MEAN).view(-1, 1, 1))']
    lines += [f'{INDENT}self.register_buffer("std", torch.tensor(STD).view(-1, 1, 1))', ""]
    if draft.one_mode:
        lines += [
            "    def train(self, mode=True):  # a program has one mode",
            f"{INDENT}return self",
            "",
        ]
    lines += ["    def prepared(self, x):"]
    if channels > 1:
        lines += [f"{INDENT}x = x.expand(-1, {channels}, -1, -1)  # grey images"]
    lines += [
        f"{INDENT}if SIZE is not None and x.shape[-1] != SIZE:",
        f'{INDENT}    x = torch.nn.functional.interpolate(x, size=(SIZE, SIZE), mode="bilinear")',
        f"{INDENT}return (x - self.mean) / self.std",
        "",
    ]
    given = ", ".join(f"self.prepared({name})" for name in draft.inputs)
    lines += [f"    def forward(self, {', '.join(draft.inputs)}):"]
    lines += [
        f"{INDENT}outputs = self.net({draft.call.format(given)})",
        f"{INDENT}return {draft.outputs}",
        "",
        "",
    ]
    lines += ["def build(channels, class_counts):", "    return Wrapped()"]
    return "\n".join(lines)


def contract_for(path: Path) -> str:
    """The contract of an ONNX file, with its inputs and outputs."""
    with door("the ONNX file", path):
        data = path.read_bytes()
    called = path.stem if contracts.NAME.fullmatch(path.stem) else "device"
    session = OnnxFile(path, contracts.Contract(name=called, version="1"), data).session
    lines = [f"# medrobust run --model {path} --contract THIS.yaml --attack square"]
    lines += [f"name: {called}", 'version: "1"', "gives: scores", "images:"]
    for each in session.get_inputs():
        lines.append(f"  MODALITY: {each.name}  # {each.shape} {each.type}; TODO which modality")
    lines.append("answers:")
    for each in session.get_outputs():
        lines.append(f"  TASK: {each.name}  # {each.shape} {each.type}; TODO which task")
    return "\n".join(lines)
