"""The door of NumPy's files: `.npy`, and `.npz` archives of them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from robustbench_med.formats.archives import check_ratio, opened
from robustbench_med.formats.files import checked, door
from robustbench_med.formats.limits import beyond, limit

Arrays = dict[str, NDArray[Any]]


def load_npz(path: Path, what: str, names: Sequence[str] | None = None) -> Arrays:
    """The arrays of an archive by name, all or those of these names that are there;
    UnreadableError. Objects, which are code, are refused.
    """
    with opened(path, what) as archive:
        found = {}
        for about in archive.infolist():
            name = about.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"it holds {name} twice")
            if names is None or name in names:
                found[name] = array_of(archive, about)
        return found


def array_of(archive: zipfile.ZipFile, about: zipfile.ZipInfo) -> NDArray[Any]:
    """One array of an archive; ValueError, and what zipfile and NumPy raise."""
    check_ratio(about)
    with archive.open(about) as file:
        shape, dtype = header(file, about.filename)
        size = math.prod(shape) * dtype.itemsize
        if size > limit("array_bytes"):
            raise ValueError(f"{about.filename} holds {beyond('array_bytes', size)}")
        if size > about.file_size:
            raise ValueError(f"{about.filename} ends early")
        file.seek(0)
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError(f"{about.filename} holds more than its array")
    return array


def load_npy(path: Path, what: str, *, mapped: bool = False) -> NDArray[Any]:
    """The array of a file, read or mapped; UnreadableError."""
    with door(what, path):
        checked(path, "weights_bytes")
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return array


def header(
    file: IO[bytes], name: str, *, in_c_order: bool = False
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array that begins here; ValueError where it is none, or where the first
    number is to vary slowest and does not.
    """
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"{name} is of the unknown version {version}")
    shape, fortran, dtype = read(file)
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"{name} says that its shape is {shape}")
    if in_c_order and fortran and len(shape) > 1:
        raise ValueError(f"{name} is in Fortran's order")
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, which would run code")
    return shape, dtype
