"""Keras files that are none: HDF5, `.keras` and npz, with `import-keras`."""

from __future__ import annotations

import functools
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from support.hostile.archives import packed
from support.hostile.case import Case, cuts
from support.hostile.npz import ARRAYS, npy

IMPORT = ("import-keras", "{}", "--model", "mail", "--out", "made.safetensors")


def hdf5(fill: Callable[[Any], object], **options: Any) -> bytes:
    """An HDF5 file."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w", **options) as made:
        fill(made)
    return file.getvalue()


@functools.cache
def honest() -> bytes:
    """A file of Keras 3 with one layer: nothing is wrong but that it is no released model."""

    def fill(file: Any) -> None:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 16), np.float32)
        file["layers/dense/vars/0"] = np.zeros((16, 3), np.float32)

    return hdf5(fill)


def _large(shape: tuple[int, ...], **options: Any) -> Callable[[Any], object]:
    def fill(file: Any) -> None:
        file.create_dataset("layers/conv2d/vars/0", shape, "f4", **options)

    return fill


def _legacy(names: Any, weights: Any = (b"w",)) -> Callable[[Any], object]:
    def fill(file: Any) -> None:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = names
        layer = group.create_group("conv2d")
        layer.attrs["weight_names"] = weights
        layer["w"] = np.zeros(3)

    return fill


def _links(file: Any) -> None:
    import h5py

    file["layers/conv2d/vars/0"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft(file: Any) -> None:
    import h5py

    file["layers/conv2d/vars/0"] = h5py.SoftLink("/layers/conv2d/vars/0")


def _circle(file: Any) -> None:
    group = file.create_group("layers/conv2d/vars")
    group["again"] = file["layers"]


def _external(file: Any) -> None:
    file.create_dataset("layers/conv2d/vars/0", (10,), "u1", external=[("/etc/passwd", 0, 10)])


def _many(file: Any) -> None:
    for i in range(5000):
        file.create_group(f"layers/conv2d_{i}")


def _texts(file: Any) -> None:
    file["layers/conv2d/vars/0"] = "not a number"


def _objects(file: Any) -> None:
    import h5py

    file.create_dataset("layers/conv2d/vars/0", (3,), h5py.special_dtype(vlen=np.float32))


FILLS: dict[str, Callable[[Any], object]] = {
    "nothing": lambda file: None,
    "an array alone": lambda file: file.create_dataset("x", (3,)),
    "layers that are an array": lambda file: file.create_dataset("layers", (3,)),
    "no array in layers": lambda file: file.create_group("layers"),
    "8 TB": _large((1 << 41,), chunks=(1 << 16,)),
    "8 TB, packed": _large((1 << 41,), chunks=(1 << 16,), compression="gzip"),
    "3 GB": _large((3, 3, 1 << 13, 1 << 13), chunks=(3, 3, 64, 64), compression="gzip"),
    "an empty array": _large((0,)),
    "a scalar": _large(()),
    "a link to another file": _links,
    "a link to itself": _soft,
    "a circle": _circle,
    "data in another file": _external,
    "5,000 layers": _many,
    "text": _texts,
    "ragged arrays": _objects,
    "negative number": lambda file: file.create_dataset("layers/conv2d_-1/vars/0", (3, 3, 3, 16)),
    "a long number": lambda file: file.create_dataset(f"layers/conv2d_{'9' * 5000}/vars/0", (3, 3, 3, 16)),
    "an escape": lambda file: file.create_dataset("layers/\x1b[2J/vars/0", (3, 3, 3, 16)),
    "1,000 levels": lambda file: file.create_group("layers/" + "/".join("a" * 1000)),
    "complex numbers": lambda file: file.create_dataset("layers/conv2d/vars/0", (3, 3, 3, 16), "c8"),
    "no numbers": lambda file: file.create_dataset("layers/conv2d/vars/0", data=np.full((3, 3, 3, 16), np.nan)),
    "width 0": lambda file: file.create_dataset("layers/conv2d/vars/0", (3, 3, 3, 0)),
    "two dimensions": lambda file: file.create_dataset("layers/conv2d/vars/0", (3, 3)),
    "legacy names that are numbers": _legacy([1, 2]),
    "legacy names of layers that are none": _legacy([b"absent"]),
    "legacy names of no UTF-8": _legacy([b"\xff\xfe"]),
    "legacy weights that are none": _legacy([b"conv2d"], [b"absent"]),
    "legacy weights that are numbers": _legacy([b"conv2d"], [1]),
    "legacy names twice": _legacy([b"conv2d", b"conv2d"]),
    "no legacy name": _legacy(np.zeros(0, "S1")),
    "a legacy name that is a number": _legacy(3),
}  # fmt: skip


def _zipped() -> Iterator[tuple[str, bytes]]:
    whole = packed({"config.json": b"{}", "model.weights.h5": honest()})
    yield from cuts(whole, 8)
    yield "no weights inside", packed({"config.json": b"{}"})
    yield "weights that are none", packed({"model.weights.h5": b"nothing"})
    yield "weights of nothing", packed({"model.weights.h5": b""})
    yield "a bomb", packed({"model.weights.h5": bytes(1 << 30)})
    yield "a bomb of lzma", packed({"model.weights.h5": bytes(1 << 30)}, zipfile.ZIP_LZMA)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        changed = bytearray(packed({"model.weights.h5": honest()}, method))
        for at in (60, 90, 200, 300):
            changed[at] ^= 0xFF
            yield f"method {method}, byte {at} flipped", bytes(changed)
    for flag, at in ((1, 8), (0x63, 10)):
        changed = bytearray(packed({"model.weights.h5": honest()}))
        changed[changed.find(b"PK\x01\x02") + at] = flag
        yield f"flag {flag} at {at}", bytes(changed)
    yield "text", b"no archive"
    yield "nothing", b""


def _files() -> Iterator[tuple[str, str, bytes]]:
    for name, data in cuts(honest(), 24):
        yield f"h5: {name}", "input.h5", data
    for at in range(0, 96, 4):
        changed = bytearray(honest())
        changed[at] ^= 0xFF
        yield f"h5: byte {at} flipped", "input.h5", bytes(changed)
    for name, fill in FILLS.items():
        try:
            data = hdf5(fill)
        except Exception:
            continue  # h5py itself does not write it
        yield f"h5: {name}", "input.h5", data
    for name, data in _zipped():
        yield f"keras: {name}", "input.keras", data
    for name, array in ARRAYS.items():
        yield f"npz: {name}", "input.npz", packed({"conv2d:0.npy": array})
    for name, data in cuts(packed({"conv2d:0.npy": npy((3, 3, 3, 16))}), 8):
        yield f"npz: {name}", "input.npz", data
    for key in (
        "x",
        ":",
        "conv2d:x",
        "conv2d:-1",
        "a:b:c",
        "conv2d_" + "9" * 5000 + ":0",
        "\x1b[2J:0",
        "dense:0",
    ):
        yield f"npz: an array named {key[:20]!r}", "input.npz", packed({f"{key}.npy": npy((3, 3))})


def cases() -> list[Case]:
    """None is a released model: all are refused with the file's name."""
    found = []
    for name, file, data in _files():
        command = tuple(part.format(file) for part in IMPORT)
        found.append(
            Case(name, command, lambda f, n=file, d=data: (f / n).write_bytes(d), says=(file,))
        )
    for suffix in ("h5", "keras", "npz"):
        file = f"input.{suffix}"
        command = tuple(part.format(file) for part in IMPORT)
        for name, target in (("zeros without end", "/dev/zero"), ("a link of its own", file)):
            found.append(Case(f"{suffix}: {name}", command, lambda f, n=file, t=target: (f / n).symlink_to(t), says=(file,)))  # fmt: skip
        found.append(
            Case(f"{suffix}: a pipe", command, lambda f, n=file: os.mkfifo(f / n), says=(file,))
        )
        found.append(
            Case(f"{suffix}: a folder", command, lambda f, n=file: (f / n).mkdir(), says=(file,))
        )
        found.append(Case(f"{suffix}: absent", command, says=(file,)))
    return found
