"""The door of weights: safetensors, and the tensors of what PyTorch pickled."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch

from robustbench_med.errors import UserError
from robustbench_med.formats import archives, text
from robustbench_med.formats.files import checked, door

Tensors = dict[str, torch.Tensor]
ZIP = b"PK\x03\x04"
NESTED = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep the weights among other things."""
NESTING = 4
"""Mappings in each other in which weights are looked for."""


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


class Unpickled(NamedTuple):
    """One set of weights in a file.

    Attributes:
        tensors: by name.
        part: where in the file they lie, such as "state_dict" or "ema.model"; empty: at its top.
        others: other sets that lie beside it.
    """

    tensors: Tensors
    part: str
    others: list[str]


def unpickled(data: bytes, path: Path, part: str | None = None) -> Unpickled:
    """The tensors of what `torch.save` wrote; anything else is a UserError.

    Args:
        part: which set of a file that holds several; None: the file itself where it is a
            state_dict, else the first of `NESTED`, else the only one.
    """
    advice = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
    loaded = _loaded(data, path, advice)
    found = dict(_sets(loaded, "", NESTING, set()))
    if part is None and len(found) > 1 and not {"", *NESTED} & found.keys():
        raise UserError(
            f"{path} holds several sets of weights, {few(list(found), 8)}; say which one,"
            f" --checkpoint-part {next(iter(found))}"
        )
    if part is not None and part not in found:
        raise UserError(
            f"{path} holds no weights under {part!r}; it has: {few(list(found), 8) or 'none'}"
        )
    if part is None:
        part = next((key for key in ("", *NESTED, *found) if key in found), None)
    if part is not None:
        return Unpickled(found[part], part, [key for key in found if key != part])
    nested = [key for key in NESTED if isinstance(loaded, dict) and key in loaded]
    raise _no_state_dict(loaded[nested[0]] if nested else loaded, path, advice)


def _sets(value: Any, where: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Tensors]]:
    """The mappings of names to tensors in what was saved, by where they lie, each once."""
    if not isinstance(value, dict) or not value or id(value) in seen:
        return
    seen.add(id(value))
    if all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items()):
        yield where, value
    elif depth:
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _sets(inner, f"{where}.{key}" if where else key, depth - 1, seen)


def _no_state_dict(state: Any, path: Path, advice: str) -> UserError:
    """Why something that was saved is no state_dict."""
    if not isinstance(state, dict):
        return UserError(f"{path} holds a {type(state).__name__}, not a state_dict; {advice}")
    others = [
        text.line(key)
        for key, value in state.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if not others:
        return UserError(f"{path} holds no tensors; {advice}")
    return UserError(f"{path} is no state_dict: {few(others)} are no tensors; {advice}")


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
