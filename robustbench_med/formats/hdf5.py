"""The door of HDF5, in which Keras keeps weights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.formats.files import door
from robustbench_med.formats.limits import beyond, limit


@contextlib.contextmanager
def opened(data: bytes, what: str, path: object) -> Iterator[Any]:
    """The file in these bytes, so that it names no other file; faults of it, also inside, are an
    UnreadableError. ImportError: h5py is missing.
    """
    import h5py

    with door(what, path), h5py.File(io.BytesIO(data), "r") as file:
        yield file


def array_of(node: Any, name: str) -> NDArray[Any]:
    """A data set of numbers; ValueError."""
    if node.shape is None or node.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds no numbers")
    if node.external or node.is_virtual:
        raise ValueError(f"{name} lies in another file")
    if node.nbytes > limit("array_bytes"):
        raise ValueError(f"{name} holds {beyond('array_bytes', int(node.nbytes))}")
    stored = node.id.get_storage_size()
    if node.nbytes > max(limit("packed_ratio") * stored, 1 << 24):
        raise ValueError(
            f"{name} unpacks from {stored:,} to {node.nbytes:,} bytes, which is"
            f" {beyond('packed_ratio', 'more')}"
        )
    return np.asarray(node[()])
