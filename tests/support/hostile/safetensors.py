"""Weights that are none: safetensors, sidecars, and what PyTorch saves."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from support.hostile.archives import packed
from support.hostile.case import Case, cuts, writes

COMMAND = (
    "cost",
    "--model",
    "late",
    "--size",
    "32",
    "--model-param",
    "width=8",
    "--checkpoint",
    "{}",
)


@functools.cache
def honest() -> bytes:
    """The weights of another network."""
    import safetensors.torch

    return bytes(safetensors.torch.save({"a": torch.zeros(4, 4), "b": torch.ones(3)}))


@functools.cache
def fitting() -> dict[str, torch.Tensor]:
    """The weights of the very network."""
    from robustbench_med.models import registry

    built = registry.build("late", (1, 1), (4, 3), {"width": 8}, image_size=32)
    return {name: tensor.clone().contiguous() for name, tensor in built.state_dict().items()}


def written(tensors: dict[str, torch.Tensor]) -> bytes:
    """As safetensors."""
    import safetensors.torch

    return bytes(safetensors.torch.save(tensors))


def headed(header: Any, data: bytes = bytes(64), size: int | None = None) -> bytes:
    """A file with such a header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def _one(**said: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | said}


HEADERS: dict[str, bytes] = {
    "of 2^63 bytes": headed({}, size=2**63), "of 2^62 bytes": headed({}, size=2**62), "of 100 MB that are not there": headed({}, size=100_000_000), "of nothing": headed(b"", b""), "of a list": headed([]),
    "of text": headed("x"), "of null": headed(None), "of 100,000 brackets": headed(b"[" * 100_000), "of binary": headed(bytes(range(256))), "of Latin-1": headed(b'{"\xe4": 1}'), "a word for a tensor": headed({"a": 1}),
    "no type": headed({"a": {"shape": [4], "data_offsets": [0, 16]}}), "an unknown type": headed(_one(dtype="F99")), "a type of bits": headed(_one(dtype="F4")), "a negative shape": headed(_one(shape=[-4, -4])), "a huge shape": headed(_one(shape=[2**40, 2**40])),
    "a shape of text": headed(_one(shape="x")), "a shape of floats": headed(_one(shape=[1.5])), "another shape": headed(_one(shape=[5, 5])), "offsets beyond": headed(_one(data_offsets=[0, 10**12])), "offsets backwards": headed(_one(data_offsets=[64, 0])),
    "negative offsets": headed(_one(data_offsets=[-64, 0])), "a hole": headed(_one(data_offsets=[8, 72]), bytes(72)), "one offset": headed(_one(data_offsets=[0])), "metadata of numbers": headed({"__metadata__": {"a": 1}, **_one()}),
    "metadata of a list": headed({"__metadata__": [], **_one()}), "a field besides": headed(_one(x=1)), "data besides": headed(_one(), bytes(100)), "a name of an escape": headed({"\x1b[2J": _one()["a"]}), "a name of 100,000 letters": headed({"x" * 100_000: _one()["a"]}),
    "10,000 tensors of nothing": headed({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(10_000)}, b""), "1,000 dimensions": headed(_one(shape=[1] * 1000)),
    "a name twice": headed(b'{"a": {"dtype":"F32","shape":[4],"data_offsets":[0,16]}, "a": {"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', bytes(16)),
}  # fmt: skip


