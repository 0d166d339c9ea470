"""The door of weights: safetensors, and the tensors of what PyTorch pickled."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from robustbench_med.errors import UserError
from robustbench_med.formats import archives, text
from robustbench_med.formats.files import checked, door

Tensors = dict[str, torch.Tensor]
ZIP = b"PK\x03\x04"
NESTED = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep the weights among other things."""


def tensors_of(data: bytes, what: str, path: Path) -> Tensors:
    """The tensors in the bytes of a safetensors file; UnreadableError."""
    with door(what, path):
        return safetensors.torch.load(data)


def load(path: Path, what: str) -> tuple[Tensors, dict[str, str]]:
    """The tensors and the metadata of a safetensors file; UnreadableError."""
    with door(what, path):
        checked(path, "weights_bytes")
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})


def unpickled(data: bytes, path: Path) -> Tensors:
    """The tensors of what `torch.save` wrote, a state_dict or one inside `NESTED`; anything else is
    a UserError.
    """
    advice = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
    loaded = _loaded(data, path, advice)
    nested = [
        key for key in NESTED if isinstance(loaded, dict) and isinstance(loaded.get(key), dict)
    ]
    state = loaded[nested[0]] if nested else loaded
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state_dict; {advice}")
    others = [
        text.line(key)
        for key, value in state.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if others:
        raise UserError(f"{path} is no state_dict: {few(others)} are no tensors; {advice}")
    return state


def few(names: Sequence[str], most: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    shown = ", ".join(text.line(name, 150) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _loaded(data: bytes, path: Path, advice: str) -> Any:
    with door("the weights", path):
        if data.startswith(ZIP):
            archives.check_members(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (Exception, RecursionError, MemoryError) as error:  # a damaged file raises anything
        script = "TorchScript" in str(error)
        if script or isinstance(error, pickle.UnpicklingError):
            what = (
                "a TorchScript archive"
                if script
                else "a whole pickled model, or something else that"
            )
            raise UserError(
                f"{path} holds more than tensors ({what} can run code when it is read); {advice}"
            ) from error
        said = text.line(error).split(". ")[0]
        raise UserError(
            f"{path} cannot be read as weights of PyTorch, it may be damaged:"
            f" {type(error).__name__}: {said}"
        ) from error
