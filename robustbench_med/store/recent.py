"""Arrays of outcomes that were read: what tables, trust, curves and breakdowns ask for of the same
records one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from robustbench_med.formats.arrays import Arrays

LARGE, ALL = 1 << 16, 1 << 26
"""Bytes of an array that is not kept, and of all that are: then it begins anew."""
OF_AN_ENTRY = 256  # bytes that one takes beside its numbers


class Recent:
    """Small arrays by the digest of what they lie in, those that are not there too."""

    def __init__(self) -> None:
        self.known = dict[tuple[str, str], NDArray[Any] | None]()
        self.bytes = 0

    def of(self, digest: str, names: Sequence[str], load: Callable[[list[str]], Arrays]) -> Arrays:
        """The named arrays that are there; `load` reads those that are not known."""
        known = self.known
        missing = [name for name in names if (digest, name) not in known]
        found = {
            name: array
            for name in names
            if name not in missing and (array := known[digest, name]) is not None
        }
        if missing:
            found |= (read := load(missing))
            for name in missing:
                self._keep((digest, name), read.get(name))
        return found

    def _keep(self, key: tuple[str, str], array: NDArray[Any] | None) -> None:
        size = OF_AN_ENTRY + (0 if array is None else array.nbytes)
        if size > LARGE:
            return
        if array is not None:
            array.flags.writeable = False
        if self.bytes + size > ALL:
            self.known, self.bytes = {}, 0
        self.known[key] = array
        self.bytes += size