class _Owned:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def _saved(value: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


def _pickled() -> Iterator[tuple[str, bytes]]:
    tensors = {"a": torch.zeros(3)}
    values: dict[str, Any] = {
        "another network": tensors, "a list": [torch.zeros(3)], "a tensor": torch.zeros(3), "a number": 3, "None": None, "text": "x", "an empty mapping": {}, "numbers": {"a": 1}, "numbers for names": {1: torch.zeros(3)},
        "a mapping in mappings": {"state_dict": {"state_dict": tensors}}, "None inside": {"state_dict": None}, "a name of an escape": {"\x1b[2J": torch.zeros(3)}, "a name of 100,000 letters": {"x" * 100_000: torch.zeros(3)}, "a set": {1, 2},
    }  # fmt: skip
    for name, value in values.items():
        yield name, _saved(value)
    yield "a module", _saved(torch.nn.Linear(2, 2))
    yield "a function", _saved(os.getcwd)
    yield "code", pickle.dumps(_Owned())
    yield "code as PyTorch saves it", _saved(_Owned())
    yield "the old format", _saved(tensors, _use_new_zipfile_serialization=False)
    for name, data in cuts(_saved(tensors), 10):
        yield name, data
    for name, data in cuts(_saved(tensors, _use_new_zipfile_serialization=False), 8):
        yield f"old: {name}", data
    whole = _saved(tensors)
    for at in (30, 60, 90, 120, 200):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        yield f"byte {at} flipped", bytes(changed)
    yield "a bomb", packed({"x/data.pkl": bytes(1 << 28)})
    yield "an archive of other things", packed({"x/data.pkl": b"no pickle", "x/version": b"3"})
    yield "half a pickle", packed({"x/data.pkl": pickle.dumps([1] * 1000)[:50], "x/version": b"3"})
    yield "memo of 2^31", b"\x80\x02" + b"r\xff\xff\xff\x7f."
    yield "text of 4 GB", b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"x"
    yield "50,000 lists", b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    yield "text file", b"no weights"
    yield "nothing", b""
    yield "safetensors", honest()


def _weights() -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    first = next(name for name, t in fitting().items() if t.is_floating_point() and t.ndim > 1)
    for what, change in {
        "no numbers": lambda t: t * float("nan"), "infinities": lambda t: t + float("inf"), "one row fewer": lambda t: t[1:], "flat": lambda t: t.flatten(), "complex numbers": lambda t: t.to(torch.complex64),
    }.items():  # fmt: skip
        yield what, {**fitting(), first: change(fitting()[first]).contiguous()}
    yield "one too few", {name: t for name, t in fitting().items() if name != first}
    yield "one too many", {**fitting(), "more": torch.zeros(3)}


def _sidecars() -> Iterator[tuple[str, bytes]]:
    from support.hostile.records import _texts

    whole = json.dumps({"training": {"model": "late"}, "training_hash": "x", "weights_sha256": "y", "history": [{"step": 1}], "best_step": 1, "validation": [], "command": "x"}).encode()  # fmt: skip
    yield from _texts(whole)
    yield "of other weights", whole


def cases() -> list[Case]:
    """None fits: all are refused with the file's name."""
    found: list[Case] = []

    def add(name: str, file: str, make: Callable[[Path], object]) -> None:
        command = tuple(part.format(file) for part in COMMAND)
        found.append(Case(name, command, make, says=(file,), never=("owned",)))

    for name, data in (*HEADERS.items(), *cuts(honest(), 16)):
        add(f"header {name}", "x.safetensors", writes("x.safetensors", data))
    for name, data in _pickled():
        for suffix in ("pt", "bin") if name in ("code", "a bomb") else ("pt",):
            add(f"{suffix}: {name}", f"x.{suffix}", writes(f"x.{suffix}", data))
    for name, tensors in _weights():
        add(f"weights: {name}", "x.safetensors", writes("x.safetensors", written(tensors)))
        add(f"pt weights: {name}", "x.pt", writes("x.pt", _saved(tensors)))
    for name, data in _sidecars():

        def both(folder: Path, data: bytes = data) -> None:
            (folder / "x.safetensors").write_bytes(written(fitting()))
            (folder / "x.json").write_bytes(data)

        command = tuple(part.format("x.safetensors") for part in COMMAND)
        found.append(Case(f"sidecar {name}", command, both, says=("x.json",)))
    for suffix in ("safetensors", "pt"):
        file = f"x.{suffix}"
        add(f"{suffix}: absent", file, lambda folder: None)
        add(f"{suffix}: a folder", file, lambda folder, n=file: (folder / n).mkdir())
        add(f"{suffix}: a pipe", file, lambda folder, n=file: os.mkfifo(folder / n))
        add(
            f"{suffix}: zeros without end",
            file,
            lambda folder, n=file: (folder / n).symlink_to("/dev/zero"),
        )
        add(f"{suffix}: a link to itself", file, lambda folder, n=file: (folder / n).symlink_to(n))
        add(f"{suffix}: a sparse file of 100 GB", file, lambda folder, n=file: (folder / n).touch() or os.truncate(folder / n, 100 << 30))  # fmt: skip
    assert zipfile
    return found
