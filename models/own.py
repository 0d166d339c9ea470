"""Models of the user's own: `path/to/file.py:build_fn` wherever a model can be named."""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustbench_med import source_files


@dataclass(frozen=True)
class Own:
    """A function of a user's file: `build(channels, class_counts, **parameters)` makes a victim.

    Attributes:
        label: file name and function, what tables call it; the folder does not matter.
        source_sha256: hash of the file and of the user's files that it imports; part of every specification, so that an edited file
            is another victim.
    """

    build: Callable[..., nn.Module]
    label: str
    path: Path
    source_sha256: str

    def parameters(self) -> dict[str, Any]:
        """Parameters behind the first two, with their defaults (`inspect.Parameter.empty` where there is none)."""
        named = list(inspect.signature(self.build).parameters.values())[2:]
        return {p.name: p.default for p in named if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}

    def takes_any(self) -> bool:
        """Whether the function has `**parameters`."""
        return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(self.build).parameters.values())


def is_own(name: str) -> bool:
    """Whether a model's name is a file of the user's rather than an entry of the registry."""
    return name.endswith(".py") or ".py:" in name


def label(name: str) -> str:
    """How tables and file names call a model: without the folder."""
    return Path(name).name if is_own(name) else name


def load(name: str) -> Own:
    """Runs a user's file and finds its function; ValueError in one line when that fails. The file is code: it runs as you.

    Args:
        name: `path/to/file.py:function`.
    """
    file, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        raise ValueError(f"{name}: name the function too, as in {name.rstrip(':')}:build")
    path = Path(file)
    try:
        files = source_files.imported(path.resolve())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    sha256 = source_files.fingerprint(files)
    module_name = f"medrobust_own_{hashlib.sha256(f'{path.resolve()} {sha256}'.encode()).hexdigest()[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        try:
            module = source_files.run(path, files, module_name)  # the very bytes that were hashed
        except Exception as error:
            raise ValueError(f"{path} cannot be imported: {_told(error, path)}") from error
    found = getattr(module, function, None)
    if not callable(found):
        own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module_name]
        raise ValueError(f"{path} has no function {function!r}; it has: {', '.join(own) or 'none'}")
    return Own(found, label(name), path, sha256)


def build(own: Own, channels: Sequence[int], class_counts: Sequence[int], parameters: dict[str, Any], *, image_size: int) -> nn.Module:
    """A fresh victim in evaluation mode that keeps the contract of `robustbench_med.models`; ValueError where it does not.

    `n_modalities`, `class_counts` and `stochastic` (False) are filled in where the module lacks them. One pass over two random samples
    checks the logits.
    """
    try:
        victim = own.build(tuple(channels), tuple(class_counts), **parameters)
    except Exception as error:
        raise ValueError(f"it raised {_told(error, own.path)}") from error
    if not isinstance(victim, nn.Module):
        raise ValueError(f"it returned {type(victim).__name__}, expected a torch.nn.Module")
    facts: dict[str, Any] = {"n_modalities": len(channels), "class_counts": tuple(class_counts), "stochastic": False}
    for name, value in facts.items():
        said = getattr(victim, name, value)
        said = tuple(said) if isinstance(said, list) else said
        if said != value and name != "stochastic":
            raise ValueError(f"its {name} is {said}, but this data has {value}")
        setattr(victim, name, said)
    victim.eval()
    generator = torch.Generator().manual_seed(0)
    x = [torch.rand(2, c, image_size, image_size, generator=generator) for c in channels]
    shapes = ", ".join(str(tuple(m.shape)) for m in x)
    try:
        with torch.no_grad():
            logits = victim(*x)
    except Exception as error:
        raise ValueError(f"its forward raised {_told(error, own.path)} on modalities {shapes}") from error
    if not isinstance(logits, tuple) or not all(isinstance(z, torch.Tensor) for z in logits):
        raise ValueError(f"its forward must return a tuple of logits, one tensor a task ({len(class_counts)}), got {type(logits).__name__}")
    got, wanted = [tuple(z.shape) for z in logits], [(2, n) for n in class_counts]
    if got != wanted:
        raise ValueError(f"its forward returned logits of shapes {got} on 2 samples, this data's tasks need {wanted}")
    if not any(True for _ in victim.parameters()):
        raise ValueError("it has no parameters")
    return victim


def _told(error: Exception, path: Path) -> str:
    """An exception in one line, with the last line of the user's file that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f" (line {line})" if line is not None else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}{where}"
