"""Arrays on disk that are none: MedMNIST's files, and outcomes beside records."""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from support.hostile.archives import METHODS, packed
from support.hostile.case import Case, cuts

VERIFY = ("data", "verify", "breastmnist", "--data-root", ".", "--no-look", "--quiet")


class _Owned:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def npy(shape: Any, dtype: str = "|u1", data: bytes | None = None, header: str = "") -> bytes:
    """An array file that says so of itself; its data those of a small one."""
    said = header or f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}"
    text = said.encode("latin-1", "replace") + b"\n"
    body = np.zeros(2000, np.uint8).tobytes() if data is None else data
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


ARRAYS: dict[str, bytes] = {
    "too large for memory": npy((1 << 40,)),
    "too large for numbers": npy((1 << 62, 1 << 62)),
    "1,000 dimensions": npy((1,) * 1000),
    "negative": npy((-1, 28, 28)),
    "shape of text": npy("x"),
    "shape of floats": npy((1.5, 2.5)),
    "shape of None": npy((None,)),
    "shape of True": npy((True, True)),
    "no shape": npy((), header="{'descr': '|u1', 'fortran_order': False}"),
    "no header": npy((), header=" "),
    "header of text": npy((), header="'text'"),
    "header that calls": npy((), header="__import__('os').system('touch owned')"),
    "header of 2,000 brackets": npy((), header="[" * 2000 + "]" * 2000),
    "header of 60,000 letters": npy((), header="x" * 60_000),
    "objects": npy((3,), "|O", pickle.dumps([_Owned()])),
    "an unknown type": npy((3,), "zzz"),
    "a type of 4 GB": npy((3,), "V4294967295"),
    "text": npy((3,), "<U9", "abcdefghi".encode("utf-32-le") * 3),
    "dates": npy((3,), "<M8[s]"),
    "complex numbers": npy((3, 3, 3, 16), "<c16"),
    "version 9": b"\x93NUMPY\x09\x00" + npy((3,))[8:],
    "header of 64 KB that is not there": b"\x93NUMPY\x01\x00\xff\xff{",
    "no mark": b"NUMPY" + npy((3,)),
    "nothing": b"",
    "its mark alone": b"\x93NUMPY",
    "ends early": npy((100, 100, 100, 100)),
    "a structure": npy((3,), header="{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (3,)}"),
    "a shape of a 5,000 digits": npy((), header="{'descr': '|u1', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}"),
    "an escape in its type": npy((), header="{'descr': '\x1b[2J', 'fortran_order': False, 'shape': (3,)}"),
}  # fmt: skip


@functools.cache
def honest() -> dict[str, bytes]:
    """The members of a small MedMNIST file."""
    rng = np.random.default_rng(0)
    found = {}
    for split, n in (("train", 8), ("val", 4), ("test", 4)):
        for name, array in (
            (f"{split}_images", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
            (f"{split}_labels", (np.arange(n) % 2)[:, None].astype(np.uint8)),
        ):
            file = io.BytesIO()
            np.save(file, array)
            found[f"{name}.npy"] = file.getvalue()
    return found


def saved(array: np.ndarray) -> bytes:
    """As `np.save` writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    for split in ("train", "test"):
        for kind in ("images", "labels"):
            for name, array in ARRAYS.items():
                yield f"{split}_{kind}: {name}", packed({**honest(), f"{split}_{kind}.npy": array})
    for key in honest():
        yield f"without {key}", packed({k: v for k, v in honest().items() if k != key})
    for name, labels in {
        "of other classes": np.full((8, 1), 7), "negative": np.full((8, 1), -1), "of floats": np.zeros((8, 1)), "too few": np.zeros((3, 1), int), "none": np.zeros((0, 1), int),
        "two each": np.zeros((8, 2), int), "huge": np.full((8, 1), 2**62), "of bool": np.zeros((8, 1), bool), "of three dimensions": np.zeros((8, 1, 1), int) + 5,
    }.items():  # fmt: skip
        yield f"labels {name}", packed({**honest(), "train_labels.npy": saved(labels)})
    for name, images in {
        "of one dimension": np.zeros(8, np.uint8), "of two": np.zeros((8, 28), np.uint8), "of five": np.zeros((8, 2, 2, 3, 1), np.uint8), "of floats": np.zeros((8, 28, 28), np.float32),
        "none": np.zeros((0, 28, 28), np.uint8), "of no height": np.zeros((8, 0, 28), np.uint8), "of 2 channels": np.zeros((8, 28, 28, 2), np.uint8), "of 5 channels": np.zeros((8, 9, 9, 5), np.uint8),
        "in Fortran's order": np.asfortranarray(np.zeros((8, 28, 28), np.uint8)),
    }.items():  # fmt: skip
        yield f"images {name}", packed({**honest(), "train_images.npy": saved(images)})
    for method, number in METHODS.items():
        whole = packed(honest(), number)
        for name, data in cuts(whole, 6):
            yield f"{method}: {name}", data
        for i in range(5):
            changed = bytearray(whole)
            at = 70 + 41 * i
            changed[at] ^= 0xFF
            yield f"{method}: byte {at} flipped", bytes(changed)
    yield (
        "a bomb",
        packed({**honest(), "train_images.npy": npy((1 << 20, 28, 28), data=bytes(1 << 29))}),
    )
    yield (
        "a bomb of labels",
        packed({**honest(), "train_labels.npy": npy((1 << 29, 1), data=bytes(1 << 29))}),
    )
    yield "an array instead", npy((8, 28, 28))
    yield "a pickle", pickle.dumps(_Owned())
    yield "text", b"no arrays"
    yield "nothing", b""
    flag = bytearray(packed(honest(), zipfile.ZIP_STORED))
    flag[flag.find(b"PK\x01\x02") + 8] |= 1
    yield "encrypted", bytes(flag)


def cases() -> list[Case]:
    """None can be read: all are refused with the file's name."""

    def case(name: str, data: bytes) -> Case:
        return Case(
            name, VERIFY, lambda folder: (folder / "breastmnist.npz").write_bytes(data),
            says=("breastmnist.npz",),
        )  # fmt: skip

    return [case(name, data) for name, data in _files()]
